// The entry point: checks the environment and the secret files, writes openclaw.json, and becomes the gateway.
//
//   gateway [OPTION...]   the default: run the gateway
//   render                write openclaw.json, print it, and end
//   openclaw ARGUMENT...  OpenClaw's command line, after rendering where AI_PROVIDER is set
//   COMMAND ARGUMENT...   any other program of the image, as it is

import { accessSync, constants, realpathSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";

import { render } from "./config.mjs";
import * as configFile from "./config-file.mjs";
import { EXIT, OPENCLAW, Refusal, quoted } from "./refusal.mjs";
import * as secretFiles from "./secret-files.mjs";

const say = (line) => process.stderr.write(`entrypoint: ${line}\n`);

/** Renders and writes the configuration for OpenClaw with these arguments; returns its text. */
function prepare(args = []) {
  if (args.some((argument) => argument === "--dev" || /^--profile(=|$)/.test(argument))) {
    throw new Refusal(
      EXIT.ENVIRONMENT,
      "OpenClaw would not use the rendered configuration with --profile or --dev; set OPENCLAW_STATE_DIR instead",
    );
  }
  const { config, required } = render(process.env, secretFiles);
  for (const name of required) {
    secretFiles.check(name);
  }
  return configFile.write(config, say);
}

/** Replaces this process, so that signals reach the program and its exit code is the container's. */
function become(file, args) {
  process.execve(file, args, process.env);
}

function becomeOpenclaw(args) {
  become(process.execPath, [process.execPath, realpathSync(OPENCLAW), ...args]);
}

function becomeCommand(command, args) {
  const candidates = command.includes("/")
    ? [command]
    : (process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, command));
  const file = candidates.find(isExecutable);
  if (!file) {
    throw new Refusal(
      EXIT.COMMAND_NOT_FOUND,
      `there is no command ${quoted(command)}; known are: gateway, render, openclaw, and the programs of the image`,
    );
  }
  become(file, [command, ...args]);
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

function main([command = "gateway", ...args]) {
  switch (command) {
    case "gateway":
      prepare(args);
      return becomeOpenclaw(["gateway", "run", ...args]);
    case "render":
      return void process.stdout.write(prepare());
    case "openclaw":
      if (process.env.AI_PROVIDER) {
        prepare(args);
      }
      return becomeOpenclaw(args);
    default:
      return becomeCommand(command, args);
  }
}

try {
  main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof Refusal)) {
    throw error;
  }
  say(error.message);
  process.exitCode = error.exitCode;
}
