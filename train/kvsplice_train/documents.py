"""The user's own documents as passages, and a general set of questions with their passages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .tokenizer import ModelTokenizer


@dataclass(frozen=True)
class Card:
    """How the model is prompted: kvsplice's card. `document` and `question` contain `{title}`, `{text}` and `{question}`. Documents are
    also encoded after the `example`, if there is one."""

    system: str
    document: str
    question: str
    max_document_tokens: int
    chunk_tokens: int
    example: Passage | None = None

    def filled(self, passage: Passage) -> str:
        # Both at once, so that a title containing "{text}" is left alone.
        return "".join({"{title}": passage.title, "{text}": passage.text}.get(part, part) for part in split_at_fields(self.document))


@dataclass(frozen=True)
class Passage:
    title: str
    text: str


@dataclass(frozen=True)
class GeneralQuestion:
    """A question and the passages that it needs."""

    question: str
    passages: tuple[Passage, ...]


def read_card(path: str | Path) -> Card:
    card = json.loads(Path(path).read_text())
    prompt = card["prompt"]
    example = Passage(card["example"]["title"], card["example"]["text"]) if "example" in card else None
    return Card(prompt["system"], prompt["document"], prompt["question"], card["maxDocumentTokens"], card["chunkTokens"], example)


def split_at_fields(template: str) -> list[str]:
    parts = [template]
    for field in ("{title}", "{text}"):
        parts = [piece for part in parts for piece in (part.partition(field) if part not in ("{title}", "{text}") else (part,))]
    return parts


def read_passages(path: str | Path, card: Card, tokenizer: ModelTokenizer) -> list[Passage]:
    """A folder's .txt and .md files, cut into passages of `chunk_tokens`, or a .jsonl file of `{title, text}`."""
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in (".txt", ".md"))
        return [Passage(file.stem, text) for file in files for text in passages_of(file.read_text(), card.chunk_tokens, tokenizer)]
    return [Passage(row.get("title", ""), row["text"]) for row in rows_of(path)]


def passages_of(text: str, most: int, tokenizer: ModelTokenizer) -> Iterator[str]:
    """Paragraphs joined as long as they stay below `most` tokens; a longer single paragraph is split between words."""
    passage = ""
    for paragraph in (piece.strip() for piece in text.split("\n\n")):
        if not paragraph:
            continue
        joined = f"{passage}\n\n{paragraph}" if passage else paragraph
        if len(tokenizer.tokens(joined)) <= most:
            passage = joined
            continue
        if passage:
            yield passage
        *whole, passage = words_of(paragraph, most, tokenizer)
        yield from whole
    if passage:
        yield passage


def words_of(paragraph: str, most: int, tokenizer: ModelTokenizer) -> list[str]:
    pieces, piece, count = [], [], 0
    for word in paragraph.split(" "):
        tokens = len(tokenizer.tokens(f" {word}"))
        if piece and count + tokens > most:
            pieces.append(" ".join(piece))
            piece, count = [], 0
        piece.append(word)
        count += tokens
    return [*pieces, " ".join(piece)]


def read_general(path: str | Path) -> list[GeneralQuestion]:
    """A .jsonl file of `{question, title, text}`: questions that the passage answers, or of `{question, passages: [{title, text}]}`:
    questions that need all of these. There are no answers: the model's own are the teacher."""

    def passages(row: dict) -> tuple[Passage, ...]:
        return tuple(Passage(found.get("title", ""), found["text"]) for found in row.get("passages", [row]))

    return [GeneralQuestion(row["question"], passages(row)) for row in rows_of(path)]


def read_excluded(path: str | Path) -> set[str]:
    """Texts of a .jsonl file of `{text}`: passages that must not be trained on, such as those used in an evaluation."""
    return {row["text"].strip() for row in rows_of(path)}


def rows_of(path: str | Path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]
