// Puts the rendered configuration in place. Three authors write openclaw.json: the environment, whose settings hold after
// every start; the bot's owner, in openclaw.user.json; and OpenClaw itself, when somebody uses `openclaw config set`, the
// control page, or pairs the first sender. What OpenClaw wrote stays. To tell it from settings that the environment or the
// owner has withdrawn, a third file keeps what the last start wrote.

import { createHash } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";

import { isMap, merged, replaced, without } from "./merge.mjs";
import { configFile, userFile } from "./paths.mjs";
import { EXIT, OPENCLAW, Refusal, quoted } from "./refusal.mjs";

const MOST_NAMED = 5;

/**
 * Writes openclaw.json, and returns its text.
 * @param {object} rendered what the environment asks for
 * @param {(line: string) => void} say told what of the present file is not kept
 */
export function write(rendered, say) {
  const file = configFile(process.env);
  const recordFile = join(dirname(file), "openclaw.rendered.json");
  guarded(file, () => mkdirSync(dirname(file), { recursive: true, mode: 0o700 }));
  const settings = ownersSettings(userFile(file));
  return guarded(file, () => {
    const wanted = merged(settings, rendered);
    const others = writtenByOthers(file, recordFile, say);
    const lost = replaced(others, wanted);
    if (lost.length > 0) {
      const names = lost.slice(0, MOST_NAMED).join(", ") + (lost.length > MOST_NAMED ? ", …" : "");
      say(`${basename(file)} was changed where the environment or openclaw.user.json decides; not kept: ${quoted(names)}`);
    }
    const text = `${JSON.stringify(merged(others, wanted), undefined, 2)}\n`;
    // First the record: without it, a start that is killed here would take its own settings for OpenClaw's.
    replace(recordFile, `${JSON.stringify(wanted, undefined, 2)}\n`);
    replace(file, text);
    rmSync(`${file}.sha256`, { force: true });
    return text;
  });
}

/**
 * The settings in the present file that no start of this entry point has written. A file that is not from here at all may
 * have been for another version of OpenClaw, and one wrong key keeps the gateway from starting: it is put aside.
 */
function writtenByOthers(file, recordFile, say) {
  const text = read(file);
  // Written by an entry point before there was a record, and not changed since.
  if (text === undefined || read(`${file}.sha256`)?.startsWith(sum(text))) {
    return {};
  }
  const present = parsed(text);
  const former = parsed(read(recordFile) ?? "");
  if (isMap(present) && isMap(former)) {
    return without(present, former);
  }
  const aside = `${file}.replaced-${new Date().toISOString().replaceAll(":", "")}`;
  renameSync(file, aside);
  const why = isMap(present) ? "was not written by this image" : "is not a JSON5 object";
  say(`${basename(file)} ${why}; it is kept as ${aside}`);
  return {};
}

/** What the bot's owner has put into openclaw.user.json. */
function ownersSettings(file) {
  const text = guarded(file, () => read(file), "read");
  if (text === undefined) {
    return {};
  }
  const settings = parsed(text);
  if (!isMap(settings)) {
    throw new Refusal(EXIT.ENVIRONMENT, `${file} is not a JSON5 object; correct it, or remove it`);
  }
  return settings;
}

/** The value of a JSON5 text, as OpenClaw reads its configuration; undefined if it is none. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON. OpenClaw's own package has the parser of its superset.
  }
  try {
    return createRequire(realpathSync(OPENCLAW))("json5").parse(text);
  } catch {
    return undefined;
  }
}

const sum = (text) => createHash("sha256").update(text).digest("hex");

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

/** Turns the failure of a system call into one line that names the cause. */
function guarded(file, action, verb = "written") {
  try {
    return action();
  } catch (error) {
    if (!error.syscall) {
      throw error;
    }
    const place = error.path && error.path !== `${file}.tmp` ? error.path : file;
    const cause = CAUSES[error.code]?.(dirname(file)) ?? "see the error's name";
    throw new Refusal(EXIT.STATE, `${file} cannot be ${verb}: ${error.code} at ${place}: ${cause}`);
  }
}

const ofAnotherUser = (directory) =>
  `uid ${process.getuid()} has no right to it; a directory mounted at ${directory} must belong to uid ${process.getuid()}`;
const full = () => "the disk is full; free space on the host";
const CAUSES = {
  EACCES: ofAnotherUser,
  EPERM: ofAnotherUser,
  EROFS: () => "its file system is read-only; mount a directory there that can be written",
  ENOSPC: full,
  EDQUOT: full,
  ENOENT: () => "a directory of this path is missing, or it is a link to nothing",
  ENOTDIR: () => "a part of this path is not a directory",
  EEXIST: () => "something that is not a directory is in the place of a directory",
  EISDIR: () => "a directory is in the place of a file",
  ELOOP: () => "its links lead in a circle",
  ENAMETOOLONG: () => "this path is too long",
  EBUSY: () => "the file is a mount of its own; mount its directory instead",
  EXDEV: () => "the file is a mount of its own; mount its directory instead",
  EIO: () => "the disk reports an error",
};
