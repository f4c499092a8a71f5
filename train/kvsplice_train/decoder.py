"""The decoder in PyTorch: passes that encode a text by itself, and passes of fresh tokens over spliced KV."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .adapter import TARGETS, Adapter
from .weights import Weights

MAX_POSITIONS = 32768


@dataclass(frozen=True)
class Encoding:
    """KV of sequences that were each computed separately: per layer, K before the rotary embedding and V,
    `[sequences, tokens, kv_heads, size]`."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]


@dataclass(frozen=True)
class Cache:
    """KV of a batch of prompts: per layer, K with its rotary embedding and V, `[prompts, kv_heads, tokens, size]`.
    `positions` and `visible` are `[prompts, tokens]`; what is not visible is padding, or has been recomputed."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    positions: torch.Tensor
    visible: torch.Tensor


@dataclass(frozen=True)
class Rows:
    """Fresh tokens of a batch: ids and positions `[prompts, rows]`, padded where `valid` is false."""

    ids: torch.Tensor
    positions: torch.Tensor
    valid: torch.Tensor


class Trace:
    """Outputs of some layers, recorded during a pass: `states[layer] [prompts, rows, hidden]`."""

    def __init__(self, layers: Iterable[int]):
        self.layers, self.states = set(layers), {}

    def take(self, layer: int, x: torch.Tensor) -> None:
        if layer in self.layers:
            self.states[layer] = x


class Decoder:
    def __init__(self, weights: Weights, device: str = "cpu", dtype: torch.dtype = torch.float32):
        self.config, self.device, self.dtype = weights.config, device, dtype
        self.tensors = {name: tensor.to(device, dtype) for name, tensor in weights.tensors.items()}
        size = self.config.head_size
        inverse = self.config.rotary_base ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        angles = torch.arange(MAX_POSITIONS, dtype=torch.float64)[:, None] * inverse
        self.cosines, self.sines = angles.cos().float().to(device), angles.sin().float().to(device)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.tensors["model.embed_tokens.weight"])

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[..., hidden]` from the last layer -> `[..., vocabulary]` in float32."""
        return F.linear(self.norm(hidden, "model.norm"), self.tensors["lm_head.weight"]).float()

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.rms_norm(x, x.shape[-1:], self.tensors[f"{name}.weight"], self.config.norm_epsilon)

    def project(self, layer: int, module: str, x: torch.Tensor, adapter: Adapter | None) -> torch.Tensor:
        name = f"model.layers.{layer}.{TARGETS[module]}"
        y = F.linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))
        if adapter is not None and (layer, module) in adapter.pairs:
            a, b = adapter.pairs[layer, module]
            y = y + F.linear(F.linear(x, a.to(self.dtype)), b.to(self.dtype)) * adapter.scale
        return y

    def queries_keys_values(self, layer: int, x: torch.Tensor, adapter: Adapter | None):
        """`x [batch, rows, hidden]` -> q, k, v `[batch, rows, heads, size]`, without the rotary embedding."""
        h = self.norm(x, f"model.layers.{layer}.input_layernorm")
        size = self.config.head_size
        q, k, v = (self.project(layer, f"{m}_proj", h, adapter).unflatten(-1, (-1, size)) for m in "qkv")
        if self.config.architecture == "qwen3":
            q = self.norm(q, f"model.layers.{layer}.self_attn.q_norm")
            k = self.norm(k, f"model.layers.{layer}.self_attn.k_norm")
        return q, k, v

    def rotate(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """`x [batch, rows, heads, size]` at `positions [batch, rows]`."""
        cosines, sines = self.cosines[positions][:, :, None], self.sines[positions][:, :, None]
        first, second = x.float().chunk(2, -1)
        return torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1).to(self.dtype)

    def after_attention(self, layer: int, x: torch.Tensor, attended: torch.Tensor, adapter: Adapter | None) -> torch.Tensor:
        x = x + self.project(layer, "o_proj", attended, adapter)
        h = self.norm(x, f"model.layers.{layer}.post_attention_layernorm")
        gate, up = self.project(layer, "gate_proj", h, adapter), self.project(layer, "up_proj", h, adapter)
        return x + self.project(layer, "down_proj", F.silu(gate) * up, adapter)

    def encode(
        self,
        ids: torch.Tensor,
        adapter: Adapter | None = None,
        hidden: bool = False,
        layers: int | None = None,
        trace: Trace | None = None,
    ) -> tuple[Encoding, torch.Tensor | None]:
        """Sequences `ids [sequences, tokens]`, padded on the right, each by itself with causal attention from position 0.
        The last layer's output `[sequences, tokens, hidden]` is computed if `hidden` is set. `layers` limits the number of layers."""
        positions = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
        x, keys, values = self.embed(ids), [], []
        count = layers or self.config.layers
        for layer in range(count):
            q, k, v = self.queries_keys_values(layer, x, adapter)
            keys.append(k)
            values.append(v)
            if layer == count - 1 and not hidden:
                return Encoding(keys, values), None
            q, k = self.rotate(q, positions), self.rotate(k, positions)
            heads_first = (tensor.transpose(1, 2) for tensor in (q, k, v))
            attended = F.scaled_dot_product_attention(*heads_first, is_causal=True, enable_gqa=True)
            x = self.after_attention(layer, x, attended.transpose(1, 2).flatten(2), adapter)
            if trace is not None:
                trace.take(layer, x)
        return Encoding(keys, values), x

    def splice(self, encoding: Encoding, source: torch.Tensor, visible: torch.Tensor) -> Cache:
        """Joins encoded tokens into prompts: token j of a prompt is token `source[prompt, j]` of the encoding's flattened sequences,
        at position j."""
        positions = torch.arange(source.shape[1], device=source.device).expand(source.shape)

        def taken(tensor: torch.Tensor) -> torch.Tensor:
            # The gradient of index_select is summed without sorting, unlike that of indexing.
            return tensor.flatten(0, 1).index_select(0, source.flatten()).unflatten(0, source.shape)

        keys = [self.rotate(taken(k), positions).transpose(1, 2) for k in encoding.keys]
        return Cache(keys, [taken(v).transpose(1, 2) for v in encoding.values], positions, visible)

    def run(self, rows: Rows, cache: Cache, adapter: Adapter | None = None, watch: range = range(0), trace: Trace | None = None):
        """Fresh rows over the cache and over each other: a row sees what is visible at positions up to its own.
        Returns the last layer's output `[prompts, rows, hidden]`, the cache with the rows appended, and for each watched layer
        the attention `[prompts, heads, rows, cached tokens]`."""
        config = self.config
        group = config.heads // config.kv_heads
        prompts, count = rows.ids.shape
        cached = cache.positions.shape[1]
        seen = cache.visible[:, None] & (cache.positions[:, None] <= rows.positions[:, :, None])
        among = rows.valid[:, None] & (rows.positions[:, None] <= rows.positions[:, :, None])
        among = among | torch.eye(count, dtype=torch.bool, device=among.device)
        hidden_from = ~torch.cat([seen, among], 2)[:, None].expand(-1, group, -1, -1).reshape(prompts, 1, group * count, -1)
        x, keys, values, watched = self.embed(rows.ids), [], [], []
        for layer in range(config.layers):
            q, k, v = self.queries_keys_values(layer, x, adapter)
            q, k = self.rotate(q, rows.positions), self.rotate(k, rows.positions)
            keys.append(torch.cat([cache.keys[layer], k.transpose(1, 2)], 2))
            values.append(torch.cat([cache.values[layer], v.transpose(1, 2)], 2))
            grouped = q.unflatten(2, (config.kv_heads, group)).permute(0, 2, 3, 1, 4).flatten(2, 3)
            scores = (grouped @ keys[-1].transpose(-1, -2)).float() * config.head_size**-0.5
            weights = scores.masked_fill(hidden_from, float("-inf")).softmax(-1)
            if layer in watch:
                watched.append(weights.unflatten(2, (group, count)).flatten(1, 2)[..., :cached])
            attended = (weights.to(self.dtype) @ values[-1]).unflatten(2, (group, count)).permute(0, 3, 1, 2, 4).flatten(2)
            x = self.after_attention(layer, x, attended, adapter)
            if trace is not None:
                trace.take(layer, x)
        longer = Cache(keys, values, torch.cat([cache.positions, rows.positions], 1), torch.cat([cache.visible, rows.valid], 1))
        return x, longer, watched
