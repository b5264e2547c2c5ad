/** The services and messages of `proto/`, with the types that `npm run generate` derives from them. */

import { fileURLToPath } from "node:url";

import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

import type { ProtoGrpcType } from "./generated/client.js";

const PROTO = fileURLToPath(new URL("../../proto", import.meta.url));

// The types are generated with the same options. 64-bit integers are strings, because a number would round them.
const definition = loadSync("client.proto", {
  includeDirs: [PROTO],
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
});
const root = grpc.loadPackageDefinition(definition) as unknown as ProtoGrpcType;

export const maintainer = root.botmaker.container.v1.ContainerMaintainer.service;
export const manager = root.botmaker.container.v1.ContainerManager.service;
export const observer = root.botmaker.container.v1.ContainerObserver.service;
export const provisioner = root.botmaker.container.v1.BotProvisioner.service;
export const rpc = root.google.rpc;
