"""Questions that the model itself generates from passages."""

from __future__ import annotations

from .answering import full_attention
from .decoder import Decoder
from .documents import Card
from .evaluate import by_length
from .prompts import PromptSet, Question
from .tokenizer import ModelTokenizer

# Greedy decoding is deterministic; a different first word gives a different question.
FIRST_WORDS = ("What", "Who", "When", "Where", "Which", "How", "Why")
INSTRUCTION = 'Write one short question that the document answers. Begin it with "{word}" and write nothing else.'
QUESTION_TOKENS = 40
LEAST_WORDS = 4


def make_questions(
    decoder: Decoder, prompts: PromptSet, card: Card, tokenizer: ModelTokenizer, names: list[str], each: int, batch: int
) -> list[tuple[str, str]]:
    """Up to `each` questions per passage, as `(name, question)`; anything that is not a question is left out."""
    asked = []
    for i, name in enumerate(names):
        for k in range(each):
            instruction = INSTRUCTION.replace("{word}", FIRST_WORDS[(i + k) % len(FIRST_WORDS)])
            asked.append((name, Question((name,), tuple(tokenizer.tokens(card.question.replace("{question}", instruction))))))

    def work(part: list[int]) -> list[str]:
        references = full_attention(decoder, prompts, [asked[i][1] for i in part], tokens=QUESTION_TOKENS)
        return [tokenizer.text(list(reference.answer)) for reference in references]

    written = by_length(prompts, [question for _, question in asked], batch, work)
    made = [(name, cleaned(text)) for (name, _), text in zip(asked, written)]
    return list(dict.fromkeys((name, text) for name, text in made if text is not None))


def cleaned(text: str) -> str | None:
    """The first line if it is a question."""
    line = text.strip().split("\n")[0].strip().strip('"')
    return line if line.endswith("?") and len(line.split()) >= LEAST_WORDS else None
