import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

type Environment = Readonly<Record<string, string | undefined>>;

/** How to reach the hub and where models are kept: the settings of Hugging Face's own tools, from the same variables. */
export type HubSettings = {
  /** `HF_ENDPOINT`, without a trailing slash. */
  readonly endpoint: string;
  /** `HF_TOKEN`, or the token that `hf auth login` saved in a file (`HF_TOKEN_PATH`). */
  readonly token: string | undefined;
  /** `HF_HUB_OFFLINE`: nothing is fetched. */
  readonly offline: boolean;
  /** `HF_HUB_CACHE`: Hugging Face's cache, where models are kept. */
  readonly cacheDir: string;
  /** `OLLAMA_MODELS`: where Ollama keeps its models. */
  readonly ollamaDirs: readonly string[];
  /** Where LM Studio keeps its models. */
  readonly lmStudioDirs: readonly string[];
};

export function hubSettings(env: Environment = process.env): HubSettings {
  const home = env["HOME"] ?? env["USERPROFILE"] ?? homedir();
  const place = (path: string) => (path === "~" || path.startsWith("~/") ? join(home, path.slice(1)) : path);
  const hfHome = place(given(env["HF_HOME"]) ?? join(given(env["XDG_CACHE_HOME"]) ?? join(home, ".cache"), "huggingface"));
  return {
    endpoint: (given(env["HF_ENDPOINT"]) ?? "https://huggingface.co").replace(/\/+$/, ""),
    token:
      given(env["HF_TOKEN"]) ??
      given(env["HUGGING_FACE_HUB_TOKEN"]) ??
      readToken(place(given(env["HF_TOKEN_PATH"]) ?? join(hfHome, "token"))),
    offline: isOn(env["HF_HUB_OFFLINE"]) || isOn(env["TRANSFORMERS_OFFLINE"]),
    cacheDir: place(given(env["HF_HUB_CACHE"]) ?? given(env["HUGGINGFACE_HUB_CACHE"]) ?? join(hfHome, "hub")),
    ollamaDirs: env["OLLAMA_MODELS"]
      ? [place(env["OLLAMA_MODELS"])]
      : [join(home, ".ollama", "models"), "/usr/share/ollama/.ollama/models"],
    lmStudioDirs: [join(home, ".lmstudio", "models"), join(home, ".cache", "lm-studio", "models")],
  };
}

function given(value: string | undefined): string | undefined {
  return value?.trim() || undefined;
}

function isOn(value: string | undefined): boolean {
  return ["1", "on", "yes", "true"].includes(value?.trim().toLowerCase() ?? "");
}

function readToken(path: string): string | undefined {
  try {
    return given(readFileSync(path, "utf8"));
  } catch {
    return undefined;
  }
}
