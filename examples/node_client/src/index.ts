export { Connection, type CallOptions, type ConnectOptions, type Method } from "./connection.js";
export { ContainerManagerError } from "./errors.js";
export { readLog, type LogSelection } from "./logs.js";
export { maintainer, manager, observer, provisioner } from "./protocol.js";
export { watchContainers, type WatchEvent } from "./watch.js";
