/** A bot's life: `lifecycle.js TARGET BOT_ID [TOKEN_FILE [CA CERT KEY]]`. The bot has its secrets. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import * as grpc from "@grpc/grpc-js";

import { Connection, type ConnectOptions, ContainerManagerError, manager, observer } from "../../src/index.js";
import { run } from "./dialogue.js";

run(async (target = "", botId = "", tokenFile, ca, cert, key) => {
  const options: ConnectOptions = {};
  if (tokenFile) {
    options.token = readFileSync(tokenFile, "ascii").trim();
    const stranger = new Connection(target, { ...(ca && cert && key ? tlsOf(ca, cert, key) : {}), token: "wrong" });
    await rejects(stranger.call(manager.GetContainerStatus, { botId }), grpc.status.UNAUTHENTICATED, "UNAUTHENTICATED");
    stranger.close();
  }
  const connection = new Connection(target, { ...options, ...(ca && cert && key ? tlsOf(ca, cert, key) : {}) });
  const state = async () => (await connection.call(manager.GetContainerStatus, { botId })).status?.state;

  const info = await connection.call(observer.GetServerInfo, {});
  assert.ok(info.services.includes("botmaker.container.v1.ContainerManager"));
  assert.equal(await state(), undefined);
  await rejects(connection.call(manager.StartContainer, { botId }), grpc.status.NOT_FOUND, "CONTAINER_NOT_FOUND");
  const config = { command: ["sleep", "100000"], environment: { GREETING: "hello" }, labels: { tenant: "node" } };
  const requestId = `request-${botId}`;
  const { containerId } = await connection.call(manager.CreateContainer, { botId, config, requestId });
  assert.match(containerId, /^[0-9a-f]{64}$/);
  assert.equal((await connection.call(manager.CreateContainer, { botId, config, requestId })).containerId, containerId);
  const again = await rejects(
    connection.call(manager.CreateContainer, { botId, config }),
    grpc.status.ALREADY_EXISTS,
    "CONTAINER_ALREADY_EXISTS",
  );
  assert.equal(again.metadata["container_id"], containerId);
  const invalid = await rejects(
    connection.call(manager.CreateContainer, { botId, config: { environment: { "1BAD": "" } } }),
    grpc.status.INVALID_ARGUMENT,
    "INVALID_CONFIG",
  );
  assert.match(invalid.fieldViolations[0]?.field ?? "", /environment/);
  assert.equal(await state(), "CONTAINER_STATE_CREATED");
  await connection.call(manager.StartContainer, { botId });
  assert.equal(await state(), "CONTAINER_STATE_RUNNING");
  await connection.call(manager.RestartContainer, { botId, gracePeriod: { seconds: 0 } });
  const { containers } = await connection.call(manager.ListManagedContainers, { botIds: [botId], labels: { tenant: "node" } });
  assert.deepEqual(
    containers.map((each) => [each.botId, each.containerId, each.state, { ...each.labels }]),
    [[botId, containerId, "CONTAINER_STATE_RUNNING", { tenant: "node" }]],
  );
  await connection.call(manager.StopContainer, { botId, gracePeriod: { seconds: 0 } });
  const { status } = await connection.call(manager.GetContainerStatus, { botId });
  assert.deepEqual([status?.state, status?.exitReason], ["CONTAINER_STATE_EXITED", "EXIT_REASON_KILLED"]);
  await connection.call(manager.RemoveContainer, { botId });
  await connection.call(manager.RemoveContainer, { botId });
  assert.equal(await state(), undefined);
  await rejects(
    connection.call(manager.GetContainerStatus, { botId }, { timeout: 0 }),
    grpc.status.DEADLINE_EXCEEDED,
    "",
  );
  connection.close();
});

function tlsOf(ca: string, cert: string, key: string): ConnectOptions {
  return { tls: { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) } };
}

async function rejects(call: Promise<unknown>, code: grpc.status, reason: string): Promise<ContainerManagerError> {
  const error = await call.then(() => undefined, (caught: unknown) => caught);
  assert.ok(error instanceof ContainerManagerError, String(error));
  assert.deepEqual([error.code, error.reason], [code, reason], error.message);
  return error;
}
