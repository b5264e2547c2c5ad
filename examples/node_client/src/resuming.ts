/** Resumes streams after the service was unavailable. */

import { setTimeout as sleep } from "node:timers/promises";

import * as grpc from "@grpc/grpc-js";

import { ContainerManagerError, decodeError } from "./errors.js";

// CANCELLED: the service shuts down. DEADLINE_EXCEEDED: the engine stops answering.
const AWAY = [grpc.status.UNAVAILABLE, grpc.status.DEADLINE_EXCEEDED, grpc.status.CANCELLED];
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 2_000;

/**
 * Yields the messages of a stream, and reopens it whenever it breaks, until it ends by itself or `signal` is aborted.
 *
 * `open` opens a stream that continues where the last one broke. While the service is unavailable, this waits for it. It
 * throws every other error as a `ContainerManagerError`.
 */
export async function* resumed<T>(open: () => grpc.ClientReadableStream<T>, signal?: AbortSignal): AsyncGenerator<T> {
  let pause = FIRST_PAUSE_MS;
  while (!signal?.aborted) {
    const stream = open();
    const cancel = (): void => stream.cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    // A cancelled stream emits an error, also when nobody reads it any more.
    stream.on("error", () => {});
    try {
      for await (const message of stream) {
        pause = FIRST_PAUSE_MS;
        yield message as T;
      }
      return;
    } catch (caught) {
      const error = decodeError(caught);
      if (!(error instanceof ContainerManagerError) || !AWAY.includes(error.code)) {
        throw error;
      }
    } finally {
      signal?.removeEventListener("abort", cancel);
      stream.cancel();
    }
    await sleep(pause, undefined, signal ? { signal } : {}).catch(() => {});
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}
