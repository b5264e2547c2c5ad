/**
 * What BotMaker's API tier does, by a user whose only right is the socket's group:
 * `botmaker.js TARGET UID GID SECRETS_ROOT DOCKER_SOCKET TENANT CONFIG`.
 */

import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { accessSync, constants, readdirSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";

import { Connection, ContainerManagerError, manager, observer, provisioner } from "../../src/index.js";
import { ask, run } from "./dialogue.js";

interface NewBot {
  hostname: string;
  provider: string;
  model: string;
  channel: string;
  secrets: Record<string, string>;
  files: Record<string, string>;
}

/** Bots by hostname, as BotMaker's database has them, and their containers. */
class ApiTier {
  readonly database = new Map<string, string>();
  readonly #connection: Connection;
  readonly #labels: Record<string, string>;
  readonly #program: object;

  /** `program` has the fields of a configuration that say what a bot runs. */
  constructor(connection: Connection, tenant: string, program: object) {
    this.#connection = connection;
    this.#labels = { tenant };
    this.#program = program;
  }

  async create(bot: NewBot): Promise<string> {
    const botId = randomUUID();
    try {
      const secrets = { GATEWAY_TOKEN: Buffer.from(randomBytes(32).toString("hex")), ...bytes(bot.secrets) };
      await this.#connection.call(provisioner.PutSecrets, { botId, secrets });
      await this.#connection.call(provisioner.PutFiles, { botId, files: bytes(bot.files) });
      const config = {
        ...this.#program,
        hostname: bot.hostname,
        labels: this.#labels,
        aiProvider: bot.provider,
        aiModel: bot.model,
        channelType: bot.channel,
        ports: [{ containerPort: 18789 }],
        extraHosts: { "host.docker.internal": "host-gateway" },
        healthCheck: { command: ["true"], interval: { seconds: 1 } },
      };
      await this.#connection.call(manager.CreateContainer, { botId, config });
      this.database.set(bot.hostname, botId);
      await this.start(bot.hostname);
    } catch (error) {
      await this.#deleteBot(botId);
      this.database.delete(bot.hostname);
      throw error;
    }
    return botId;
  }

  async start(hostname: string): Promise<void> {
    await this.#connection.call(manager.StartContainer, { botId: this.#botId(hostname) });
  }

  async stop(hostname: string): Promise<void> {
    await this.#connection.call(manager.StopContainer, { botId: this.#botId(hostname), gracePeriod: { seconds: 1 } });
  }

  /** Writes the new key and has the bot read it; returns how. */
  async rotate(hostname: string, secrets: Record<string, string>): Promise<{ outcome: string; confirmed: string[] }> {
    const botId = this.#botId(hostname);
    await this.#connection.call(provisioner.PutSecrets, { botId, secrets: bytes(secrets) });
    return this.#connection.call(provisioner.ReloadSecrets, { botId, mode: "MODE_RELOAD_OR_RESTART" });
  }

  async delete(hostname: string): Promise<void> {
    await this.#deleteBot(this.#botId(hostname));
    this.database.delete(hostname);
  }

  /** Every bot of the database with its status, in one call. */
  async list() {
    const { containers } = await this.#connection.call(manager.ListManagedContainers, { labels: this.#labels });
    const byId = new Map(containers.map((status) => [status.botId, status]));
    return [...this.database].map(([hostname, botId]) => ({ hostname, status: byId.get(botId) }));
  }

  async stats() {
    const names = new Map([...this.database].map(([hostname, botId]) => [botId, hostname]));
    const { containers } = await this.#connection.call(observer.GetStats, { botIds: [...names.keys()] });
    return containers.map((sample) => ({ hostname: names.get(sample.botId), ...sample }));
  }

  /** The containers of this tenant that the database does not know. Those of others never appear. */
  async orphans() {
    const known = new Set(this.database.values());
    const { containers } = await this.#connection.call(manager.ListManagedContainers, { labels: this.#labels });
    return containers.filter((status) => !known.has(status.botId));
  }

  async cleanUp(): Promise<string[]> {
    const orphans = await this.orphans();
    for (const { botId } of orphans) {
      await this.#deleteBot(botId);
    }
    return orphans.map(({ hostname }) => hostname);
  }

  async #deleteBot(botId: string): Promise<void> {
    await this.#connection.call(manager.RemoveContainer, { botId, gracePeriod: { seconds: 1 } });
    await this.#connection.call(provisioner.DeleteSecrets, { botId });
    await this.#connection.call(provisioner.DeleteState, { botId });
  }

  #botId(hostname: string): string {
    const botId = this.database.get(hostname);
    if (botId === undefined) {
      throw new Error(`no bot ${hostname}`);
    }
    return botId;
  }
}

