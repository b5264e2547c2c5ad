// Checks the secret files before the gateway starts. OpenClaw enforces the same rules, but some of them only
// when it first needs the secret, and with many lines. No value is kept, and none is ever in a message.

import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { EXIT, Refusal } from "./refusal.mjs";

const DIRECTORY = "/run/secrets";
/** OpenClaw reads no more than this, in bytes. */
const SIZE_LIMIT = 1024 * 1024;

/** @param {string} name */
export const path = (name) => join(DIRECTORY, name);

/** Whether there is anything of that name, be it acceptable or not. */
export function exists(name) {
  return lstatSync(path(name), { throwIfNoEntry: false }) !== undefined;
}

/** Throws a Refusal that says what is wrong with the file and what to do. */
export function check(name) {
  const file = path(name);
  const refuse = (what) => {
    throw new Refusal(EXIT.SECRET, `secret file ${file} ${what}`);
  };
  let descriptor;
  try {
    // Without blocking: a FIFO in its place must not hold up the start.
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    refuse(cannotOpen(error));
  }
  try {
    const uid = process.getuid();
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) {
      refuse("is not a regular file");
    }
    if (stat.nlink !== 1) {
      refuse("has other hard links; make it a file of its own");
    }
    if (stat.uid !== uid) {
      refuse(`belongs to uid ${stat.uid}; it must belong to uid ${uid} (chown ${uid})`);
    }
    if (stat.mode & 0o077) {
      const mode = (stat.mode & 0o777).toString(8).padStart(4, "0");
      refuse(`has mode ${mode}; only its owner may have access (chmod 0600)`);
    }
    if (stat.size > SIZE_LIMIT) {
      refuse(`is larger than ${SIZE_LIMIT} bytes`);
    }
    if (readFileSync(descriptor, "utf8").trim() === "") {
      refuse("is empty");
    }
  } finally {
    closeSync(descriptor);
  }
}

function cannotOpen(error) {
  switch (error.code) {
    case "ENOENT":
    case "ENOTDIR":
      return `is missing; mount a directory with it at ${DIRECTORY}`;
    case "ELOOP":
      return "is a symbolic link; it must be a regular file";
    case "EACCES":
    case "EPERM":
      return `cannot be read; it must belong to uid ${process.getuid()} and have mode 0600`;
    default:
      return `cannot be opened (${error.code})`;
  }
}
