"""A batch of lessons over documents that are encoded with the adapter, each separately after the prefix and the example, and spliced."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .adapter import Adapter
from .decoder import Decoder, Encoding, Trace
from .linking import again, highest, looked_at
from .prompts import Context, PromptSet, padded, rows_behind, valid_of
from .teacher import Lesson, divergence, layers_of_states

# Documents encoded in one pass: of similar length, so that there is little padding.
LIKE_LENGTHS = 32
# Which attention chooses what is recomputed: kvsplice's rule.
LOOKING_LAYERS, LOOKING_ROWS, OTHERS_COUNT = (0.5, 1.0), 5, 0.1


@dataclass(frozen=True)
class Graded:
    """For each token of the answers: KL divergence from the teacher, with a gradient if there was one, and whether the likeliest token
    is the same. For each lesson: how far the states of the question's tokens are from the teacher's, relative to these (squares, mean over
    tokens and layers)."""

    divergence: torch.Tensor
    same: torch.Tensor
    apart: torch.Tensor


def answer_lessons(
    decoder: Decoder, prompts: PromptSet, lessons: list[Lesson], adapter: Adapter | None, recompute: float = 0.0
) -> Graded:
    """`recompute` is the share of document tokens that are recomputed in place, chosen as in kvsplice."""
    device = decoder.device
    answering = adapter.answering if adapter else None
    context = context_of(decoder, prompts, lessons, adapter)
    questions = [list(lesson.question.tokens) for lesson in lessons]
    rows = rows_behind(context.lengths, [question + list(lesson.answer[:-1]) for question, lesson in zip(questions, lessons)], device)
    cache, behind = context.cache, 0
    if recompute:
        with torch.no_grad():
            asked = rows_behind(context.lengths, questions, device)
            looks = looked_at(decoder, context, asked, LOOKING_LAYERS, LOOKING_ROWS, answering, OTHERS_COUNT)
            chosen = highest(looks, context, recompute)
        count = rows.ids.shape[1]
        rows, cache = again(context, chosen, rows)
        behind = rows.ids.shape[1] - count
    trace = Trace(layers_of_states(decoder.config.layers))
    hidden, _, _ = decoder.run(rows, cache, answering, trace=trace)
    answers = torch.cat([hidden[i, behind + len(q) - 1 :][: len(lesson.answer)] for i, (q, lesson) in enumerate(zip(questions, lessons))])
    logits = decoder.logits(answers)
    tokens = torch.cat([lesson.likeliest for lesson in lessons]).to(device)
    values = torch.cat([lesson.log_probabilities for lesson in lessons]).to(device)
    states = torch.stack([trace.states[layer] for layer in sorted(trace.states)])[:, :, behind:]
    apart = [distance(states[:, i, : len(q)], lesson.states.to(device)) for i, (q, lesson) in enumerate(zip(questions, lessons))]
    return Graded(divergence(logits, tokens, values), logits.argmax(-1) == tokens[:, 0], torch.stack(apart))


def distance(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Both are `[layers, tokens, hidden]`."""
    expected = expected.float()
    return ((found.float() - expected).pow(2).sum(-1) / expected.pow(2).sum(-1)).mean()


def context_of(decoder: Decoder, prompts: PromptSet, lessons: list[Lesson], adapter: Adapter | None) -> Context:
    device, prefix = decoder.device, list(prompts.prefix)
    answering = adapter.answering if adapter else None
    first = torch.tensor([prefix], device=device)
    with torch.set_grad_enabled(torch.is_grad_enabled() and answering is not None):
        before, _ = decoder.encode(first, answering)
    behind = [*prompts.prefix, *prompts.example]
    names = sorted({name for lesson in lessons for name in lesson.question.documents}, key=lambda name: len(prompts.documents[name]))
    encodings, encoded, start, at = [before], [first[0]], {}, len(prefix)
    for place in range(0, len(names), LIKE_LENGTHS):
        part = names[place : place + LIKE_LENGTHS]
        ids = padded([behind + list(prompts.documents[name]) for name in part], device)
        encodings.append(decoder.encode(ids, adapter)[0])
        encoded.append(ids.flatten())
        for name in part:
            start[name] = at + len(behind)
            at += ids.shape[1]
    joined = Encoding(
        [torch.cat([e.keys[layer].flatten(0, 1) for e in encodings])[None] for layer in range(decoder.config.layers)],
        [torch.cat([e.values[layer].flatten(0, 1) for e in encodings])[None] for layer in range(decoder.config.layers)],
    )
    sources, documents = [], []
    for lesson in lessons:
        source, document = list(range(len(prefix))), [-1] * len(prefix)
        for place, name in enumerate(lesson.question.documents):
            length = len(prompts.documents[name])
            source += range(start[name], start[name] + length)
            document += [place] * length
        sources.append(source)
        documents.append(document)
    source = padded(sources, device)
    cache = decoder.splice(joined, source, valid_of(sources, device))
    return Context(cache, torch.cat(encoded)[source], padded(documents, device, fill=-1))
