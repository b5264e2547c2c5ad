// The AI providers and channels this image knows, and what OpenClaw wants to be told about each.

/**
 * A provider that OpenClaw brings along: it knows the address, the protocol and the models.
 * @param {object} [settings] further fields of `models.providers.<id>`
 */
const stock = (settings = {}) => ({ settings });

/**
 * A provider whose own plugin is not in OpenClaw's package: named with its address and protocol instead.
 * OpenClaw would otherwise try to download the plugin whenever it starts, so the plugin is switched off.
 * @param {string} baseUrl
 */
const compatible = (baseUrl) => ({
  settings: { baseUrl, api: "openai-completions" },
  listModel: true,
  pluginOff: true,
});

/**
 * By AI_PROVIDER, which is OpenClaw's own provider id. The key is read from {PROVIDER}_API_KEY.
 *
 * - `settings`: fields of `models.providers.<id>`
 * - `listModel`: the model must be listed there, because no catalogue or discovery supplies it
 * - `pluginOff`: see `compatible`
 * - `keyless`: the key file is optional; this stands for it where there is none
 * - `baseUrlVariable`: the environment variable that overrides `settings.baseUrl`
 */
export const PROVIDERS = Object.freeze({
  anthropic: stock(),
  cerebras: compatible("https://api.cerebras.ai/v1"),
  deepinfra: compatible("https://api.deepinfra.com/v1/openai"),
  deepseek: compatible("https://api.deepseek.com"),
  fireworks: compatible("https://api.fireworks.ai/inference/v1"),
  google: stock(),
  groq: compatible("https://api.groq.com/openai/v1"),
  huggingface: stock(),
  minimax: stock(),
  mistral: compatible("https://api.mistral.ai/v1"),
  moonshot: compatible("https://api.moonshot.ai/v1"),
  nvidia: stock(),
  ollama: {
    // The native address: OpenClaw warns that tool calls break on Ollama's /v1.
    settings: { baseUrl: "http://host.docker.internal:11434", api: "ollama" },
    listModel: true,
    // OpenClaw's marker for an Ollama on a private address; not a secret.
    keyless: "ollama-local",
    baseUrlVariable: "OLLAMA_BASE_URL",
  },
  // OpenClaw's default for OpenAI is the Codex runtime, a plugin that it would download on every start.
  openai: stock({ agentRuntime: { id: "openclaw" } }),
  openrouter: stock(),
  together: stock(),
  xai: stock(),
});

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
});
