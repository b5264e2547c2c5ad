// Checks the secret files before the gateway starts. OpenClaw enforces the same rules, but some of them only
// when it first needs the secret, and with many lines. No value is kept, and none is ever in a message.

import { accessSync, closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

import { EXIT, Refusal } from "./refusal.mjs";

const DIRECTORY = "/run/secrets";
/** OpenClaw reads no more than this, in bytes. */
const SIZE_LIMIT = 1024 * 1024;

/** @param {string} name */
export const path = (name) => join(DIRECTORY, name);

/** Whether there may be anything of that name, be it acceptable or not. */
export function exists(name) {
  try {
    return lstatSync(path(name), { throwIfNoEntry: false }) !== undefined;
  } catch {
    // It cannot be looked at; `check` says why.
    return true;
  }
}

/** Throws a Refusal that says what is wrong with the file and what to do. */
export function check(name) {
  const file = path(name);
  const refuse = (what) => {
    throw new Refusal(EXIT.SECRET, `secret file ${file} ${what}`);
  };
  checkDirectory();
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
    if (content(descriptor, refuse).trim() === "") {
      refuse("is empty");
    }
  } finally {
    closeSync(descriptor);
  }
}

function content(descriptor, refuse) {
  try {
    return readFileSync(descriptor, "utf8");
  } catch (error) {
    return refuse(cannotOpen(error));
  }
}

/** Throws a Refusal unless this user may enter the directory. A missing one is the matter of its files. */
function checkDirectory() {
  try {
    accessSync(DIRECTORY, constants.X_OK);
  } catch (error) {
    if (error.code !== "EACCES") {
      return;
    }
    const { uid, mode } = statSync(DIRECTORY);
    const bits = (mode & 0o777).toString(8).padStart(4, "0");
    const user = process.getuid();
    throw new Refusal(
      EXIT.SECRET,
      `the secrets in ${DIRECTORY} cannot be read: the directory belongs to uid ${uid} with mode ${bits}; ` +
        `on the host, give it and its files to uid ${user} (chown -R ${user})`,
    );
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
      return `cannot be read (${error.code})`;
  }
}
