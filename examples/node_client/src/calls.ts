/** What a call gets that its caller did not set: a deadline, retries, and a request id. */

import { randomUUID } from "node:crypto";

import type { CreateContainerRequest } from "./generated/botmaker/container/v1/CreateContainerRequest.js";
import type { StopContainerRequest } from "./generated/botmaker/container/v1/StopContainerRequest.js";
import { maintainer, manager, observer, provisioner } from "./protocol.js";

// In seconds. A create may pull an image, a start may wait for those of other bots, and a reload may restart the bot.
const TIMEOUTS: Readonly<Record<string, number>> = {
  CreateContainer: 600,
  StartContainer: 600,
  PutSecrets: 60,
  DeleteSecrets: 60,
  PutFiles: 60,
  DeleteState: 60,
  ReloadSecrets: 240,
};
const READ_TIMEOUT = 20;
// Added to the grace period of the call.
const AFTER_GRACE: Readonly<Record<string, number>> = { StopContainer: 60, RemoveContainer: 60, RestartContainer: 600 };
const UNKNOWN_GRACE = 90;
const LONGEST_GRACE = 86_400;

// Reads, and what may be repeated. A start happens at most once, so StartContainer and RestartContainer are missing. A
// create always has a request id.
const RETRIED = [
  manager.GetContainerStatus,
  manager.ListManagedContainers,
  manager.StopContainer,
  manager.RemoveContainer,
  manager.CreateContainer,
  observer.GetStats,
  observer.GetContainerConfig,
  observer.GetServerInfo,
  maintainer.ListBackups,
  provisioner.ListSecrets,
];

/** gRPC's service config. The waits last at least 3 s together, as long as a restart of the service. */
export const SERVICE_CONFIG = JSON.stringify({
  methodConfig: [
    {
      name: RETRIED.map(({ path }) => ({ service: service(path), method: name(path) })),
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: "0.3s",
        maxBackoff: "2s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
});

/** The default time-out of a call in milliseconds. It always exceeds the grace period of a stop. */
export function defaultTimeout(path: string, request: unknown): number {
  const method = name(path);
  const afterGrace = AFTER_GRACE[method];
  if (afterGrace === undefined) {
    return (TIMEOUTS[method] ?? READ_TIMEOUT) * 1000;
  }
  const grace = (request as StopContainerRequest).gracePeriod;
  const seconds = grace ? Number(grace.seconds ?? 0) + (grace.nanos ?? 0) / 1e9 : UNKNOWN_GRACE;
  return (Math.min(Math.max(seconds, 0), LONGEST_GRACE) + afterGrace) * 1000;
}

/** Gives a create without a request id one, so that its retry finds the container of the first attempt. */
export function withRequestId<Request>(path: string, request: Request): Request {
  const needsOne = path === manager.CreateContainer.path && !(request as CreateContainerRequest).requestId;
  return needsOne ? { ...request, requestId: randomUUID() } : request;
}

function service(path: string): string {
  return path.split("/")[1] ?? "";
}

function name(path: string): string {
  return path.split("/")[2] ?? "";
}
