// Where OpenClaw keeps its configuration and its state, from its own variables, so that both use the same files.
// As OpenClaw's documentation of these variables says (help/environment): OPENCLAW_CONFIG_PATH before OPENCLAW_STATE_DIR
// before OPENCLAW_HOME before HOME; "~" is the home directory; a blank value counts as unset.

import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";

/**
 * @param {Record<string, string | undefined>} env
 * @returns {string} the absolute path of the configuration file
 */
export function configFile(env) {
  const given = env.OPENCLAW_CONFIG_PATH?.trim();
  return given ? expanded(given, home(env)) : join(stateDirectory(env), "openclaw.json");
}

/** The directory that must be mounted for the state to last; by default the configuration is in it. */
export function stateDirectory(env) {
  const given = env.OPENCLAW_STATE_DIR?.trim();
  return given ? expanded(given, home(env)) : join(home(env), ".openclaw");
}

/** Where the settings of the bot's owner are: beside the configuration. */
export const userFile = (file) => join(dirname(file), "openclaw.user.json");

function home(env) {
  const ofUser = set(env.HOME) ?? homedir();
  const given = set(env.OPENCLAW_HOME);
  return given ? expanded(given, ofUser) : resolve(ofUser);
}

/** OpenClaw takes these words for a variable that a script left unset. */
function set(value) {
  const text = value?.trim();
  return text && text !== "undefined" && text !== "null" ? text : undefined;
}

function expanded(path, homeDirectory) {
  return resolve(path.replace(/^~(?=$|[\\/])/, () => homeDirectory));
}
