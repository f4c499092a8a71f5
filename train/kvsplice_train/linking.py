"""Which tokens of spliced documents are recomputed, in place, according to the question's attention."""

from __future__ import annotations

import torch

from .adapter import Adapter
from .decoder import Cache, Decoder, Rows
from .prompts import Context


def looked_at(
    decoder: Decoder,
    context: Context,
    question: Rows,
    layers: tuple[float, float],
    last: int | None = None,
    adapter: Adapter | None = None,
    others: float = 0.0,
) -> torch.Tensor:
    """One pass of the question over the spliced KV: the attention (after softmax) that each cached token gets, summed over the question's
    rows (or its `last` ones, the rest weighted by `others`), over all heads, and over the layers from `layers[0]` to `layers[1]` of the
    depth: `[prompts, tokens]`."""
    depth = decoder.config.layers
    watch = range(int(layers[0] * depth + 0.5), int(layers[1] * depth + 0.5))
    _, _, attention = decoder.run(question, context.cache, adapter, watch)
    counted = question.valid.float()
    if last is not None:
        behind = question.valid.sum(1, keepdim=True) - torch.arange(question.ids.shape[1], device=question.ids.device)
        counted = counted * torch.where(behind <= last, 1.0, others)
    total = torch.zeros(context.ids.shape, device=context.ids.device)
    for weights in attention:
        total += (weights * counted[:, None, :, None]).sum((1, 2))
    return total


def highest(scores: torch.Tensor, context: Context, share: float) -> torch.Tensor:
    """Marks `share` of each prompt's document tokens (rounded down), those with the highest scores: `[prompts, tokens]`."""
    allowed = context.document >= 0
    scores = scores.masked_fill(~allowed, float("-inf"))
    count = (share * allowed.sum(1) + 1e-6).long()
    rank = torch.argsort(scores, dim=1, descending=True, stable=True).argsort(1)
    return (rank < count[:, None]) & allowed


def first_tokens(context: Context, count: int) -> torch.Tensor:
    """Marks the first `count` tokens of each document (EPIC's LegoLink, arXiv 2410.15332)."""
    index = torch.arange(context.ids.shape[1], device=context.ids.device).expand(context.ids.shape)
    begins = torch.ones_like(context.document, dtype=torch.bool)
    begins[:, 1:] = context.document[:, 1:] != context.document[:, :-1]
    start = torch.where(begins, index, 0).cummax(1).values
    return (index - start < count) & (context.document >= 0)


def changed_keys(decoder: Decoder, context: Context, adapter: Adapter | None = None) -> torch.Tensor:
    """How much K of layer 1 changes when every document token is recomputed (CacheBlend, arXiv 2405.16444): `[prompts, tokens]`."""
    fresh, _ = decoder.encode(context.ids, adapter, layers=2)
    moved = decoder.rotate(fresh.keys[1], context.cache.positions).transpose(1, 2).float() - context.cache.keys[1].float()
    return moved.pow(2).sum((1, 3))


def documents_most(scores: torch.Tensor, context: Context, count: int) -> torch.Tensor:
    """Marks every token of the `count` documents with the most attention: `[prompts, tokens]`."""
    rank = documents_looked_at(scores, context).argsort(1, descending=True).argsort(1)
    return (rank.gather(1, context.document.clamp(min=0)) < count) & (context.document >= 0)


def documents_looked_at(scores: torch.Tensor, context: Context, unless_first: int = 2) -> torch.Tensor:
    """Each document's sum of scores, without its first tokens, which attract attention whatever they say: `[prompts, documents]`."""
    inner = (context.document >= 0) & ~first_tokens(context, unless_first)
    total = torch.zeros(scores.shape[0], int(context.document.max()) + 1, device=scores.device)
    return total.scatter_add(1, context.document.clamp(min=0), scores * inner)


def reordered(scores: torch.Tensor, before: Context, after: Context, orders: list[list[int]]) -> torch.Tensor:
    """Scores of the tokens of `before`, at their places in `after`, whose document d was document `orders[prompt][d]`."""
    moved = torch.zeros_like(after.ids, dtype=scores.dtype)
    for prompt, order in enumerate(orders):
        for place, was in enumerate(order):
            moved[prompt, after.document[prompt] == place] = scores[prompt, before.document[prompt] == was]
    return moved


def again(context: Context, chosen: torch.Tensor, question: Rows) -> tuple[Rows, Cache]:
    """The chosen tokens as fresh rows at their own positions, followed by the question; and the cache without their old KV."""
    counts = chosen.sum(1)
    widest = int(counts.max())
    # Stable: the chosen tokens keep their order, the rest is cut off or is padding.
    index = torch.argsort((~chosen).to(torch.uint8), dim=1, stable=True)[:, :widest]
    valid = torch.arange(widest, device=chosen.device)[None] < counts[:, None]
    rows = Rows(
        torch.cat([context.ids.gather(1, index), question.ids], 1),
        torch.cat([context.cache.positions.gather(1, index), question.positions], 1),
        torch.cat([valid, question.valid], 1),
    )
    cache = context.cache
    return rows, Cache(cache.keys, cache.values, cache.positions, cache.visible & ~chosen)
