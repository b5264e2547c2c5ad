/** A connection to the container manager. */

import { isIP } from "node:net";

import * as grpc from "@grpc/grpc-js";

import { defaultTimeout, SERVICE_CONFIG, withRequestId } from "./calls.js";
import { decodeError } from "./errors.js";

/** A method of the generated service definitions. */
export interface Method<Request, Response> {
  path: string;
  requestSerialize: (request: Request) => Buffer;
  responseDeserialize: (bytes: Buffer) => Response;
}

export interface ConnectOptions {
  /** The bearer token of a TCP listener. Without TLS it is sent only to loopback. */
  token?: string;
  /** For a TCP listener with TLS: the authority's certificate, and the client's certificate and key, all in PEM. */
  tls?: { ca: Buffer; cert: Buffer; key: Buffer };
}

export interface CallOptions {
  /** In milliseconds. Each method has its own default. */
  timeout?: number;
  signal?: AbortSignal;
}

const OPTIONS: grpc.ChannelOptions = {
  "grpc.service_config": SERVICE_CONFIG,
  "grpc.service_config_disable_resolution": 1,
  "grpc.enable_http_proxy": 0,
  // The server's limit: a list of thousands of bots, each with the longest texts.
  "grpc.max_receive_message_length": 32 * 1024 * 1024,
  // A call whose request is larger is not retried, by default 1 MiB. A create may have more than 2 MiB.
  "grpc.per_rpc_retry_buffer_size": 8 * 1024 * 1024,
  // So that a stream notices a machine that is gone. The server allows a ping every 5 s.
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  // Reconnect quickly to a restarted service.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
};

/** Calls the methods of all services over one connection, which is made at the first call. Close it at the end. */
export class Connection {
  readonly #client: grpc.Client;
  readonly #token: string | undefined;

  /** `target` is `unix:///path` or `tcp://host:port`, as for the server's `--listen`. */
  constructor(target: string, options: ConnectOptions = {}) {
    const { tls, token } = options;
    const credentials = tls ? grpc.credentials.createSsl(tls.ca, tls.key, tls.cert) : grpc.credentials.createInsecure();
    this.#client = new grpc.Client(grpcTarget(target, options), credentials, OPTIONS);
    this.#token = token;
  }

  /** Makes a unary call. It fails with a `ContainerManagerError`. */
  call<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    { timeout, signal }: CallOptions = {},
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const call = this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        withRequestId(method.path, request),
        this.#metadata(),
        { deadline: Date.now() + (timeout ?? defaultTimeout(method.path, request)) },
        (error, response) => {
          signal?.removeEventListener("abort", cancel);
          if (error) {
            reject(decodeError(error));
          } else {
            resolve(response as Response);
          }
        },
      );
      const cancel = (): void => call.cancel();
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  /** Opens a stream. It has no deadline: it lasts until its reader cancels it. Its errors are gRPC's own. */
  open<Request, Response>(method: Method<Request, Response>, request: Request): grpc.ClientReadableStream<Response> {
    const { path, requestSerialize, responseDeserialize } = method;
    return this.#client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, this.#metadata());
  }

  close(): void {
    this.#client.close();
  }

  #metadata(): grpc.Metadata {
    const metadata = new grpc.Metadata();
    if (this.#token !== undefined) {
      metadata.set("authorization", `Bearer ${this.#token}`);
    }
    return metadata;
  }
}

function grpcTarget(target: string, { token, tls }: ConnectOptions): string {
  // gRPC's own error, at each call, would contain it.
  if (token !== undefined && !/^[ -~]*$/.test(token)) {
    throw new TypeError("the token is not one line of printable ASCII characters");
  }
  if (target.startsWith("unix:///")) {
    if (tls) {
      throw new TypeError(`${target} is a unix socket: TLS is for TCP targets only`);
    }
    return target;
  }
  const [, host] = /^tcp:\/\/(\[[0-9a-fA-F:]+\]|[^/:[\]]+):[0-9]{1,5}$/.exec(target) ?? [];
  if (host === undefined) {
    throw new TypeError(`${target} is not a valid target: use unix:///path or tcp://host:port`);
  }
  if (token !== undefined && !tls && !isLoopback(host.replace(/^\[|\]$/g, ""))) {
    throw new TypeError(`${target} is another machine: without TLS the token would be sent in plain text`);
  }
  return `dns:${target.slice("tcp://".length)}`;
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}
