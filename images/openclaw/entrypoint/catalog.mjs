// The AI providers and channels this image knows, and what OpenClaw wants to be told about each.

const COMPLETIONS = "openai-completions";

/** The protocols that OpenClaw speaks and AI_API may name. */
export const PROTOCOLS = Object.freeze([
  "anthropic-messages",
  "google-generative-ai",
  "ollama",
  COMPLETIONS,
  "openai-responses",
]);

/**
 * A provider that OpenClaw brings along: it knows the address, the protocol and the models.
 * @param {string} [api] its protocol at an address of the caller's
 * @param {object} [settings] further fields of `models.providers.<id>`
 */
const stock = (api = COMPLETIONS, settings = {}) => ({ apiAt: () => api, settings });

/**
 * A provider that OpenClaw's package does not bring along: named with its address and protocol instead.
 * @param {string} baseUrl
 */
const compatible = (baseUrl) => ({
  settings: { baseUrl, api: COMPLETIONS },
  apiAt: () => COMPLETIONS,
  listModel: true,
});

/** The same, where OpenClaw has a plugin to download. It would do so at every start, so the plugin is switched off. */
const insteadOfPlugin = (baseUrl) => ({ ...compatible(baseUrl), pluginOff: true });

/**
 * A server of the bot's owner, on the host unless AI_BASE_URL says otherwise.
 * @param {string} keyless OpenClaw's own mark of a server without keys; not a secret
 */
const local = (baseUrl, keyless) => ({ ...compatible(baseUrl), keyless });

/**
 * By AI_PROVIDER, which is OpenClaw's own provider id. The key is read from {PROVIDER}_API_KEY.
 *
 * - `settings`: fields of `models.providers.<id>`
 * - `apiAt`: the protocol at the address in AI_BASE_URL
 * - `listModel`: the model must be listed there, because no catalogue or discovery supplies it
 * - `pluginOff`: see `insteadOfPlugin`
 * - `keyless`: the key file is optional; this stands for it where there is none
 * - `baseUrlVariable`: a variable besides AI_BASE_URL that overrides `settings.baseUrl` and nothing else
 * - `alsoAs`: a header that carries the key to the address in AI_BASE_URL, besides that of the protocol
 */
export const PROVIDERS = Object.freeze({
  anthropic: stock("anthropic-messages"),
  cerebras: insteadOfPlugin("https://api.cerebras.ai/v1"),
  deepinfra: insteadOfPlugin("https://api.deepinfra.com/v1/openai"),
  deepseek: insteadOfPlugin("https://api.deepseek.com"),
  fireworks: insteadOfPlugin("https://api.fireworks.ai/inference/v1"),
  // BotMaker's proxy does not look for its token in x-goog-api-key.
  google: { ...stock("google-generative-ai"), alsoAs: "x-api-key" },
  groq: insteadOfPlugin("https://api.groq.com/openai/v1"),
  huggingface: stock(),
  litellm: local("http://host.docker.internal:4000", "custom-local"),
  lmstudio: local("http://host.docker.internal:1234/v1", "lmstudio-local"),
  minimax: stock(),
  mistral: insteadOfPlugin("https://api.mistral.ai/v1"),
  moonshot: insteadOfPlugin("https://api.moonshot.ai/v1"),
  nebius: compatible("https://api.tokenfactory.nebius.com/v1"),
  nvidia: stock(),
  ollama: {
    // The native address: OpenClaw warns that tool calls break on Ollama's /v1.
    settings: { baseUrl: "http://host.docker.internal:11434", api: "ollama" },
    // A proxy has the native protocol nowhere but at its root, if at all.
    apiAt: (url) => (url.pathname === "/" ? "ollama" : COMPLETIONS),
    listModel: true,
    keyless: "ollama-local",
    baseUrlVariable: "OLLAMA_BASE_URL",
  },
  // OpenClaw's default for OpenAI is the Codex runtime, a plugin that it would download on every start.
  openai: stock("openai-responses", { agentRuntime: { id: "openclaw" } }),
  openrouter: stock(),
  ovhcloud: compatible("https://oai.endpoints.kepler.ai.cloud.ovh.net/v1"),
  perplexity: insteadOfPlugin("https://api.perplexity.ai"),
  scaleway: compatible("https://api.scaleway.ai/v1"),
  sglang: local("http://host.docker.internal:30000/v1", "custom-local"),
  together: stock(),
  venice: insteadOfPlugin("https://api.venice.ai/api/v1"),
  vllm: local("http://host.docker.internal:8000/v1", "custom-local"),
  xai: stock("openai-responses"),
});

/** BotMaker's names of providers that have another one here. */
export const PROVIDER_ALIASES = Object.freeze({ grok: "xai", togetherai: "together" });

/**
 * By CHANNEL_TYPE, which is OpenClaw's own channel id.
 *
 * - `secrets`: the field of `channels.<id>` → the secret file it refers to
 * - `settings`: further fields of `channels.<id>`
 *
 * Who may write to the bot is left at OpenClaw's default, pairing: unknown senders get a code that
 * the owner approves.
 */
export const CHANNELS = Object.freeze({
  discord: { secrets: { token: "DISCORD_TOKEN" } },
  slack: {
    // Socket mode needs no public address, but a token of its own.
    settings: { mode: "socket" },
    secrets: { botToken: "SLACK_TOKEN", appToken: "SLACK_APP_TOKEN" },
  },
  telegram: { secrets: { botToken: "TELEGRAM_TOKEN" } },
  // It has no token: its owner links it to a phone, and OpenClaw keeps the session in its state.
  whatsapp: { secrets: {} },
});
