/** A service in this process that answers and fails as a test says. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import * as grpc from "@grpc/grpc-js";

import { Connection } from "../src/index.js";
import { maintainer, manager, observer, provisioner, rpc } from "../src/protocol.js";

type Unary = (request: any, call: grpc.ServerUnaryCall<any, any>) => unknown;
type Streaming = (call: grpc.ServerWritableStream<any, any>) => void;

/** Breaks a call or a stream, as when the service is away. */
export const AWAY = { code: grpc.status.UNAVAILABLE, details: "Socket closed" };

export class ScriptedService {
  readonly requests: [string, any][] = [];
  /** Time until the deadline of each call, in seconds, rounded up to tens: a call may take a moment to arrive. */
  readonly timeouts: [string, number][] = [];
  readonly #server = new grpc.Server();

  private constructor(readonly directory: string) {}

  get target(): string {
    return `unix://${this.directory}/s.sock`;
  }

  static async start(unary: Unary, streaming: Streaming = () => {}): Promise<ScriptedService> {
    const service = new ScriptedService(await mkdtemp(join(tmpdir(), "scripted-")));
    for (const definition of [maintainer, manager, observer, provisioner]) {
      const handlers = Object.entries(definition).map(([name, { responseStream }]) => [
        name,
        responseStream ? service.#stream(name, streaming) : service.#unary(name, unary),
      ]);
      service.#server.addService(definition, Object.fromEntries(handlers));
    }
    await new Promise<void>((resolve, reject) => {
      const credentials = grpc.ServerCredentials.createInsecure();
      service.#server.bindAsync(service.target, credentials, (error) => (error ? reject(error) : resolve()));
    });
    return service;
  }

  seen(name: string): any[] {
    return this.requests.filter(([each]) => each === name).map(([, request]) => request);
  }

  async stop(): Promise<void> {
    this.#server.forceShutdown();
    await rm(this.directory, { recursive: true });
  }

  #unary(name: string, answer: Unary): grpc.handleUnaryCall<any, any> {
    return (call, callback) => {
      this.requests.push([name, call.request]);
      this.timeouts.push([name, Math.ceil((Number(call.getDeadline()) - Date.now()) / 10_000) * 10]);
      try {
        callback(null, answer(call.request, call) ?? {});
      } catch (error) {
        callback(error as grpc.ServerErrorResponse);
      }
    };
  }

  #stream(name: string, answer: Streaming): grpc.handleServerStreamingCall<any, any> {
    return (call) => {
      this.requests.push([name, call.request]);
      answer(call);
    };
  }
}

/** Runs a test with a service and a connection to it, and closes both. */
export async function withService(
  unary: Unary,
  streaming: Streaming | undefined,
  test: (connection: Connection, service: ScriptedService) => Promise<void>,
): Promise<void> {
  const service = await ScriptedService.start(unary, streaming);
  const connection = new Connection(service.target);
  try {
    await test(connection, service);
  } finally {
    connection.close();
    await service.stop();
  }
}

/** An error as the container manager sends it. */
export function failure(code: grpc.status, message: string, reason: string, metadata: Record<string, string>, field = ""): Partial<grpc.StatusObject> {
  const details = [pack("google.rpc.ErrorInfo", rpc.ErrorInfo.serialize({ reason, domain: "container.botmaker", metadata }))];
  if (field) {
    const fieldViolations = [{ field, description: message }];
    details.push(pack("google.rpc.BadRequest", rpc.BadRequest.serialize({ fieldViolations })));
  }
  const trailers = new grpc.Metadata();
  trailers.set("grpc-status-details-bin", rpc.Status.serialize({ code, message, details }));
  return { code, details: message, metadata: trailers };
}

function pack(type: string, value: Buffer) {
  return { type_url: `type.googleapis.com/${type}`, value };
}
