// Has the running gateway read its secret files anew, and confirms that it uses its new token.
//
//   node /opt/entrypoint/secrets-reload.mjs < TOKEN-BEFORE
//
// `openclaw secrets reload` authenticates with the gateway's token, which the gateway knows only once it has read the file.
// Standard input is the token that the gateway has read last; empty: that of the file. Prints a JSON object with the names of
// the confirmed files. No value is ever in an argument or in what this program prints.

import { spawnSync } from "node:child_process";
import { readFileSync, realpathSync } from "node:fs";

import { gatewayPort } from "./config.mjs";
import { OPENCLAW, Refusal } from "./refusal.mjs";
import { check, path } from "./secret-files.mjs";

const HOST = `127.0.0.1:${gatewayPort(process.env)}`;
const TOKEN_FILE = "GATEWAY_TOKEN";
const RELOAD_MS = 25_000;
const REQUEST_MS = 10_000;

const now = token();
const before = readFileSync(0, "utf8").trim();

/** The token in its file. Ends the program with one line where that cannot be used. */
function token() {
  try {
    check(TOKEN_FILE);
  } catch (error) {
    if (!(error instanceof Refusal)) {
      throw error;
    }
    process.stderr.write(`${error.message}\n`);
    process.exit(error.exitCode);
  }
  return readFileSync(path(TOKEN_FILE), "utf8").trim();
}

/** Why the reload with this token failed; undefined: it succeeded. */
function failureOfReload(token) {
  const { status, stdout, stderr, error } = spawnSync(
    process.execPath,
    [realpathSync(OPENCLAW), "secrets", "reload", "--json"],
    {
      env: { ...process.env, OPENCLAW_GATEWAY_URL: `ws://${HOST}`, OPENCLAW_GATEWAY_TOKEN: token },
      encoding: "utf8",
      timeout: RELOAD_MS,
    },
  );
  if (error) {
    return `openclaw secrets reload: ${error.code ?? error.message}`;
  }
  const answer = parsed(stdout);
  if (status !== 0 || answer?.ok !== true) {
    return (stderr.trim() || stdout.trim() || `openclaw secrets reload ended with ${status}`).split("\n").pop();
  }
  if (answer.warningCount > 0) {
    return `${answer.warningCount} secrets cannot be resolved; see the gateway's log`;
  }
  return undefined;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The status of a request that the gateway serves for its token only. */
async function statusWith(token) {
  const response = await fetch(`http://${HOST}/tools/invoke`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
    body: JSON.stringify({ tool: "session_status", args: {} }),
    signal: AbortSignal.timeout(REQUEST_MS),
  });
  await response.arrayBuffer();
  return response.status;
}

/** Why the gateway does not use the token of the file; undefined: it does, and no longer the one before. */
async function failureOfToken() {
  if ((await statusWith(now)) !== 200) {
    return `the gateway does not accept the token in ${path(TOKEN_FILE)}`;
  }
  if (before && before !== now && (await statusWith(before)) !== 401) {
    return "the gateway still accepts the token before";
  }
  return undefined;
}

async function main() {
  let failure = failureOfReload(before || now);
  if (failure && before && before !== now) {
    // It may have restarted meanwhile, and then knows the token of the file.
    failure = failureOfReload(now) && failure;
  }
  failure ||= await failureOfToken();
  if (failure) {
    const secrets = [before, now].filter(Boolean);
    process.stderr.write(`${secrets.reduce((text, secret) => text.replaceAll(secret, "***"), failure)}\n`);
    process.exitCode = 1;
    return;
  }
  process.stdout.write(`${JSON.stringify({ confirmed: [TOKEN_FILE] })}\n`);
}

await main();
