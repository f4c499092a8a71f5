"""Full attention's own answers, as the student's targets."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .answering import full_attention
from .decoder import Decoder, Trace
from .evaluate import by_length
from .prompts import PromptSet, Question

LIKELIEST = 64
# States of the question's rows are matched at every STATES_EVERY-th layer.
STATES_EVERY = 7


@dataclass(frozen=True)
class Lesson:
    """A question, full attention's answer to it, and at each of the answer's tokens the `LIKELIEST` tokens with their log-probabilities
    `[tokens, likeliest]`; and full attention's states of the question's tokens: outputs of `layers_of_states`,
    `states [layers, question tokens, hidden]` in bfloat16."""

    question: Question
    answer: tuple[int, ...]
    likeliest: torch.Tensor
    log_probabilities: torch.Tensor
    states: torch.Tensor


def layers_of_states(layers: int) -> list[int]:
    """Every `STATES_EVERY`-th layer, including the last."""
    return list(range(layers - 1, -1, -STATES_EVERY))[::-1]


def teach(decoder: Decoder, prompts: PromptSet, questions: list[Question], batch: int, answer_tokens: int) -> list[Lesson]:
    def work(part: list[int]) -> list[Lesson]:
        asked = [questions[i] for i in part]
        lessons, layers = [], layers_of_states(decoder.config.layers)
        trace = Trace(layers)
        for i, reference in enumerate(full_attention(decoder, prompts, asked, tokens=answer_tokens, trace=trace)):
            values, tokens = reference.log_probabilities.float().topk(min(LIKELIEST, decoder.config.vocabulary), -1)
            end = prompts.tokens_of(asked[i])
            states = torch.stack([trace.states[layer][i, end - len(asked[i].tokens) : end] for layer in layers])
            lessons.append(Lesson(asked[i], reference.answer, tokens.int().cpu(), values.half().cpu(), states.bfloat16().cpu()))
        return lessons

    return by_length(prompts, questions, batch, work)


def divergence(logits: torch.Tensor, lesson_tokens: torch.Tensor, lesson_values: torch.Tensor) -> torch.Tensor:
    """KL divergence (nats) from the teacher to `logits [tokens, vocabulary]`, by token: over its likeliest tokens, with the rest as one."""
    found = logits.log_softmax(-1).gather(1, lesson_tokens.long())
    expected = lesson_values.float()
    rest = (1 - expected.exp().sum(1)).clamp(1e-6, 1)
    found_rest = (1 - found.exp().sum(1)).clamp(1e-6, 1)
    return (expected.exp() * (expected - found)).sum(1) + rest * (rest.log() - found_rest.log())
