"""Prompts of a question set with known passages and answers, and the scores of the answers."""

from __future__ import annotations

import gzip
import json
import re
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .documents import Card, Passage
from .tokenizer import ModelTokenizer

DOCUMENTS = 10
RESAMPLES = 4000
CLIP = 1.0


def benchmark_prompts(card: Card, tokenizer: ModelTokenizer, passages: Path, sets: dict[str, Path], limit: int | None) -> dict:
    """The JSON that `read_prompts` reads, including each question's `answers`. A passage is `{id, title, text}`, a question
    `{question, answers, gold, distractors}`: its gold passage and the first nine distractors, shuffled."""
    texts = {row["id"]: row for row in rows_of(passages)}
    draw, documents, questions = shuffler(7), {}, {}
    for name, path in sets.items():
        questions[name] = []
        for row in rows_of(path)[:limit]:
            order = [row["gold"], *row["distractors"][: DOCUMENTS - 1]]
            draw(order)
            for i in order:
                filled = card.filled(Passage(texts[i]["title"], texts[i]["text"]))
                documents.setdefault(i, tokenizer.tokens(filled)[: card.max_document_tokens])
            tokens = tokenizer.tokens(card.question.replace("{question}", row["question"]))
            questions[name].append({"documents": order, "tokens": tokens, "answers": row["answers"]})
    prefix = [*tokenizer.begin, *tokenizer.tokens(card.system)]
    example = tokenizer.tokens(card.filled(card.example)) if card.example else []
    return {"prefix": prefix, "example": example, "documents": documents, "questions": questions, "ends": tokenizer.ends}


def rows_of(path: Path) -> list[dict]:
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else open(path)
    with opened as lines:
        return [json.loads(line) for line in lines if line.strip()]


def shuffler(seed: int) -> Callable[[list], None]:
    """Fisher and Yates' shuffle in place, with a generator that any language can reproduce (Numerical Recipes' constants)."""

    def draws() -> Iterator[float]:
        state = seed
        while True:
            state = (state * 1664525 + 1013904223) % 2**32
            yield state / 2**32

    numbers = draws()

    def shuffle(items: list) -> None:
        for i in range(len(items) - 1, 0, -1):
            j = int(next(numbers) * (i + 1))
            items[i], items[j] = items[j], items[i]

    return shuffle


def normalised(text: str) -> str:
    """SQuAD's normalisation: lower case, without punctuation, articles and repeated spaces."""
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def contains(text: str, answers: list[str]) -> bool:
    found = normalised(text)
    return any(normalised(answer) in found for answer in answers)


# Measures that need no labels, from the divergence at each token of full attention's own answer: lower is better.
MEASURES: dict[str, Callable[[list[dict]], float]] = {
    "first token's KL": lambda d: float(np.mean([x["divergence"][0] for x in d])),
    "first token differs": lambda d: 1 - float(np.mean([x["same"][0] for x in d])),
    "mean KL of 8 tokens": lambda d: float(np.mean([np.mean(x["divergence"][:8]) for x in d])),
    "answer's KL, at most 1": lambda d: float(np.mean([min(CLIP, sum(x["divergence"])) for x in d])),
    "median of the answer's KL": lambda d: float(np.median([sum(x["divergence"]) for x in d])),
    "answer differs": lambda d: 1 - float(np.mean([all(x["same"]) for x in d])),
}


def scores(prompts: dict, results: dict, tokenizer: ModelTokenizer) -> dict:
    """For each set: each setting's accuracy (%), the difference from full attention with a 95 % interval (paired bootstrap), and the
    measures, and each measure's rank correlation with accuracy over the settings."""
    scored = {}
    for name, settings in results.items():
        asked = prompts["questions"][name]
        right = {
            setting: np.array([contains(tokenizer.text(answer), row["answers"]) for answer, row in zip(found["answers"], asked)], float)
            for setting, found in settings.items()
        }
        count = len(right["full"])
        draws = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
        table = {}
        for setting, found in settings.items():
            difference = right[setting] - right["full"]
            low, high = np.percentile(difference[draws].mean(1), [2.5, 97.5])
            table[setting] = {
                "accuracy": 100 * right[setting].mean(),
                "difference": 100 * difference.mean(),
                "interval": [100 * low, 100 * high],
                "recomputed": found.get("recomputed", 1.0),
                "measures": {m: measure(found["distances"]) for m, measure in MEASURES.items()} if "distances" in found else None,
            }
        compared = [row for row in table.values() if row["measures"]]
        accuracy = np.array([row["accuracy"] for row in compared])
        correlation = {m: -rank_correlation(np.array([row["measures"][m] for row in compared]), accuracy) for m in MEASURES}
        scored[name] = {"questions": count, "settings": table, "rank_correlation": correlation}
    return scored


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's; ties share the mean of their ranks. NaN for fewer than two different values."""

    def ranks(values: np.ndarray) -> np.ndarray:
        return np.array([(values < value).sum() + ((values == value).sum() - 1) / 2 for value in values])

    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def markdown(scored: dict) -> str:
    sets = list(scored)
    lines = ["| way | recomputed | " + " | ".join(sets) + " |", "|---|---|" + "---|" * len(sets)]
    for setting in dict.fromkeys(setting for found in scored.values() for setting in found["settings"]):
        rows = [scored[name]["settings"].get(setting) for name in sets]
        share = next(row["recomputed"] for row in rows if row)
        lines.append(f"| {setting} | {100 * share:.0f} % | " + " | ".join(map(cell, rows)) + " |")
    lines += ["", "| measure, rank correlation with accuracy | " + " | ".join(sets) + " |", "|---|" + "---|" * len(sets)]
    for measure in MEASURES:
        lines.append(f"| {measure} | " + " | ".join(f"{scored[name]['rank_correlation'][measure]:.2f}" for name in sets) + " |")
    return "\n".join(lines)


def cell(row: dict | None) -> str:
    if row is None:
        return ""
    if row["measures"] is None:
        return f"{row['accuracy']:.1f}"
    low, high = row["interval"]
    return f"{row['accuracy']:.1f} ({row['difference']:+.1f}; {low:+.1f} to {high:+.1f})"
