"""Prompts as token ids: a prefix, documents, and then a question."""

from __future__ import annotations

import gzip
import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import torch

from .adapter import Adapter
from .decoder import Cache, Decoder, Encoding, Rows

# Tokens in one pass, including padding.
ENCODED_AT_ONCE = 12288


@dataclass(frozen=True)
class Question:
    """A question's own tokens, including what closes the prompt, and the documents before it in order."""

    documents: tuple[str, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class PromptSet:
    """`documents` by id, each including its template's text; `ends` are the tokens that end an answer. `example` is a document that may
    precede the others while they are encoded, after the prefix, so that none is computed as a prompt's first; no prompt contains it."""

    prefix: tuple[int, ...]
    documents: dict[str, tuple[int, ...]]
    questions: dict[str, list[Question]]
    ends: tuple[int, ...]
    example: tuple[int, ...] = ()

    def tokens_of(self, question: Question) -> int:
        return len(self.prefix) + sum(len(self.documents[d]) for d in question.documents) + len(question.tokens)


def read_prompts(path: str | Path) -> PromptSet:
    """A JSON file, gzipped or not: `{prefix, documents: {id: ids}, questions: {set: [{documents, tokens}]}, ends}`."""
    raw = Path(path).read_bytes()
    data = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    questions = {
        name: [Question(tuple(row["documents"]), tuple(row["tokens"])) for row in rows] for name, rows in data["questions"].items()
    }
    documents = {name: tuple(ids) for name, ids in data["documents"].items()}
    return PromptSet(tuple(data["prefix"]), documents, questions, tuple(data["ends"]), tuple(data.get("example", ())))


@dataclass(frozen=True)
class Library:
    """The encoded prefix and documents: one long row of tokens. `start[id]` is a document's first token."""

    encoding: Encoding
    ids: torch.Tensor
    start: dict[str, int]
    length: dict[str, int]
    prefix: int


@torch.no_grad()
def encode_library(
    decoder: Decoder, prompts: PromptSet, names: list[str], before: tuple[int, ...] = (), adapter: Adapter | None = None
) -> Library:
    """Encodes each document alone, or after the tokens `before`, with the adapter; and the prefix as the answering model computes it."""
    waiting = deque(sorted(names, key=lambda name: len(prompts.documents[name])))
    first, _ = decoder.encode(torch.tensor([prompts.prefix], device=decoder.device), adapter.answering if adapter else None)
    keys, values = [[k[0]] for k in first.keys], [[v[0]] for v in first.values]
    ids, start, length, at = list(prompts.prefix), {}, {}, len(prompts.prefix)
    while waiting:
        part = [waiting.popleft()]
        while waiting and (len(part) + 1) * (len(before) + len(prompts.documents[waiting[0]])) <= ENCODED_AT_ONCE:
            part.append(waiting.popleft())
        encoding, _ = decoder.encode(padded([before + prompts.documents[name] for name in part], decoder.device), adapter)
        for name in part:
            tokens = prompts.documents[name]
            start[name], length[name] = at, len(tokens)
            at += len(tokens)
            ids += tokens
        kept = padded([[0] * len(before) + [1] * len(prompts.documents[name]) for name in part], decoder.device).bool()
        for layer in range(decoder.config.layers):
            keys[layer].append(encoding.keys[layer][kept])
            values[layer].append(encoding.values[layer][kept])
    # Layer by layer, so that the joined parts can be freed at once.
    joined = Encoding([], [])
    for layer in range(decoder.config.layers):
        joined.keys.append(torch.cat(keys[layer])[None])
        joined.values.append(torch.cat(values[layer])[None])
        keys[layer] = values[layer] = []
    return Library(joined, torch.tensor(ids, device=decoder.device), start, length, len(prompts.prefix))


@dataclass(frozen=True)
class Context:
    """A batch of spliced prompts, without their questions. `document[prompt, token]` is the index of the token's document in the
    prompt, or -1; `ids` are the tokens; both are padded like the cache."""

    cache: Cache
    ids: torch.Tensor
    document: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        return self.cache.visible.sum(1)


def splice_prompts(decoder: Decoder, library: Library, orders: list[tuple[str, ...]]) -> Context:
    sources, documents = [], []
    for order in orders:
        source, document = list(range(library.prefix)), [-1] * library.prefix
        for place, name in enumerate(order):
            source += range(library.start[name], library.start[name] + library.length[name])
            document += [place] * library.length[name]
        sources.append(source)
        documents.append(document)
    source = padded(sources, decoder.device)
    visible = valid_of(sources, decoder.device)
    cache = decoder.splice(library.encoding, source, visible)
    return Context(cache, library.ids[source], padded(documents, decoder.device, fill=-1))


def rows_behind(lengths: torch.Tensor, sequences: list[list[int]], device: str) -> Rows:
    """Sequences as fresh rows that begin at each prompt's length."""
    ids, valid = padded(sequences, device), valid_of(sequences, device)
    positions = lengths[:, None] + torch.arange(ids.shape[1], device=device)
    return Rows(ids, positions, valid)


def padded(sequences: list, device: str, fill: int = 0) -> torch.Tensor:
    """`[sequences, longest]`, padded on the right."""
    longest = max(map(len, sequences))
    rows = [list(sequence) + [fill] * (longest - len(sequence)) for sequence in sequences]
    return torch.tensor(rows, dtype=torch.long).to(device)


def valid_of(sequences: list, device: str) -> torch.Tensor:
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return (torch.arange(int(lengths.max()))[None] < lengths[:, None]).to(device)
