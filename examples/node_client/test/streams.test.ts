/** Watches and logs that resume. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as grpc from "@grpc/grpc-js";

import { readLog, watchContainers } from "../src/index.js";
import { AWAY, failure, withService } from "./scripted.js";

const botId = "0b1f3f2e-8a54-4d0b-9f0e-3f6f0a7f2c11";
const idle = () => ({});

type Stream = grpc.ServerWritableStream<any, any>;

/** Answers one stream after another. */
function script(...streams: ((call: Stream) => void)[]) {
  return (call: Stream): void => streams.shift()?.(call);
}

function send(call: Stream, ...messages: object[]): void {
  for (const message of messages) {
    call.write(message);
  }
}

async function all<T>(events: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const event of events) {
    found.push(event);
  }
  return found;
}

function status(container: string, state: string) {
  return { containerId: container, botId: `bot of ${container}`, state };
}

function entry(number: number) {
  return { line: Buffer.from(`line ${number}`), cursor: `c${number}` };
}

describe("streams", { concurrency: true }, () => {
  test("a reopened watch tells what is different and what is missing", async () => {
    const same = status("1", "CONTAINER_STATE_RUNNING");
    const changed = status("2", "CONTAINER_STATE_RUNNING");
    const gone = status("3", "CONTAINER_STATE_RUNNING");
    const made = status("4", "CONTAINER_STATE_CREATED");
    const stopped = { ...changed, state: "CONTAINER_STATE_EXITED" };
    let first: Stream | undefined;
    const streams = script(
      (call) => {
        first = call;
        send(call, { snapshot: same }, { snapshot: changed }, { snapshot: gone }, { synced: {} });
      },
      (call) => {
        send(call, { snapshot: same });
        call.emit("error", AWAY);
      },
      (call) => {
        send(call, { snapshot: same }, { snapshot: stopped }, { snapshot: made }, { synced: {} }, { removed: made });
        call.end();
      },
    );
    await withService(idle, streams, async (connection) => {
      const told: string[][] = [];
      for await (const event of watchContainers(connection)) {
        if (event.kind === "synced") {
          first?.emit("error", AWAY);
        }
        const { containerId, state } = "status" in event ? event.status : { containerId: "", state: "", ...event };
        told.push([event.kind, containerId, state].filter((each) => each !== ""));
      }
      assert.deepEqual(told, [
        ["snapshot", "1", "CONTAINER_STATE_RUNNING"],
        ["snapshot", "2", "CONTAINER_STATE_RUNNING"],
        ["snapshot", "3", "CONTAINER_STATE_RUNNING"],
        ["synced"],
        ["changed", "2", "CONTAINER_STATE_EXITED"],
        ["changed", "4", "CONTAINER_STATE_CREATED"],
        ["removed", "3"],
        ["resynced"],
        ["removed", "4"],
      ]);
    });
  });

  for (const batches of [true, false]) {
    test(`no line of a log is lost or repeated when streams break${batches ? ", with batches" : ""}`, async () => {
      const written = Array.from({ length: 12 }, (_, index) => entry(index));
      const answer = (call: Stream): void => {
        const { afterCursor, follow } = call.request;
        const position = written.findIndex((each) => each.cursor === afterCursor) + 1;
        // The existing entries are the first eight.
        const next = written.slice(position, Math.min(position + 3, follow ? written.length : 8));
        if (next.length === 0) {
          call.end();
        } else {
          const messages = batches ? [{ entries: next }] : next.map((each) => ({ entry: each }));
          send(call, ...messages);
          call.emit("error", AWAY);
        }
      };
      await withService(idle, answer, async (connection, service) => {
        const read = await all(readLog(connection, { botId, follow: true, tailLines: 100 }));
        assert.deepEqual(read.map((each) => String(each.line)), written.map((each) => String(each.line)));
        const asked = service.seen("StreamLogs");
        assert.ok(asked.every((request) => request.maxBatchEntries === 1000));
        assert.ok(asked.every((request) => (request.afterCursor === "") === ("tailLines" in request)));
      });
    });
  }

  test("a log whose container was removed meanwhile has ended, and one that never was is an error", async () => {
    const missing = failure(grpc.status.NOT_FOUND, "no container", "CONTAINER_NOT_FOUND", { bot_id: botId });
    const fail = (call: Stream): void => void call.emit("error", missing);
    const streams = script(
      (call) => {
        send(call, { entries: [entry(1)] });
        call.end();
      },
      fail,
      fail,
    );
    await withService(idle, streams, async (connection) => {
      assert.equal((await all(readLog(connection, { botId, follow: true }))).length, 1);
      await assert.rejects(all(readLog(connection, { botId, follow: true })), { reason: "CONTAINER_NOT_FOUND" });
    });
  });

  test("an aborted watch and a reader that leaves end their streams", async () => {
    let open = 0;
    const hang = (call: Stream): void => {
      open += 1;
      call.on("cancelled", () => (open -= 1));
      call.write({ synced: {} });
    };
    await withService(idle, hang, async (connection) => {
      const controller = new AbortController();
      for await (const event of watchContainers(connection, {}, controller.signal)) {
        assert.equal(event.kind, "synced");
        controller.abort();
      }
      for await (const event of watchContainers(connection)) {
        assert.equal(event.kind, "synced");
        break;
      }
      while (open > 0) {
        await new Promise((resolve) => setImmediate(resolve));
      }
    });
  });
});
