"""A general set of questions made from existing passages and questions: given ones about one passage, and template questions about two."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

from .benchmark import rows_of

# How a passage mentions another's subject -> what that subject is to it.
RELATIONS = {
    r"directed by": "director",
    r"written by": "writer",
    r"composed by|music by": "composer",
    r"produced by": "producer",
    r"performed by|recorded by|song by": "performer",
    r"founded by": "founder",
    r"son of|daughter of|born to": "parent",
    r"married|wife of|husband of|married to": "spouse",
}
ASKED = (
    "Where was the {relation} of {title} born?",
    "In which year did the {relation} of {title} die?",
    "What is the {relation} of {title} known for?",
    "What was the profession of the {relation} of {title}?",
    "Where did the {relation} of {title} study or work?",
)
# Maximum number of characters between the words of a relation and the name.
GAP = 24


def general_questions(passages: Path, questions: Path, excluded: set[str], repeat: dict[str, int], two: int, seed: int) -> Iterator[dict]:
    """Rows of `{question, passages}`: each question of `questions {question, gold, source}` about its gold passage, as often as
    `repeat[source]` says (once if missing), and up to `two` questions about pairs of linked passages. Passages whose text is in
    `excluded` are left out."""
    rng = random.Random(seed)
    texts = {row["id"]: row for row in rows_of(passages) if row["text"].strip() not in excluded}
    for row in rows_of(questions):
        if row["gold"] in texts:
            yield from [{"question": row["question"], "passages": [slim(texts[row["gold"]])]}] * repeat.get(row.get("source"), 1)
    drawn = [(pair, asked) for pair in linked(list(texts.values())) for asked in ASKED]
    rng.shuffle(drawn)
    for (first, second, relation), asked in drawn[:two]:
        question = asked.replace("{relation}", relation).replace("{title}", first["title"])
        yield {"question": question, "passages": [slim(first), slim(second)]}


def slim(row: dict) -> dict:
    return {"title": row["title"], "text": row["text"]}


def linked(rows: list[dict]) -> Iterator[tuple[dict, dict, str]]:
    """Pairs of passages in which the first mentions the second's title after the words of a relation."""
    by_title = {row["title"]: row for row in rows if " " in row["title"]}
    for row in rows:
        for words, relation in RELATIONS.items():
            for match in re.finditer(rf"\b(?:{words})\b", row["text"]):
                behind = row["text"][match.end() : match.end() + 80]
                names = (behind[start.start() : end] for start in re.finditer(r"\b[A-Z]", behind[:GAP]) for end in ends(behind, start.start()))
                name = next((name for name in names if name in by_title and name != row["title"]), None)
                if name:
                    yield row, by_title[name], relation


def ends(text: str, start: int) -> list[int]:
    """Ends of words after `start`, farthest first."""
    return [match.end() for match in re.finditer(r"\w\b", text) if match.start() >= start][::-1]


def write_general(path: Path, rows: Iterator[dict]) -> int:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    return len(lines)
