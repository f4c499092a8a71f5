#!/usr/bin/env python3
"""
What rounding the activations of Gemma 3's linear layers costs, by where and by how much: correlation and difference of the
logits after two prompts, against those with float32 activations. All in PyTorch, with the weights as the file has them.

usage: activations.py GEMMA-3.gguf    (torch, numpy, gguf)
"""
import sys
import numpy as np, torch
from gguf import GGUFReader, dequantize

torch.set_grad_enabled(False)
reader = GGUFReader(sys.argv[1])
WEIGHTS = {tensor.name: torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)) for tensor in reader.tensors}
key = lambda name: reader.get_field(f"gemma3.{name}").contents()
LAYERS, HEADS, KV_HEADS, SIZE = key("block_count"), key("attention.head_count"), key("attention.head_count_kv"), key("attention.key_length")
HIDDEN, EPSILON, BASE, WINDOW_BASE = key("embedding_length"), key("attention.layer_norm_rms_epsilon"), key("rope.freq_base"), 10000.0

# "The capital of France is", and "def fibonacci(n): if n < 2: return n return": shorter than any window.
PROMPTS = [[818, 5279, 529, 7001, 563], [2063, 10779, 78113, 236769, 236749, 1473, 107, 140, 584, 538, 655, 236743, 236778, 236787, 107, 144, 2060, 538, 107, 140, 2060]]
PRODUCTS = ("qkv", "output", "gateUp", "down")
ALL = [(layer, product) for layer in range(LAYERS) for product in PRODUCTS] + [(LAYERS, "head")]


def rounded(bits, group=32):
    """Rounds each group to multiples of one scale, as MatMulNBits and llama.cpp do on the way into a product."""
    most = 2 ** (bits - 1) - 1

    def of(values):
        groups = values.reshape(-1, group)
        scale = groups.abs().amax(1, keepdim=True) / most
        scale[scale == 0] = 1
        return (torch.round(groups / scale) * scale).reshape(values.shape)

    return of


def norm(values, weight):
    return values * torch.rsqrt((values * values).mean(-1, keepdim=True) + EPSILON) * weight


def turn(values, base):
    """Rotary embedding of `[tokens, heads, size]` at positions from 0."""
    frequencies = 1 / base ** (torch.arange(0, SIZE, 2) / SIZE)
    angles = torch.arange(values.shape[0])[:, None] * frequencies
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second = values.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def logits(ids, rounding):
    """`rounding`: what is done to the input of each product, by layer and product; nothing where it has none."""
    count = len(ids)
    values = WEIGHTS["token_embd.weight"][ids] * HIDDEN**0.5
    mask = torch.full((count, count), -1e30).triu(1)
    for layer in range(LAYERS):
        weight = lambda name: WEIGHTS[f"blk.{layer}.{name}.weight"]

        def product(name, input, *matrices):
            input = rounding.get((layer, name), lambda same: same)(input)
            return [input @ weight(matrix).T for matrix in matrices]

        q, k, v = product("qkv", norm(values, weight("attn_norm")), "attn_q", "attn_k", "attn_v")
        base = BASE if layer % 6 == 5 else WINDOW_BASE
        q = turn(norm(q.reshape(count, HEADS, SIZE), weight("attn_q_norm")), base)
        k = turn(norm(k.reshape(count, KV_HEADS, SIZE), weight("attn_k_norm")), base)
        k, v = (each.reshape(count, KV_HEADS, SIZE).repeat_interleave(HEADS // KV_HEADS, 1) for each in (k, v))
        shares = (torch.einsum("ihd,jhd->hij", q, k) * SIZE**-0.5 + mask).softmax(-1)
        (attended,) = product("output", torch.einsum("hij,jhd->ihd", shares, v).reshape(count, -1), "attn_output")
        values = values + norm(attended, weight("post_attention_norm"))
        gate, up = product("gateUp", norm(values, weight("ffn_norm")), "ffn_gate", "ffn_up")
        (fed,) = product("down", torch.nn.functional.gelu(gate, approximate="tanh") * up, "ffn_down")
        values = values + norm(fed, weight("post_ffw_norm"))
    last = norm(values, WEIGHTS["output_norm.weight"])[-1]
    return WEIGHTS["token_embd.weight"] @ rounding.get((LAYERS, "head"), lambda same: same)(last)


EXACT = [logits(ids, {}) for ids in PROMPTS]


def show(name, rounding):
    cells = []
    for ids, exact in zip(PROMPTS, EXACT):
        found = logits(ids, rounding)
        correlation = torch.corrcoef(torch.stack([found, exact]))[0, 1]
        cells.append(f"{correlation:.5f}, {(found - exact).norm() / exact.norm():.4f}")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def but(of):
    return {place: rounded(8) for place in ALL if not of(*place)}


print("| rounded to | 5 tokens | 21 tokens |\n|---|---|---|")
for bits in (8, 9, 10, 12):
    show(f"{bits} bits, groups of 32", {place: rounded(bits) for place in ALL})
show("8 bits, groups of 16", {place: rounded(8, 16) for place in ALL})
for exact in PRODUCTS:
    show(f"8 bits, but not into {exact}", but(lambda _, product: product == exact))
show("8 bits, but not in the first 6 layers", but(lambda layer, _: layer < 6))
show("8 bits, but not in the first 9 layers", but(lambda layer, _: layer < 9))
show("8 bits, but not in the last 12 layers", but(lambda layer, _: layer >= 6))
alone = [(sum(float(1 - torch.corrcoef(torch.stack([logits(ids, {place: rounded(8)}), exact]))[0, 1]) for ids, exact in zip(PROMPTS, EXACT)), place) for place in ALL]
worst = [place for _, place in sorted(alone, reverse=True)]
for count in (4, 8, 16, 24):
    show(f"8 bits, but not into the {count} products that lose most alone", but(lambda *place: place in worst[:count]))
