const REASONS = {
  recurrent: "keeps a recurrent state, which depends on everything before it: a document's state cannot be computed apart from the prompt",
  experts: "chooses experts for each token in a way that is not supported",
} as const;

/** Architectures of GGUF files that are refused for a specific reason. */
const REFUSED: Readonly<Record<keyof typeof REASONS, readonly string[]>> = {
  recurrent: [
    ...["mamba", "mamba2", "jamba", "falcon-h1", "plamo2", "granitehybrid", "nemotron_h", "nemotron_h_moe", "lfm2", "lfm2moe"],
    ...["qwen3next", "qwen35", "qwen35moe", "kimi-linear", "minimax-01", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"],
  ],
  experts: [
    ...["qwen2moe", "qwen3vlmoe", "llama4", "phimoe", "granitemoe", "olmoe", "dbrx", "deepseek", "deepseek2", "glm4moe"],
    ...[
      "ernie4_5-moe",
      "hunyuan-moe",
      "bailingmoe",
      "bailingmoe2",
      "dots1",
      "exaone-moe",
      "minimax-m2",
      "cohere2moe",
      "arctic",
      "grok",
      "grovemoe",
    ],
  ],
};

/** Why an architecture is refused, as a clause that follows its name; undefined for unknown architectures. */
export function reasonToRefuse(architecture: string): string | undefined {
  for (const [reason, architectures] of Object.entries(REFUSED)) {
    if (architectures.includes(architecture)) return REASONS[reason as keyof typeof REASONS];
  }
  return undefined;
}
