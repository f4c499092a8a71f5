"""Answers to questions under several ways of linking, and how far each is from full attention."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .adapter import Adapter, load_adapter
from .answering import ANSWER_TOKENS, Distance, Reference, distance, full_attention, generate
from .decoder import Decoder
from .linking import again, changed_keys, documents_looked_at, documents_most, first_tokens, highest, looked_at, reordered
from .prompts import Context, Library, PromptSet, Question, encode_library, rows_behind, splice_prompts

# Number of tokens at an answer's first position whose log-probabilities are reported.
LIKELIEST = 16


@dataclass(frozen=True)
class Setting:
    """A way of linking. `recompute` is a share of the document tokens, or a count if `choose` is `first` (tokens of each document) or
    `documents`. `layers` (of the depth), `last` (rows) and `others` (weight of the other rows) determine which attention the choice
    sums up. With `example`, documents are also encoded after the prompts' example."""

    name: str
    behind_prefix: bool = False
    adapter: str | None = None
    recompute: float = 0.0
    choose: str = "question"
    layers: tuple[float, float] = (0.5, 1.0)
    last: int | None = None
    order: bool = False
    example: bool = False
    others: float = 0.0


@dataclass(frozen=True)
class Answered:
    """For each question: its answer's tokens, its distance from full attention, and the likeliest tokens at the answer's first position
    with their log-probabilities. `recomputed` is a share of the document tokens."""

    answers: list[list[int]]
    distances: list[Distance]
    first: list[tuple[list[int], list[float]]]
    recomputed: float


def parse_setting(text: str) -> Setting:
    """`none`, or a list joined by + of `prefix`, `adapter=FOLDER`, a choice (`recompute=0.15`, `random=0.15`, `deviation=0.15`, `first=8`,
    `documents=2`), and for the question's choice `layers=0.5:1`, `last=5`, `order`."""
    fields: dict = {"name": text}
    for part in text.split("+"):
        key, _, value = part.partition("=")
        match key:
            case "none":
                pass
            case "prefix":
                fields["behind_prefix"] = True
            case "adapter":
                fields |= {"adapter": value, "behind_prefix": True}
            case "recompute":
                fields["recompute"] = float(value)
            case "first" | "deviation" | "documents" | "random":
                fields |= {"recompute": float(value), "choose": key}
            case "layers":
                low, high = value.split(":")
                fields["layers"] = (float(low), float(high))
            case "last":
                fields["last"] = int(value)
            case "others":
                fields["others"] = float(value)
            case "order" | "example":
                fields[key] = True
            case _:
                raise ValueError(f'"{part}" of "{text}" is not a way of linking.')
    return Setting(**fields)


def references(decoder: Decoder, prompts: PromptSet, questions: list[Question], batch: int) -> list[Reference]:
    """Full attention's answers, in the order of the questions."""
    return by_length(prompts, questions, batch, lambda part: full_attention(decoder, prompts, [questions[i] for i in part]))


def by_length(prompts: PromptSet, questions: list[Question], batch: int, work: Callable[[list[int]], list]) -> list:
    """Works on batches of questions of like length; results in the order of the questions."""
    order = sorted(range(len(questions)), key=lambda i: prompts.tokens_of(questions[i]))
    results: list = [None] * len(questions)
    for at in range(0, len(order), batch):
        part = order[at : at + batch]
        for i, result in zip(part, work(part)):
            results[i] = result
    return results


def evaluate(
    decoder: Decoder,
    prompts: PromptSet,
    questions: list[Question],
    expected: list[Reference],
    settings: list[Setting],
    batch: int,
    report: Callable[[str], None] = print,
) -> dict[str, Answered]:
    """Documents are encoded once for all settings that encode them in the same way."""
    results = {}
    names = sorted({name for question in questions for name in question.documents})
    encodings: dict[tuple, list[Setting]] = {}
    for setting in settings:
        before = (prompts.prefix if setting.behind_prefix else ()) + (prompts.example if setting.example else ())
        encodings.setdefault((before, setting.adapter), []).append(setting)
    for (before, folder), alike in encodings.items():
        adapter = load_adapter(folder).to(decoder.device) if folder else None
        library = encode_library(decoder, prompts, names, before, adapter)
        for setting in alike:
            begun = time.time()
            results[setting.name] = answer_all(decoder, prompts, library, questions, expected, setting, adapter, batch)
            report(f"{setting.name}: {summary(results[setting.name])} in {time.time() - begun:.0f} s")
        del library
    return results


