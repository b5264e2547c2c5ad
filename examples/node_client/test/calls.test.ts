/** Deadlines, retries and errors of calls. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as grpc from "@grpc/grpc-js";

import { Connection, ContainerManagerError, maintainer, manager, observer, provisioner } from "../src/index.js";
import { AWAY, failure, withService } from "./scripted.js";

const botId = "0b1f3f2e-8a54-4d0b-9f0e-3f6f0a7f2c11";

function away(): never {
  throw AWAY;
}

// The retries mostly wait.
describe("calls", { concurrency: true }, () => {
  test("reads, stops, removes and creates are tried five times while the service is unavailable", async () => {
    await withService(away, undefined, async (connection, service) => {
      const calls = [
        connection.call(manager.GetContainerStatus, { botId }),
        connection.call(manager.ListManagedContainers, {}),
        connection.call(manager.StopContainer, { botId }),
        connection.call(manager.RemoveContainer, { botId }),
        connection.call(manager.CreateContainer, { botId }),
      ];
      const reads = [
        connection.call(observer.GetStats, {}),
        connection.call(maintainer.ListBackups, { botId }),
        connection.call(provisioner.ListSecrets, { botId }),
      ];
      const results = await Promise.allSettled([...calls, ...reads]);
      assert.deepEqual(Array(8).fill("rejected"), results.map((result) => result.status));
      const others = ["GetContainerStatus", "ListManagedContainers", "StopContainer", "RemoveContainer"];
      for (const method of [...others, "GetStats", "ListBackups", "ListSecrets"]) {
        assert.equal(service.seen(method).length, 5, method);
      }
      const ids = service.seen("CreateContainer").map((request) => request.requestId);
      assert.equal(ids.length, 5);
      assert.equal(new Set(ids).size, 1, "a retry has the request id of the first attempt");
      assert.match(ids[0], /^[0-9a-f-]{36}$/);
    });
  });

  test("a start and a restart are never retried, and neither is provisioning", async () => {
    await withService(away, undefined, async (connection, service) => {
      const calls = [
        connection.call(manager.StartContainer, { botId }),
        connection.call(manager.RestartContainer, { botId }),
        connection.call(provisioner.PutSecrets, { botId }),
        connection.call(provisioner.ReloadSecrets, { botId }),
        connection.call(maintainer.DeleteBackup, {}),
      ];
      for (const result of await Promise.allSettled(calls)) {
        assert.equal(result.status, "rejected");
      }
      assert.equal(service.requests.length, 5);
    });
  });

  test("a create of the largest size is retried", async () => {
    await withService(away, undefined, async (connection, service) => {
      const config = { environment: { A: "a".repeat(1024 * 1024) }, command: ["b".repeat(1024 * 1024)] };
      await assert.rejects(connection.call(manager.CreateContainer, { botId, config }));
      assert.equal(service.requests.length, 5);
    });
  });

  test("a token that gRPC cannot send is refused and not shown", () => {
    const shown = (error: Error) => error instanceof TypeError && !error.message.includes("secret");
    assert.throws(() => new Connection("unix:///s.sock", { token: "secret\n" }), shown);
  });

  test("only UNAVAILABLE is retried", async () => {
    const busy = () => {
      throw failure(grpc.status.ABORTED, "another operation", "OPERATION_IN_PROGRESS", {});
    };
    await withService(busy, undefined, async (connection, service) => {
      await assert.rejects(connection.call(manager.StopContainer, { botId }), { reason: "OPERATION_IN_PROGRESS" });
      assert.equal(service.requests.length, 1);
    });
  });

  test("each call has a deadline, and that of a stop exceeds its grace period", async () => {
    await withService(() => ({}), undefined, async (connection, service) => {
      await connection.call(manager.GetContainerStatus, { botId });
      await connection.call(manager.CreateContainer, { botId });
      await connection.call(manager.StartContainer, { botId });
      await connection.call(manager.StopContainer, { botId });
      await connection.call(manager.StopContainer, { botId, gracePeriod: { seconds: 300 } });
      await connection.call(manager.RestartContainer, { botId, gracePeriod: { seconds: "0" } });
      await connection.call(manager.RemoveContainer, { botId, gracePeriod: {} });
      await connection.call(provisioner.PutSecrets, { botId });
      await connection.call(provisioner.ReloadSecrets, { botId });
      await connection.call(manager.GetContainerStatus, { botId }, { timeout: 30_000 });
      assert.deepEqual(service.timeouts, [
        ["GetContainerStatus", 20],
        ["CreateContainer", 600],
        ["StartContainer", 600],
        ["StopContainer", 150],
        ["StopContainer", 360],
        ["RestartContainer", 600],
        ["RemoveContainer", 60],
        ["PutSecrets", 60],
        ["ReloadSecrets", 240],
        ["GetContainerStatus", 30],
      ]);
    });
  });

  test("an error has its code, reason, metadata and field violations", async () => {
    const wrong = () => {
      throw failure(grpc.status.INVALID_ARGUMENT, "bot_id is no UUID", "INVALID_BOT_ID", { bot_id: "x" }, "bot_id");
    };
    await withService(wrong, undefined, async (connection) => {
      await assert.rejects(connection.call(manager.StartContainer, { botId: "x" }), (error) => {
        assert.ok(error instanceof ContainerManagerError);
        assert.equal(error.message, "bot_id is no UUID");
        assert.equal(error.code, grpc.status.INVALID_ARGUMENT);
        assert.equal(error.reason, "INVALID_BOT_ID");
        assert.deepEqual({ ...error.metadata }, { bot_id: "x" });
        assert.deepEqual(error.fieldViolations, [{ field: "bot_id", description: "bot_id is no UUID" }]);
        return true;
      });
    });
  });

  test("gRPC's own errors have no reason", async () => {
    const connection = new Connection("unix:///nowhere/s.sock");
    await assert.rejects(connection.call(manager.StartContainer, { botId }), {
      name: "ContainerManagerError",
      code: grpc.status.UNAVAILABLE,
      reason: "",
    });
    connection.close();
  });

  test("an aborted call ends", async () => {
    const never = new AbortController();
    const unary = () => never.abort() as undefined;
    await withService(unary, undefined, async (connection) => {
      const call = connection.call(manager.StartContainer, { botId }, { signal: never.signal });
      await assert.rejects(call, { code: grpc.status.CANCELLED });
    });
  });

  test("a token is sent in plain text to loopback only, and no invalid target is accepted", () => {
    const token = "t";
    for (const target of ["tcp://192.0.2.7:50051", "tcp://[2001:db8::1]:50051", "tcp://127.example.org:50051"]) {
      assert.throws(() => new Connection(target, { token }), /another machine/);
    }
    for (const target of ["tcp://127.0.0.1:1", "tcp://localhost:1", "tcp://[::1]:1"]) {
      new Connection(target, { token }).close();
    }
    for (const target of ["", "127.0.0.1:1", "http://127.0.0.1:1", "unix:s.sock", "tcp://127.0.0.1"]) {
      assert.throws(() => new Connection(target), /not a valid target/);
    }
  });
});
