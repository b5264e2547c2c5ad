// Puts the rendered configuration in place. The entry point owns openclaw.json: what the environment says holds
// after every start. What someone else wrote there is moved aside, never lost; settings to keep go into
// openclaw.user.json, which OpenClaw itself merges below the rendered ones.

import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

import { EXIT, Refusal } from "./refusal.mjs";

const DIRECTORY = join(homedir(), ".openclaw");
const NAME = "openclaw.json";
const USER_NAME = "openclaw.user.json";
const FILE = join(DIRECTORY, NAME);
/** What the last start wrote, as sha256sum prints it: tells our file from one that someone has changed. */
const SUM_FILE = `${FILE}.sha256`;

/** The text of openclaw.json. */
export function serialize(config) {
  const include = existsSync(join(DIRECTORY, USER_NAME)) ? { $include: `./${USER_NAME}` } : {};
  return `${JSON.stringify({ ...include, ...config }, undefined, 2)}\n`;
}

/**
 * Makes `text` the content of openclaw.json.
 * @param {(line: string) => void} say told when another configuration was moved aside
 */
export function write(text, say) {
  try {
    mkdirSync(DIRECTORY, { recursive: true, mode: 0o700 });
    const present = read(FILE);
    if (present !== undefined && present !== text && read(SUM_FILE) !== sum(present)) {
      const aside = `${FILE}.replaced-${new Date().toISOString().replaceAll(":", "")}`;
      renameSync(FILE, aside);
      say(`openclaw.json was changed since it was rendered; that one is kept as ${aside}`);
    }
    replace(FILE, text);
    replace(SUM_FILE, sum(text));
  } catch (error) {
    throw new Refusal(
      EXIT.STATE,
      `cannot write ${FILE} (${error.code ?? error.name}); a directory mounted at ${DIRECTORY} must belong to uid ${process.getuid()}`,
    );
  }
}

const sum = (text) => `${createHash("sha256").update(text).digest("hex")}  ${NAME}\n`;

/** The content of a file; undefined where there is none. */
function read(file) {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if (error.code === "ENOENT") {
      return undefined;
    }
    throw error;
  }
}

/** Writes a file whole or not at all, for its owner only. */
function replace(file, text) {
  const draft = `${file}.tmp`;
  rmSync(draft, { force: true });
  const descriptor = openSync(draft, "wx", 0o600);
  try {
    writeFileSync(descriptor, text);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(draft, file);
}