def summary(answered: Answered) -> str:
    first = sum(d.divergence[0] for d in answered.distances) / len(answered.distances)
    same = sum(d.same[0] for d in answered.distances) / len(answered.distances)
    return f"recomputed {answered.recomputed:.3f}, first token's KL {first:.3f}, same {same:.3f}"


@torch.no_grad()
def answer_all(
    decoder: Decoder,
    prompts: PromptSet,
    library: Library,
    questions: list[Question],
    expected: list[Reference],
    setting: Setting,
    adapter: Adapter | None,
    batch: int,
) -> Answered:
    answering = adapter.answering if adapter else None
    recomputed = of = 0

    def work(part: list[int]) -> list:
        nonlocal recomputed, of
        context, chosen = link(decoder, library, [questions[i] for i in part], setting, answering)
        recomputed += int(chosen.sum())
        of += int((context.document >= 0).sum())
        return answer_linked(decoder, prompts, context, chosen, [questions[i] for i in part], [expected[i] for i in part], answering)

    pairs = by_length(prompts, questions, batch, work)
    return Answered(*([pair[i] for pair in pairs] for i in range(3)), recomputed / of)


def link(
    decoder: Decoder, library: Library, questions: list[Question], setting: Setting, answering: Adapter | None
) -> tuple[Context, torch.Tensor]:
    """The spliced prompts in the order in which they are answered, and the tokens to recompute."""
    orders = [question.documents for question in questions]
    context = splice_prompts(decoder, library, orders)
    if not setting.recompute and not setting.order:
        return context, torch.zeros_like(context.cache.visible)
    match setting.choose:
        case "first":
            return context, first_tokens(context, int(setting.recompute))
        case "random":
            generator = torch.Generator().manual_seed(0)
            return context, highest(torch.rand(context.ids.shape, generator=generator).to(decoder.device), context, setting.recompute)
        case "deviation":
            return context, highest(changed_keys(decoder, context, answering), context, setting.recompute)
    asked = rows_behind(context.lengths, [list(question.tokens) for question in questions], decoder.device)
    scores = looked_at(decoder, context, asked, setting.layers, setting.last, answering, setting.others)
    if setting.choose == "documents":
        return context, documents_most(scores, context, int(setting.recompute))
    if setting.order:
        looks = documents_looked_at(scores, context).tolist()
        places = [sorted(range(len(order)), key=lambda d: look[d]) for order, look in zip(orders, looks)]
        moved = splice_prompts(decoder, library, [tuple(order[d] for d in place) for order, place in zip(orders, places)])
        context, scores = moved, reordered(scores, context, moved, places)
    return context, highest(scores, context, setting.recompute)


@torch.no_grad()
def answer_linked(
    decoder: Decoder,
    prompts: PromptSet,
    context: Context,
    chosen: torch.Tensor,
    questions: list[Question],
    expected: list[Reference],
    answering: Adapter | None,
) -> list[tuple[list[int], Distance, tuple[list[int], list[float]]]]:
    """One pass of the chosen tokens, the question and full attention's answer gives the distance; the answer is then generated without
    the rows of full attention's answer."""
    lengths, device = context.lengths, decoder.device
    asked = [list(question.tokens) for question in questions]
    given = [question + list(reference.answer[:-1]) for question, reference in zip(asked, expected)]
    rows, cache = again(context, chosen, rows_behind(lengths, given, device))
    hidden, longer, _ = decoder.run(rows, cache, answering)
    behind = rows.ids.shape[1] - max(map(len, given))
    results, last = [], []
    for i, (question, reference) in enumerate(zip(asked, expected)):
        at = behind + len(question) - 1
        logits = decoder.logits(hidden[i, at : at + len(reference.answer)])
        last.append(logits[0])
        results.append(distance(logits, reference))
    ends = lengths + torch.tensor([len(question) for question in asked], device=device)
    longer.visible.logical_and_(longer.positions < ends[:, None])
    answers, _ = generate(decoder, longer, ends, torch.stack(last), prompts.ends, ANSWER_TOKENS, answering)
    return list(zip(answers, results, (likeliest(logits.log_softmax(-1)) for logits in last)))


def likeliest(log_probabilities: torch.Tensor) -> tuple[list[int], list[float]]:
    values, tokens = log_probabilities.float().topk(min(LIKELIEST, log_probabilities.shape[-1]))
    return tokens.tolist(), values.tolist()
