// The one error that the entry point reports as a single line and an exit code, without a stack trace.

/** OpenClaw's command. */
export const OPENCLAW = "/usr/local/bin/openclaw";

/** Exit codes of the entry point's own refusals, from sysexits.h. Every other code is the gateway's. */
export const EXIT = Object.freeze({
  /** A command that is not in the image, as shells report it. */
  COMMAND_NOT_FOUND: 127,
  /** EX_CONFIG: an environment variable is missing or not understood. */
  ENVIRONMENT: 78,
  /** EX_NOINPUT: a required secret file is missing or not acceptable. */
  SECRET: 66,
  /** EX_CANTCREAT: openclaw.json cannot be written or read. */
  STATE: 73,
});

export class Refusal extends Error {
  /**
   * @param {number} exitCode one of EXIT
   * @param {string} message one sentence: what is wrong and what to do
   */
  constructor(exitCode, message) {
    super(message);
    this.exitCode = exitCode;
  }
}

/**
 * Quotes a value from outside for a message: one line, bounded, no control characters.
 * @param {string} value
 */
export function quoted(value) {
  const text = JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  return text.replace(/[\u007f-\u009f\u2028\u2029]/g, "?");
}
