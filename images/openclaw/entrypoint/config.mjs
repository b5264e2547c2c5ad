// Renders openclaw.json from the environment: a pure function, apart from asking which secret files exist.

import { CHANNELS, PROVIDERS } from "./catalog.mjs";
import { EXIT, Refusal, quoted } from "./refusal.mjs";

/** The port inside the container; which one the host shows is Docker's matter. */
export const GATEWAY_PORT = 18789;

// OpenClaw expands "${NAME}" in every string of its configuration, so a name that comes from outside
// must not hold a dollar sign. These characters are all that model names have.
const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}$/;

/**
 * @param {Record<string, string | undefined>} env
 * @param {object} secrets
 * @param {(name: string) => string} secrets.path the path of a secret file
 * @param {(name: string) => boolean} secrets.exists whether there is anything of that name
 * @returns {{config: object, required: string[]}} the configuration, and the secret files it refers to
 */
export function render(env, secrets) {
  const provider = choose(env, "AI_PROVIDER", PROVIDERS);
  if (!provider) {
    throw new Refusal(EXIT.ENVIRONMENT, `AI_PROVIDER is not set; it must be one of: ${names(PROVIDERS)}`);
  }
  const model = modelName(env);
  const channel = choose(env, "CHANNEL_TYPE", CHANNELS);

  const required = [];
  const sources = {};
  const refer = (name) => {
    const alias = name.toLowerCase();
    required.push(name);
    sources[alias] = { source: "file", path: secrets.path(name), mode: "singleValue" };
    return { source: "file", provider: alias, id: "value" };
  };

  const config = {
    gateway: {
      mode: "local",
      // Every address of the container: a published port arrives on its bridge address, not on loopback.
      bind: "lan",
      port: GATEWAY_PORT,
      auth: { mode: "token", token: refer("GATEWAY_TOKEN") },
    },
    // The image pins the version; a newer one comes as a newer image.
    update: { checkOnStart: false },
    agents: { defaults: { model: { primary: `${provider.id}/${model}` } } },
    models: { providers: { [provider.id]: providerSettings(provider, model, env, secrets, refer) } },
    secrets: { providers: sources },
  };
  if (provider.pluginOff) {
    config.plugins = { entries: { [provider.id]: { enabled: false } } };
  }
  if (channel) {
    config.channels = { [channel.id]: channelSettings(channel, refer) };
  }
  return { config, required };
}

function providerSettings(provider, model, env, secrets, refer) {
  const settings = { ...provider.settings };
  if (provider.baseUrlVariable && env[provider.baseUrlVariable]) {
    settings.baseUrl = baseUrl(provider.baseUrlVariable, env[provider.baseUrlVariable]);
  }
  const keyFile = `${provider.id.toUpperCase()}_API_KEY`;
  settings.apiKey = provider.keyless && !secrets.exists(keyFile) ? provider.keyless : refer(keyFile);
  if (provider.listModel) {
    settings.models = [{ id: model, name: model }];
  }
  return settings;
}

function channelSettings(channel, refer) {
  const settings = { enabled: true, ...channel.settings };
  for (const [field, file] of Object.entries(channel.secrets)) {
    settings[field] = refer(file);
  }
  return settings;
}

/** The entry of `table` that the variable names, with its id; undefined when the variable is unset or empty. */
function choose(env, variable, table) {
  const id = env[variable];
  if (!id) {
    return undefined;
  }
  if (!Object.hasOwn(table, id)) {
    const allowed = variable === "CHANNEL_TYPE" ? `${names(table)}, or empty for no channel` : names(table);
    throw new Refusal(EXIT.ENVIRONMENT, `${variable} is ${quoted(id)}; it must be one of: ${allowed}`);
  }
  return { id, ...table[id] };
}

function modelName(env) {
  const model = env.AI_MODEL;
  if (!model) {
    throw new Refusal(EXIT.ENVIRONMENT, "AI_MODEL is not set; give the model's name as the provider spells it");
  }
  if (!MODEL_NAME.test(model)) {
    throw new Refusal(
      EXIT.ENVIRONMENT,
      `AI_MODEL is ${quoted(model)}; a model's name has at most 200 letters, digits and . _ : / @ + -`,
    );
  }
  return model;
}

function baseUrl(variable, value) {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  const plain = url && ["http:", "https:"].includes(url.protocol) && !url.search && !url.hash;
  if (!plain || url.username || url.password || value.includes("$")) {
    // The value is not repeated: someone may have put a password into it.
    throw new Refusal(
      EXIT.ENVIRONMENT,
      `${variable} must be a plain http or https address such as http://host.docker.internal:11434, without credentials`,
    );
  }
  return url.href.replace(/\/+$/, "");
}

const names = (table) => Object.keys(table).join(", ");
