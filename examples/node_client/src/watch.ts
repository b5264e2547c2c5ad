/** Watches containers across restarts of the service. */

import { isDeepStrictEqual } from "node:util";

import type { Connection } from "./connection.js";
import type { ContainerStatus__Output } from "./generated/botmaker/container/v1/ContainerStatus.js";
import type { Removed__Output } from "./generated/botmaker/container/v1/Removed.js";
import type { WatchContainersRequest } from "./generated/botmaker/container/v1/WatchContainersRequest.js";
import type { WatchContainersResponse__Output } from "./generated/botmaker/container/v1/WatchContainersResponse.js";
import { observer } from "./protocol.js";
import { resumed } from "./resuming.js";

export type WatchEvent =
  /** A container at the start of the watch. */
  | { kind: "snapshot"; status: ContainerStatus__Output }
  /** All snapshots have been seen. */
  | { kind: "synced" }
  /** A container is new, or has changed. */
  | { kind: "changed"; status: ContainerStatus__Output }
  | { kind: "removed"; botId: string; containerId: string }
  /** The service or the engine was unavailable. After a restart of the service, all that has changed came before this. */
  | { kind: "resynced" };

/**
 * Watches until `signal` is aborted. Each reopened stream begins with all statuses again; of these, only those that
 * differ are events, and so are the containers that are missing.
 */
export async function* watchContainers(
  connection: Connection,
  request: WatchContainersRequest = {},
  signal?: AbortSignal,
): AsyncGenerator<WatchEvent> {
  const state = new WatchState();
  const open = () => {
    state.reopened();
    return connection.open(observer.WatchContainers, request);
  };
  for await (const message of resumed(open, signal)) {
    yield* state.apply(message);
  }
}

class WatchState {
  /** The last status of every container, by container id. */
  readonly #containers = new Map<string, ContainerStatus__Output>();
  /** The containers in the snapshots of a stream that is not synced yet. */
  #snapshots = new Set<string>();
  #synced = false;

  reopened(): void {
    this.#snapshots = new Set();
  }

  *apply(message: WatchContainersResponse__Output): Generator<WatchEvent> {
    if (message.snapshot) {
      yield* this.#snapshot(message.snapshot);
    } else if (message.synced) {
      yield* this.#allSnapshotsSeen();
    } else if (message.changed) {
      this.#containers.set(message.changed.containerId, message.changed);
      yield { kind: "changed", status: message.changed };
    } else if (message.removed) {
      yield this.#removed(message.removed);
    } else if (message.resynced) {
      yield { kind: "resynced" };
    }
  }

  *#snapshot(status: ContainerStatus__Output): Generator<WatchEvent> {
    const before = this.#containers.get(status.containerId);
    this.#snapshots.add(status.containerId);
    this.#containers.set(status.containerId, status);
    if (!this.#synced) {
      yield { kind: "snapshot", status };
    } else if (!isDeepStrictEqual(before, status)) {
      yield { kind: "changed", status };
    }
  }

  *#allSnapshotsSeen(): Generator<WatchEvent> {
    const gone = [...this.#containers.values()].filter((status) => !this.#snapshots.has(status.containerId));
    for (const status of gone) {
      yield this.#removed(status);
    }
    yield { kind: this.#synced ? "resynced" : "synced" };
    this.#synced = true;
  }

  #removed({ botId, containerId }: Removed__Output): WatchEvent {
    this.#containers.delete(containerId);
    return { kind: "removed", botId, containerId };
  }
}
