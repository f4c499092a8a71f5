"""Tiny random models as GGUF files, for tests and golden values."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch

from .weights import MODULES, NORMS, OUTSIDE, Config, Weights, pairs_of_halves, tied

TINY = {"layers": 3, "hidden": 32, "heads": 4, "kv_heads": 2, "head_size": 16, "feed_forward": 64, "vocabulary": 96, "norm_epsilon": 1e-6}


def tiny_model(architecture: str, seed: int) -> Weights:
    """Random weights, large enough that attention is far from uniform."""
    config = Config(architecture=architecture, rotary_base=10000.0, **TINY)
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, spread: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * spread

    queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
    tensors = {
        "model.embed_tokens.weight": random(config.vocabulary, config.hidden),
        "model.norm.weight": 1 + random(config.hidden, spread=0.1),
        "lm_head.weight": random(config.vocabulary, config.hidden, spread=config.hidden**-0.5 * 3),
    }
    for layer in range(config.layers):
        at = f"model.layers.{layer}"
        shapes = {
            "self_attn.q_proj": (queries, config.hidden),
            "self_attn.k_proj": (keys, config.hidden),
            "self_attn.v_proj": (keys, config.hidden),
            "self_attn.o_proj": (config.hidden, queries),
            "mlp.gate_proj": (config.feed_forward, config.hidden),
            "mlp.up_proj": (config.feed_forward, config.hidden),
            "mlp.down_proj": (config.hidden, config.feed_forward),
        }
        for name, (outputs, inputs) in shapes.items():
            tensors[f"{at}.{name}.weight"] = random(outputs, inputs, spread=1.4 * inputs**-0.5)
            if architecture == "qwen2" and name.endswith(("q_proj", "k_proj", "v_proj")):
                tensors[f"{at}.{name}.bias"] = random(outputs, spread=0.3)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}.{norm}.weight"] = 1 + random(config.hidden, spread=0.1)
        if architecture == "qwen3":
            for norm in ("self_attn.q_norm", "self_attn.k_norm"):
                tensors[f"{at}.{norm}.weight"] = 1 + random(config.head_size, spread=0.1)
    return Weights(config, tied({name: tensor.half().float() for name, tensor in tensors.items()}))


def write_gguf(weights: Weights, path: Path) -> None:
    """Matrices in F16, the rest in F32, with a byte tokenizer."""
    config = weights.config
    writer = gguf.GGUFWriter(path, config.architecture)
    writer.add_name(f"tiny {config.architecture}")
    writer.add_block_count(config.layers)
    writer.add_context_length(4096)
    writer.add_embedding_length(config.hidden)
    writer.add_feed_forward_length(config.feed_forward)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_size)
    writer.add_value_length(config.head_size)
    writer.add_rope_dimension_count(config.head_size)
    writer.add_rope_freq_base(config.rotary_base)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_vocab_size(config.vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    # In GPT-2's alphabet, bytes 33 to 126 represent themselves; "~" makes room for the one merge that a reader may require.
    pieces = ["<|end|>", "Ġ"] + [chr(code) for code in range(33, 126)] + ["!!"]
    writer.add_token_list(pieces)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (config.vocabulary - 1))
    writer.add_token_merges(["! !"])
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    inner = {path: name for name, path in (MODULES | NORMS).items()}
    outer = {path: name for name, path in OUTSIDE.items()}
    for name, tensor in weights.tensors.items():
        stem, kind = name.rsplit(".", 1)
        if stem.startswith("model.layers."):
            layer, _, path_in_layer = stem.removeprefix("model.layers.").partition(".")
            ours = f"blk.{layer}.{inner[path_in_layer]}.{kind}"
        else:
            ours = f"{outer[stem]}.{kind}"
        if config.architecture == "llama" and ".attn_q." in ours:
            tensor = pairs_of_halves(tensor, config.heads)
        if config.architecture == "llama" and ".attn_k." in ours:
            tensor = pairs_of_halves(tensor, config.kv_heads)
        writer.add_tensor(ours, tensor.numpy().astype(np.float16 if tensor.dim() == 2 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
