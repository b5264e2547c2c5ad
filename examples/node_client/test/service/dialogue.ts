/** The programs in this directory test the client on a real service. Whoever runs them restarts that service. */

import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Prints a line that asks for something, and returns the line that is the answer. */
export async function ask(...words: string[]): Promise<string> {
  process.stdout.write(`${words.join(" ")}\n`);
  const { value, done } = await lines.next();
  if (done) {
    throw new Error("nobody answers");
  }
  return value;
}

/** Runs the program, and ends it with status 1 if it fails or does not end. */
export function run(program: (...words: string[]) => Promise<void>): void {
  const fail = (error: unknown): never => {
    console.error(error);
    process.exit(1);
  };
  setTimeout(() => fail("the program has not ended after two minutes"), 120_000).unref();
  program(...process.argv.slice(2)).then(() => process.exit(0), fail);
}
