"""What an adapter is trained on: questions over retrieved documents, grouped so that a step encodes each document once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import bm25s

from .prompts import Question


@dataclass(frozen=True)
class Asked:
    """A question that has no documents yet: its text for retrieval, its tokens, and the documents that it needs."""

    text: str
    tokens: tuple[int, ...]
    needs: tuple[str, ...]


def retrieve(texts: dict[str, str], questions: list[str], count: int) -> list[list[str]]:
    """Ids of the documents that BM25 ranks highest for each question."""
    names = list(texts)
    index = bm25s.BM25()
    index.index(bm25s.tokenize([texts[name] for name in names], stopwords="en", show_progress=False), show_progress=False)
    found, _ = index.retrieve(bm25s.tokenize(questions, stopwords="en", show_progress=False), k=min(count, len(names)), show_progress=False)
    return [[names[i] for i in row] for row in found]


def grouped(
    asked: list[Asked], texts: dict[str, str], documents: int, pool: int, questions: int, rng: random.Random
) -> Iterator[list[Question]]:
    """Groups of up to `questions` questions over a pool of up to `pool` documents: what the first question needs and what is retrieved
    for it. Each question has the documents that it needs, filled up from the pool to `documents`, in random order. A
    question is used once."""
    order = list(range(len(asked)))
    rng.shuffle(order)
    neighbours = retrieve(texts, [asked[i].text for i in order], pool + 4)
    about: dict[str, list[int]] = {}
    for i in order:
        about.setdefault(asked[i].needs[0], []).append(i)
    used: set[int] = set()
    for i, found in zip(order, neighbours):
        if i in used:
            continue
        needs = asked[i].needs
        names = (list(needs) + [name for name in found if name not in needs])[:pool]
        near = [j for name in names for j in about.get(name, []) if j not in used and j != i and set(asked[j].needs) <= set(names)]
        rng.shuffle(near)
        group = [i, *near[: questions - 1]]
        used.update(group)
        yield [over(asked[j], names, documents, rng) for j in group]


def over(asked: Asked, names: list[str], documents: int, rng: random.Random) -> Question:
    others = [name for name in names if name not in asked.needs]
    chosen = list(asked.needs) + rng.sample(others, min(len(others), max(0, documents - len(asked.needs))))
    rng.shuffle(chosen)
    return Question(tuple(chosen), asked.tokens)
