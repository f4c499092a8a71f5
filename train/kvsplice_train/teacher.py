"""Full attention's own answers, as what a student is to say."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .answering import full_attention
from .decoder import Decoder
from .evaluate import by_length
from .prompts import PromptSet, Question

LIKELIEST = 64


@dataclass(frozen=True)
class Lesson:
    """A question, full attention's answer to it, and at each of the answer's tokens the `LIKELIEST` tokens with their log-probabilities
    `[tokens, likeliest]`."""

    question: Question
    answer: tuple[int, ...]
    likeliest: torch.Tensor
    log_probabilities: torch.Tensor


def teach(decoder: Decoder, prompts: PromptSet, questions: list[Question], batch: int, answer_tokens: int) -> list[Lesson]:
    def work(part: list[int]) -> list[Lesson]:
        asked = [questions[i] for i in part]
        lessons = []
        for question, reference in zip(asked, full_attention(decoder, prompts, asked, tokens=answer_tokens)):
            values, tokens = reference.log_probabilities.float().topk(min(LIKELIEST, decoder.config.vocabulary), -1)
            lessons.append(Lesson(question, reference.answer, tokens.int().cpu(), values.half().cpu()))
        return lessons

    return by_length(prompts, questions, batch, work)


def divergence(logits: torch.Tensor, lesson_tokens: torch.Tensor, lesson_values: torch.Tensor) -> torch.Tensor:
    """KL divergence (nats) from the teacher to `logits [tokens, vocabulary]`, by token: over its likeliest tokens, and the rest as one."""
    found = logits.log_softmax(-1).gather(1, lesson_tokens.long())
    expected = lesson_values.float()
    rest = (1 - expected.exp().sum(1)).clamp(1e-6, 1)
    found_rest = (1 - found.exp().sum(1)).clamp(1e-6, 1)
    return (expected.exp() * (expected - found)).sum(1) + rest * (rest.log() - found_rest.log())
