"""A decoder's shape and weights, from a GGUF file (dequantised) or a Hugging Face folder, under Hugging Face's names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors import safe_open


class ModelError(Exception):
    """The model cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Config:
    """The shape of a Llama-like decoder."""

    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    rotary_base: float
    norm_epsilon: float


@dataclass(frozen=True)
class Weights:
    """Tensors are float32 and row-major `[out, in]`; rows of q and k are in halves, as in Hugging Face's files."""

    config: Config
    tensors: dict[str, torch.Tensor]


ARCHITECTURES = ("llama", "qwen2", "qwen3")

# Modules of a layer: name in GGUF -> name in Hugging Face's and PEFT's files.
MODULES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NORMS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def read_weights(path: str | Path) -> Weights:
    """Reads a GGUF file or a Hugging Face folder. Raises ModelError for anything unsupported."""
    path = Path(path)
    if path.is_dir():
        return read_folder(path)
    if path.is_file():
        return read_gguf(path)
    raise ModelError(f"{path} does not exist. Give a .gguf file or a Hugging Face folder.")


def read_gguf(path: Path) -> Weights:
    reader = gguf.GGUFReader(path)
    metadata = {name: field.contents() for name, field in reader.fields.items() if not name.startswith(("GGUF.", "tokenizer."))}
    config = gguf_config(metadata, {tensor.name: [int(n) for n in reversed(tensor.shape)] for tensor in reader.tensors})
    tensors = {}
    for tensor in reader.tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
        tensors[hugging_face_name(tensor.name)] = from_gguf_order(config, tensor.name, torch.from_numpy(np.ascontiguousarray(values)))
    return Weights(config, tied(tensors))


def gguf_config(metadata: dict, shapes: dict[str, list[int]]) -> Config:
    architecture = metadata["general.architecture"]
    if architecture not in ARCHITECTURES:
        raise ModelError(f'Architecture "{architecture}" is not supported; use one of {", ".join(ARCHITECTURES)}.')
    if metadata.get(f"{architecture}.rope.scaling.type", "none") != "none" or "rope_freqs.weight" in shapes:
        raise ModelError("Rotary scaling is not supported; use a model without it.")

    def number(key: str, fallback=None):
        value = metadata.get(f"{architecture}.{key}", fallback)
        if value is None:
            raise ModelError(f"The model file lacks {architecture}.{key}. Convert the model to GGUF again.")
        return value

    heads, hidden = number("attention.head_count"), number("embedding_length")
    return Config(
        architecture=architecture,
        layers=number("block_count"),
        hidden=hidden,
        heads=heads,
        kv_heads=number("attention.head_count_kv", heads),
        head_size=number("attention.key_length", hidden // heads),
        feed_forward=number("feed_forward_length"),
        vocabulary=shapes["token_embd.weight"][0],
        rotary_base=number("rope.freq_base", 10000.0),
        norm_epsilon=number("attention.layer_norm_rms_epsilon"),
    )


def hugging_face_name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    parts = name.split(".")
    if parts[0] == "blk":
        known = MODULES.get(parts[2]) or NORMS.get(parts[2])
        if known is None:
            raise ModelError(f"Tensor {name} is not understood; use a model of {', '.join(ARCHITECTURES)}.")
        return f"model.layers.{parts[1]}.{known}.{parts[3]}"
    if parts[0] not in OUTSIDE:
        raise ModelError(f"Tensor {name} is not understood; use a model of {', '.join(ARCHITECTURES)}.")
    return f"{OUTSIDE[parts[0]]}.{parts[1]}"


def from_gguf_order(config: Config, name: str, values: torch.Tensor) -> torch.Tensor:
    """Llama files have the rows of q and k in interleaved pairs; here they are in halves."""
    if config.architecture != "llama":
        return values
    if name.endswith(("attn_q.weight", "attn_q.bias")):
        return halves_of_pairs(values, config.heads)
    if name.endswith(("attn_k.weight", "attn_k.bias")):
        return halves_of_pairs(values, config.kv_heads)
    return values


def halves_of_pairs(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """`[heads * size, ...]`: in each head, rows 0, 1, 2, 3, ... of pairs become 0, 2, ..., 1, 3, ... of halves."""
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1).transpose(1, 2).reshape(rows.shape)


def pairs_of_halves(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """The inverse of `halves_of_pairs`: the order in a llama GGUF."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).transpose(1, 2).reshape(rows.shape)


def read_folder(path: Path) -> Weights:
    settings = json.loads((path / "config.json").read_text())
    architecture = settings["model_type"]
    if architecture not in ARCHITECTURES:
        raise ModelError(f'Architecture "{architecture}" is not supported; use one of {", ".join(ARCHITECTURES)}.')
    rotary = settings.get("rope_parameters") or {}
    scaling = settings.get("rope_scaling") or rotary
    if scaling.get("rope_type", scaling.get("type", "default")) != "default":
        raise ModelError("Rotary scaling is not supported; use a model without it.")
    if settings.get("use_sliding_window"):
        raise ModelError("Sliding windows are not supported; use a model without them.")
    heads, hidden = settings["num_attention_heads"], settings["hidden_size"]
    config = Config(
        architecture=architecture,
        layers=settings["num_hidden_layers"],
        hidden=hidden,
        heads=heads,
        kv_heads=settings.get("num_key_value_heads") or heads,
        head_size=settings.get("head_dim") or hidden // heads,
        feed_forward=settings["intermediate_size"],
        vocabulary=settings["vocab_size"],
        rotary_base=settings.get("rope_theta") or rotary.get("rope_theta", 10000.0),
        norm_epsilon=settings["rms_norm_eps"],
    )
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{path} contains no .safetensors file. Save the model as safetensors.")
    tensors = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            tensors |= {name: opened.get_tensor(name).float() for name in opened.keys()}
    return Weights(config, tied(tensors))


def tied(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
    return tensors
