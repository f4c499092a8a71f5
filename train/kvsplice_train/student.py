"""A batch of lessons over documents that are encoded with the adapter, each alone behind the prefix, and spliced."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .adapter import Adapter
from .decoder import Decoder, Encoding
from .prompts import PromptSet, padded, rows_behind, valid_of
from .teacher import Lesson, divergence

# Documents that are encoded in one pass: of like length, so that little is padding.
LIKE_LENGTHS = 32


@dataclass(frozen=True)
class Graded:
    """By token of the answers: KL divergence from the teacher, with a gradient where there was one; whether the likeliest token
    is the same."""

    divergence: torch.Tensor
    same: torch.Tensor


def answer_lessons(decoder: Decoder, prompts: PromptSet, lessons: list[Lesson], adapter: Adapter | None) -> Graded:
    device, prefix = decoder.device, list(prompts.prefix)
    answering = adapter.answering if adapter else None
    with torch.set_grad_enabled(torch.is_grad_enabled() and answering is not None):
        before, _ = decoder.encode(torch.tensor([prefix], device=device), answering)
    names = sorted({name for lesson in lessons for name in lesson.question.documents}, key=lambda name: len(prompts.documents[name]))
    encodings, start, at = [before], {}, len(prefix)
    for first in range(0, len(names), LIKE_LENGTHS):
        part = names[first : first + LIKE_LENGTHS]
        ids = padded([prefix + list(prompts.documents[name]) for name in part], device)
        encodings.append(decoder.encode(ids, adapter)[0])
        for name in part:
            start[name] = at + len(prefix)
            at += ids.shape[1]
    joined = Encoding(
        [torch.cat([e.keys[layer].flatten(0, 1) for e in encodings])[None] for layer in range(decoder.config.layers)],
        [torch.cat([e.values[layer].flatten(0, 1) for e in encodings])[None] for layer in range(decoder.config.layers)],
    )
    sources = [
        list(range(len(prefix)))
        + [at for name in lesson.question.documents for at in range(start[name], start[name] + len(prompts.documents[name]))]
        for lesson in lessons
    ]
    cache = decoder.splice(joined, padded(sources, device), valid_of(sources, device))
    behind = [list(lesson.question.tokens) + list(lesson.answer[:-1]) for lesson in lessons]
    rows = rows_behind(cache.visible.sum(1), behind, device)
    hidden, _, _ = decoder.run(rows, cache, answering)
    answers = torch.cat([hidden[i, len(lesson.question.tokens) - 1 :][: len(lesson.answer)] for i, lesson in enumerate(lessons)])
    logits = decoder.logits(answers)
    tokens = torch.cat([lesson.likeliest for lesson in lessons]).to(device)
    values = torch.cat([lesson.log_probabilities for lesson in lessons]).to(device)
    return Graded(divergence(logits, tokens, values), logits.argmax(-1) == tokens[:, 0])