run(async (target = "", uid, gid, secretsRoot = "", dockerSocket = "", tenant = "", program = "") => {
  // Everything has been imported: the user may not be able to read it.
  process.setgroups?.([]);
  process.setgid?.(Number(gid));
  process.setuid?.(Number(uid));
  assert.throws(() => accessSync(secretsRoot, constants.W_OK), { code: "EACCES" });
  assert.equal(await refusal(dockerSocket), "EACCES");

  const connection = new Connection(target);
  const tier = new ApiTier(connection, tenant, JSON.parse(program));
  const botId = await tier.create({
    hostname: "ada",
    provider: "openai",
    model: "gpt-5",
    channel: "telegram",
    secrets: { OPENAI_API_KEY: "key-1", TELEGRAM_TOKEN: "token" },
    files: { "workspace/SOUL.md": "# Ada" },
  });
  assert.throws(() => readdirSync(join(secretsRoot, botId)), { code: "EACCES" });
  assert.equal(await ask("in-bot", botId, "cat /run/secrets/OPENAI_API_KEY"), "key-1");
  assert.equal(await ask("in-bot", botId, "cat /home/node/.openclaw/workspace/SOUL.md"), "# Ada");

  const bob = { hostname: "bob", provider: "ollama", model: "llama3.3", channel: "", secrets: {}, files: {} };
  await tier.create(bob);
  const broken = tier.create({ ...bob, hostname: "carol", files: { "../SOUL.md": "" } });
  await assert.rejects(broken, (error) => error instanceof ContainerManagerError && error.reason === "INVALID_CONFIG");
  for (const { hostname, status } of await tier.list()) {
    assert.deepEqual([status?.hostname, status?.state], [hostname, "CONTAINER_STATE_RUNNING"]);
    assert.match(status?.health ?? "", /^HEALTH_STATUS_(STARTING|HEALTHY)$/);
    assert.ok(status?.ports[0]?.hostPort);
  }

  // A container that a busy engine does not sample in time is left out.
  let stats = await tier.stats();
  while (stats.length < 2) stats = await tier.stats();
  assert.deepEqual(stats.map(({ hostname }) => hostname).sort(), ["ada", "bob"]);
  assert.ok(stats.every((sample) => Number(sample.memoryUsageBytes) > 0));

  const { outcome, confirmed } = await tier.rotate("ada", { OPENAI_API_KEY: "key-2" });
  assert.deepEqual([outcome, confirmed], ["OUTCOME_RELOADED", ["GATEWAY_TOKEN"]]);
  assert.equal(await ask("in-bot", botId, "cat /run/secrets/OPENAI_API_KEY"), "key-2");

  await tier.stop("ada");
  const [ada] = await tier.list();
  assert.equal(ada?.status?.state, "CONTAINER_STATE_EXITED");
  await tier.delete("ada");
  assert.deepEqual((await tier.list()).map(({ hostname }) => hostname), ["bob"]);

  // The database loses a bot, and the service knows it still after a restart.
  tier.database.delete("bob");
  await ask("restart-service");
  assert.deepEqual((await tier.orphans()).map(({ hostname }) => hostname), ["bob"]);
  assert.deepEqual(await tier.cleanUp(), ["bob"]);
  assert.deepEqual(await tier.orphans(), []);
  connection.close();
});

function bytes(texts: Record<string, string>): Record<string, Buffer> {
  return Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, Buffer.from(text)]));
}

/** Why a socket cannot be opened. */
function refusal(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code));
    socket.on("connect", () => resolve(undefined));
  });
}
