/** Reads a bot's log across restarts of the bot and of the service. */

import * as grpc from "@grpc/grpc-js";

import type { Connection } from "./connection.js";
import { ContainerManagerError } from "./errors.js";
import type { LogEntry__Output } from "./generated/botmaker/container/v1/LogEntry.js";
import type { StreamLogsResponse__Output } from "./generated/botmaker/container/v1/StreamLogsResponse.js";
import { observer } from "./protocol.js";
import { resumed } from "./resuming.js";

const MAX_BATCH_ENTRIES = 1000;

export interface LogSelection {
  botId: string;
  /** Continue with new entries until the container is removed. */
  follow?: boolean;
  /** Begin with this many existing entries, at least 1. */
  tailLines?: number;
  /** Begin after the entry with this cursor, which an earlier reader kept. */
  afterCursor?: string;
  signal?: AbortSignal;
}

/**
 * Reads entries, oldest first; none is lost or repeated. Keep an entry's `cursor` to continue in another process.
 *
 * It first reads the existing entries, then follows. One stream for both could lose entries: if it broke before its
 * first entry, a tail would begin later.
 */
export async function* readLog(connection: Connection, selection: LogSelection): AsyncGenerator<LogEntry__Output> {
  const { botId, tailLines, signal } = selection;
  let cursor = selection.afterCursor ?? "";
  const open = (follow: boolean) => () => {
    const tail = tailLines !== undefined && cursor === "" && !follow ? { tailLines } : {};
    const request = { botId, follow, afterCursor: cursor, maxBatchEntries: MAX_BATCH_ENTRIES, ...tail };
    return connection.open(observer.StreamLogs, request);
  };
  for await (const message of resumed(open(false), signal)) {
    for (const entry of entries(message)) {
      cursor = entry.cursor;
      yield entry;
    }
  }
  if (!selection.follow) {
    return;
  }
  try {
    for await (const message of resumed(open(true), signal)) {
      for (const entry of entries(message)) {
        cursor = entry.cursor;
        yield entry;
      }
    }
  } catch (error) {
    // The container existed before, so it was removed while the service was away: the log has ended.
    if (!(error instanceof ContainerManagerError && error.code === grpc.status.NOT_FOUND)) {
      throw error;
    }
  }
}

/** A service that does not know batches sends one entry at a time, in `entry`. */
function entries(message: StreamLogsResponse__Output): LogEntry__Output[] {
  return message.entry ? [message.entry] : message.entries;
}
