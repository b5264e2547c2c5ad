// Whether the gateway is ready: its own /readyz, asked inside the container. For health checks and for the action "ready".
//
//   node /opt/entrypoint/ready.mjs [live]
//
// With "live": whether its process answers, its channels aside. Ends with 0 when it is. Prints what the gateway answers, or why
// it does not. Without fetch, whose loading takes longer than all the rest.

import { get } from "node:http";

import { gatewayPort } from "./config.mjs";

const REQUEST_MS = 5_000;
const LIVE = process.argv[2] === "live";

function end(exitCode, text) {
  process.stdout.write(`${text.trim()}\n`);
  process.exitCode = exitCode;
}

const address = { host: "127.0.0.1", port: gatewayPort(process.env), path: LIVE ? "/healthz" : "/readyz" };
const request = get({ ...address, timeout: REQUEST_MS }, (response) => {
  const chunks = [];
  response.on("data", (chunk) => chunks.push(chunk));
  response.on("end", () => end(response.statusCode === 200 ? 0 : 1, Buffer.concat(chunks).toString()));
});
request.on("timeout", () => request.destroy(new Error("it took too long")));
request.on("error", ({ code, message }) => end(1, `the gateway does not answer: ${code ?? message}`));
