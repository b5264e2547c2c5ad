/**
 * A watch and a log across restarts of the service and of the bot: `follow.js TARGET BOT_ID OTHER_BOT_ID`. Both bots run; the
 * first writes lines for ever.
 */

import assert from "node:assert/strict";

import { Connection, manager, readLog, watchContainers } from "../../src/index.js";
import { ask, run } from "./dialogue.js";

run(async (target = "", botId = "", other = "") => {
  const connection = new Connection(target);
  const told: string[] = [];
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  const progress = () => waiting.forEach((check) => check());
  const until = (condition: () => boolean) =>
    new Promise<void>((resolve) => {
      const check = () => condition() && resolve();
      waiting.add(check);
      check();
    });

  const watched = (async () => {
    for await (const event of watchContainers(connection, { botIds: [botId, other] })) {
      const bot = "status" in event ? event.status.botId : "botId" in event ? event.botId : "";
      told.push([event.kind, ...(bot ? [bot === botId ? "first" : "other"] : []), ..."status" in event ? [event.status.state] : []].join(" "));
      progress();
      if (event.kind === "removed" && event.botId === botId) {
        break;
      }
    }
  })();
  const read = (async () => {
    for await (const entry of readLog(connection, { botId, follow: true })) {
      lines.push(entry.line.toString());
      progress();
    }
  })();

  await until(() => told.includes("synced") && lines.length >= 20);
  const before = lines.length;
  // While the service is away, the other bot's container is removed, and the bot goes on writing.
  await ask("restart-service", other);
  await until(() => told.includes("resynced") && lines.length >= before + 20);
  assert.deepEqual(told.slice(-2), ["removed other", "resynced"]);
  await connection.call(manager.RestartContainer, { botId, gracePeriod: { seconds: 0 } });
  const restarted = lines.length;
  await until(() => lines.length >= restarted + 20);
  await connection.call(manager.StopContainer, { botId, gracePeriod: { seconds: 0 } });
  const written: string[] = JSON.parse(await ask("log", botId));
  await until(() => lines.length >= written.length);
  await connection.call(manager.RemoveContainer, { botId });
  await Promise.all([watched, read]);
  assert.deepEqual(lines, written);
  assert.ok(told.includes("changed first CONTAINER_STATE_EXITED"), String(told));
  connection.close();
});
