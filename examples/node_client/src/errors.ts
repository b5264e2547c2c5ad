/** The errors of the container manager. */

import * as grpc from "@grpc/grpc-js";

import { rpc } from "./protocol.js";

/** An error of the container manager, or of gRPC itself. */
export class ContainerManagerError extends Error {
  override readonly name = "ContainerManagerError";

  constructor(
    /** A sentence for a person. */
    message: string,
    readonly code: grpc.status,
    /** Stable, such as `CONTAINER_NOT_FOUND`. Empty for gRPC's own errors: no service, or an expired deadline. */
    readonly reason = "",
    /** Further values, such as `bot_id` and `container_id`. */
    readonly metadata: Readonly<Record<string, string>> = {},
    /** For an invalid argument: each invalid field and its problem. */
    readonly fieldViolations: readonly { field: string; description: string }[] = [],
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Decodes what gRPC reports of a failed call. Returns any other error unchanged. */
export function decodeError(error: unknown): unknown {
  if (!isServiceError(error)) {
    return error;
  }
  let reason = "";
  let metadata: Record<string, string> = {};
  let violations: { field: string; description: string }[] = [];
  for (const detail of details(error)) {
    switch (detail.type_url.split("/").at(-1)) {
      case "google.rpc.ErrorInfo":
        ({ reason, metadata } = rpc.ErrorInfo.deserialize(detail.value));
        break;
      case "google.rpc.BadRequest":
        violations = rpc.BadRequest.deserialize(detail.value).fieldViolations;
        break;
    }
  }
  return new ContainerManagerError(error.details, error.code, reason, metadata, violations, { cause: error });
}

function details(error: grpc.ServiceError): { type_url: string; value: Buffer }[] {
  const [trailer] = error.metadata.get("grpc-status-details-bin");
  return trailer instanceof Buffer ? rpc.Status.deserialize(trailer).details : [];
}

function isServiceError(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && "code" in error && "details" in error && "metadata" in error;
}
