// Renders the configuration from the environment: a pure function, apart from asking which secret files exist.

import { CHANNELS, PROTOCOLS, PROVIDERS, PROVIDER_ALIASES } from "./catalog.mjs";
import { EXIT, Refusal, quoted } from "./refusal.mjs";

/** The port inside the container, unless OpenClaw's own variable names another; which one the host shows is Docker's matter. */
const DEFAULT_GATEWAY_PORT = 18789;

// OpenClaw expands "${NAME}" in every string of its configuration, so a name that comes from outside must not hold a dollar
// sign. "*" and "\" mean something else to it. Quotes and brackets like "<" are in no model's name.
const MODEL_NAME = /^[A-Za-z0-9!#%&()+,./:;=?@[\]^_{}~-]{1,200}$/;
/** OpenClaw takes what follows this sign, after the last slash, for the name of an account. */
const ACCOUNT_SIGN = /@[^/]*$/;
const MODEL_ALIAS = "configured";

/**
 * @param {Record<string, string | undefined>} env
 * @param {object} secrets
 * @param {(name: string) => string} secrets.path the path of a secret file
 * @param {(name: string) => boolean} secrets.exists whether there is anything of that name
 * @returns {{config: object, required: string[]}} the configuration, and the secret files it refers to
 */
export function render(env, secrets) {
  const provider = choose(env, "AI_PROVIDER", PROVIDERS, PROVIDER_ALIASES);
  if (!provider) {
    throw new Refusal(EXIT.ENVIRONMENT, `AI_PROVIDER is not set; it must be one of: ${names(PROVIDERS)}`);
  }
  const model = modelName(env);
  const channel = choose(env, "CHANNEL_TYPE", CHANNELS);

  const required = [];
  const sources = {};
  const refer = (name) => {
    const alias = name.toLowerCase();
    if (!Object.hasOwn(sources, alias)) {
      required.push(name);
      sources[alias] = { source: "file", path: secrets.path(name), mode: "singleValue" };
    }
    return { source: "file", provider: alias, id: "value" };
  };

  const config = {
    gateway: {
      mode: "local",
      // Every address of the container: a published port arrives on its bridge address, not on loopback.
      bind: "lan",
      port: gatewayPort(env),
      auth: { mode: "token", token: refer("GATEWAY_TOKEN") },
      controlUi: controlUi(env),
    },
    // The image pins the version; a newer one comes as a newer image.
    update: { checkOnStart: false },
    agents: { defaults: modelChoice(`${provider.id}/${model}`) },
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

/** The port on which the gateway listens in this container. */
export function gatewayPort(env) {
  const given = env.OPENCLAW_GATEWAY_PORT?.trim() ?? "";
  return /^[0-9]{1,5}$/.test(given) && given > 0 && given < 65536 ? Number(given) : DEFAULT_GATEWAY_PORT;
}

/** The default model. Where OpenClaw would take a part of the name for an account, an alias stands for it. */
function modelChoice(model) {
  return ACCOUNT_SIGN.test(model)
    ? { model: { primary: MODEL_ALIAS }, models: { [model]: { alias: MODEL_ALIAS } } }
    : { model: { primary: model } };
}

/**
 * Whose pages may use the gateway from a browser. The container does not know the ports of its host, and these can change at
 * each start. So by default a page may if the gateway itself has served it, which the request's host shows.
 */
function controlUi(env) {
  const origins = (env.ALLOWED_ORIGINS ?? "").split(/[\s,]+/).filter(Boolean);
  for (const origin of origins) {
    if (!URL.canParse(origin) || new URL(origin).origin !== origin || origin.includes("$")) {
      throw new Refusal(
        EXIT.ENVIRONMENT,
        `ALLOWED_ORIGINS has ${quoted(origin)}; an origin is a scheme, a host and a port, such as https://bot.example.org`,
      );
    }
  }
  return origins.length > 0 ? { allowedOrigins: origins } : { dangerouslyAllowHostHeaderOriginFallback: true };
}

function providerSettings(provider, model, env, secrets, refer) {
  const settings = { ...provider.settings };
  if (provider.baseUrlVariable && env[provider.baseUrlVariable]) {
    settings.baseUrl = address(provider.baseUrlVariable, env).text;
  }
  const keyFile = keyFileOf(provider, secrets);
  settings.apiKey = provider.keyless && !secrets.exists(keyFile) ? provider.keyless : refer(keyFile);
  if (env.AI_BASE_URL) {
    const { url, text } = address("AI_BASE_URL", env);
    settings.baseUrl = text;
    settings.api = protocol(env) ?? provider.apiAt(url);
    if (provider.alsoAs) {
      settings.headers = { [provider.alsoAs]: refer(keyFile) };
    }
  } else if (env.AI_API) {
    throw new Refusal(EXIT.ENVIRONMENT, "AI_API is set without AI_BASE_URL; it is the protocol at that address");
  }
  if (provider.listModel || env.AI_BASE_URL) {
    settings.models = [{ id: model, name: model }];
  }
  return settings;
}

/** The file by the name of the provider that the caller uses; or the one by OpenClaw's, where only that is there. */
function keyFileOf(provider, secrets) {
  const [asGiven, canonical] = [provider.givenId, provider.id].map((id) => `${id.toUpperCase()}_API_KEY`);
  return !secrets.exists(asGiven) && secrets.exists(canonical) ? canonical : asGiven;
}

function protocol(env) {
  if (env.AI_API && !PROTOCOLS.includes(env.AI_API)) {
    throw new Refusal(EXIT.ENVIRONMENT, `AI_API is ${quoted(env.AI_API)}; it must be one of: ${PROTOCOLS.join(", ")}`);
  }
  return env.AI_API || undefined;
}

function channelSettings(channel, refer) {
  const settings = { enabled: true, ...channel.settings };
  for (const [field, file] of Object.entries(channel.secrets)) {
    settings[field] = refer(file);
  }
  return settings;
}

/** The entry of `table` that the variable names, with its id; undefined when the variable is unset or empty. */
function choose(env, variable, table, aliases = {}) {
  const givenId = env[variable];
  if (!givenId) {
    return undefined;
  }
  const id = Object.hasOwn(aliases, givenId) ? aliases[givenId] : givenId;
  if (!Object.hasOwn(table, id)) {
    const allowed =
      variable === "CHANNEL_TYPE"
        ? `${names(table)}, or empty for no channel or one in openclaw.user.json`
        : names({ ...table, ...aliases });
    throw new Refusal(EXIT.ENVIRONMENT, `${variable} is ${quoted(givenId)}; it must be one of: ${allowed}`);
  }
  return { id, givenId, ...table[id] };
}

function modelName(env) {
  const model = env.AI_MODEL;
  if (!model) {
    throw new Refusal(EXIT.ENVIRONMENT, "AI_MODEL is not set; give the model's name as the provider spells it");
  }
  if (!MODEL_NAME.test(model)) {
    throw new Refusal(
      EXIT.ENVIRONMENT,
      `AI_MODEL is ${quoted(model)}; a model's name has at most 200 letters, digits and ! # % & ( ) + , - . / : ; = ? @ [ ] ^ _ { } ~`,
    );
  }
  return model;
}

/** The address that a variable holds: its parts, and its text without slashes at its end. */
function address(variable, env) {
  const value = env[variable];
  const url = URL.canParse(value) ? new URL(value) : undefined;
  const plain = url && ["http:", "https:"].includes(url.protocol) && !url.search && !url.hash;
  if (!plain || url.username || url.password || value.includes("$")) {
    // The value is not repeated: someone may have put a password into it.
    throw new Refusal(
      EXIT.ENVIRONMENT,
      `${variable} must be a plain http or https address such as http://host.docker.internal:11434, without credentials`,
    );
  }
  return { url, text: url.href.replace(/\/+$/, "") };
}

const names = (table) => Object.keys(table).sort().join(", ");
