// OpenClaw's `pairing` for the bot's own channel, which OpenClaw would otherwise have to be told.
//
//   node /opt/entrypoint/pairing.mjs list|approve ARGUMENT...

import { realpathSync } from "node:fs";

import { OPENCLAW } from "./refusal.mjs";

const [command, ...args] = process.argv.slice(2);
const channel = process.env.CHANNEL_TYPE;

if (channel) {
  // Replaces this process, so that a time-out ends OpenClaw itself.
  const openclaw = [realpathSync(OPENCLAW), "pairing", command, `--channel=${channel}`, ...args];
  process.execve(process.execPath, [process.execPath, ...openclaw], process.env);
}
process.stderr.write("the bot has no channel: CHANNEL_TYPE is empty\n");
process.exitCode = 1;
