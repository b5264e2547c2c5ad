// A health check: whether the gateway in this container is ready.
//
//   node /opt/entrypoint/health.mjs [ready|live]
//
// `ready`, the default: it takes messages, and each of its channels works. `live`: its process answers. Prints the gateway's own
// answer. Exit code 0: yes; 1: no, or no answer within five seconds; 2: wrong arguments.

import { get } from "node:http";

import { gatewayPort } from "./config.mjs";

const PATHS = { ready: "/readyz", live: "/healthz" };
const MILLISECONDS = 5000;
/** Docker keeps 4 KiB of a check's output. */
const MOST_CHARACTERS = 2000;

function end(exitCode, text) {
  process.stdout.write(`${text.trim().slice(0, MOST_CHARACTERS)}\n`, () => process.exit(exitCode));
}

const [what = "ready", ...others] = process.argv.slice(2);
if (!Object.hasOwn(PATHS, what) || others.length > 0) {
  end(2, "usage: health.mjs [ready|live]");
} else {
  const address = { host: "127.0.0.1", port: gatewayPort(process.env), path: PATHS[what] };
  setTimeout(() => end(1, "no answer in time"), MILLISECONDS);
  get(address, (response) => {
    let body = "";
    response.setEncoding("utf8").on("data", (chunk) => (body += chunk));
    response.on("end", () => end(response.statusCode === 200 ? 0 : 1, `${response.statusCode} ${body}`));
    response.on("error", (error) => end(1, error.message));
  }).on("error", (error) => end(1, `the gateway does not answer: ${error.code ?? error.message}`));
}
