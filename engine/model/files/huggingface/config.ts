import { KvspliceError } from "../../../../plan/index.js";

/** A rotary embedding as transformers 4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`) write it. */
export type Rope = { readonly theta: number; readonly type: string; readonly values: Readonly<Record<string, unknown>> };

type Values = Readonly<Record<string, unknown>>;

/** A folder's `config.json`, read by key; null counts as absent. */
export class Config {
  private readonly values: Values;

  constructor(
    readonly path: string,
    whole: Values,
  ) {
    // Models that also see pictures have the settings of their text part here.
    const text = whole["text_config"];
    this.values =
      typeof text === "object" && text !== null ? { tie_word_embeddings: whole["tie_word_embeddings"], ...(text as Values) } : whole;
  }

  value(key: string): unknown {
    return this.values[key] ?? undefined;
  }

  text(key: string): string {
    const value = this.value(key);
    if (typeof value !== "string") throw this.wrong(key, "is missing");
    return value;
  }

  number(key: string, fallback?: number): number {
    const value = this.value(key) ?? fallback;
    if (typeof value !== "number" || !Number.isFinite(value))
      throw this.wrong(key, value === undefined ? "is missing" : `is ${JSON.stringify(value)}; it must be a number`);
    return value;
  }

  /** The key with its number, if it has one. */
  given(key: string): Values {
    return this.value(key) === undefined ? {} : { [key]: this.number(key) };
  }

  get layers(): number {
    return this.number("num_hidden_layers");
  }

  get headSize(): number {
    return this.number("head_dim", this.number("hidden_size") / this.number("num_attention_heads"));
  }

  /** The rotary embedding of all layers, or of one type of layer if the types differ. */
  ropeOf(layerType: "full_attention" | "sliding_attention"): Rope {
    const parameters = objectOf(this.value("rope_parameters"));
    if (parameters) {
      const own = objectOf(parameters[layerType]) ?? parameters;
      return {
        theta: Number(own["rope_theta"] ?? this.number("rope_theta", 10_000)),
        type: String(own["rope_type"] ?? own["type"] ?? "default"),
        values: own,
      };
    }
    const theta = this.number("rope_theta", 10_000);
    const local = this.value("rope_local_base_freq"); // Gemma 3: layers with a window have this base, and no scaling
    if (layerType === "sliding_attention" && local !== undefined) return { theta: Number(local), type: "default", values: {} };
    const scaling = objectOf(this.value("rope_scaling"));
    return scaling
      ? { theta, type: String(scaling["rope_type"] ?? scaling["type"] ?? "default"), values: scaling }
      : { theta, type: "default", values: {} };
  }

  wrong(key: string, what: string): KvspliceError {
    return new KvspliceError("bad_model", `${key} of ${this.path} ${what}.`);
  }
}

function objectOf(value: unknown): Values | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Values) : undefined;
}
