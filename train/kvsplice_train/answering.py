"""Greedy answers over a cache, and how far their distributions are from full attention's."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .adapter import Adapter
from .decoder import Cache, Decoder, Rows, Trace
from .prompts import PromptSet, Question, padded

ANSWER_TOKENS = 24


@dataclass(frozen=True)
class Reference:
    """Full attention's own greedy answer, including its end, and the log-probabilities at each of these tokens `[tokens, vocabulary]`."""

    answer: tuple[int, ...]
    log_probabilities: torch.Tensor


@dataclass(frozen=True)
class Distance:
    """At each token of full attention's answer, given the tokens before it: KL divergence from full attention (nats), whether the
    likeliest token is the same, and the log-probability of full attention's token."""

    divergence: list[float]
    same: list[bool]
    log_probability: list[float]


@torch.no_grad()
def full_attention(
    decoder: Decoder,
    prompts: PromptSet,
    questions: list[Question],
    adapter: Adapter | None = None,
    tokens: int = ANSWER_TOKENS,
    trace: Trace | None = None,
) -> list[Reference]:
    """Answers a batch of questions with everything computed in place. `trace` records states of the whole prompts, padded on the right."""
    sequences = [
        list(prompts.prefix) + [t for d in question.documents for t in prompts.documents[d]] + list(question.tokens)
        for question in questions
    ]
    ids = padded(sequences, decoder.device)
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=decoder.device)
    encoding, hidden = decoder.encode(ids, adapter, hidden=True, trace=trace)
    positions = torch.arange(ids.shape[1], device=decoder.device).expand(ids.shape)
    keys = [decoder.rotate(k, positions).transpose(1, 2) for k in encoding.keys]
    cache = Cache(keys, [v.transpose(1, 2) for v in encoding.values], positions, positions < lengths[:, None])
    logits = decoder.logits(hidden[torch.arange(len(questions), device=decoder.device), lengths - 1])
    answers, steps = generate(decoder, cache, lengths, logits, prompts.ends, tokens, adapter, keep=True)
    return [Reference(tuple(answer), torch.stack([step[i] for step in steps[: len(answer)]])) for i, answer in enumerate(answers)]


@torch.no_grad()
def generate(
    decoder: Decoder,
    cache: Cache,
    lengths: torch.Tensor,
    logits: torch.Tensor,
    ends: tuple[int, ...],
    tokens: int,
    adapter: Adapter | None = None,
    keep: bool = False,
) -> tuple[list[list[int]], list[torch.Tensor]]:
    """Greedy tokens after `lengths` tokens of each prompt, from the last token's logits; an answer includes its end token if it appeared.
    With `keep`, the log-probabilities of each step `[prompts, vocabulary]` as well."""
    stops = torch.tensor(ends, device=decoder.device)
    steps, chosen = [], []
    done = torch.zeros(logits.shape[0], dtype=torch.bool, device=decoder.device)
    for step in range(tokens):
        if keep:
            steps.append(logits.log_softmax(-1).half())
        chosen.append(logits.argmax(-1))
        done |= torch.isin(chosen[-1], stops)
        if step == tokens - 1 or bool(done.all()):
            break
        rows = Rows(chosen[-1][:, None], (lengths + step)[:, None], torch.ones_like(done)[:, None])
        hidden, cache, _ = decoder.run(rows, cache, adapter)
        logits = decoder.logits(hidden[:, -1])
    answers = []
    for row in torch.stack(chosen, 1).tolist():
        end = next((i for i, token in enumerate(row) if token in ends), len(row) - 1)
        answers.append(row[: end + 1])
    return answers, steps


@torch.no_grad()
def distance(logits: torch.Tensor, reference: Reference) -> Distance:
    """`logits [tokens, vocabulary]` at the tokens of the reference's answer."""
    expected, found = reference.log_probabilities.float(), logits.log_softmax(-1)
    divergence = (expected.exp() * (expected - found)).nan_to_num(0).sum(-1)
    tokens = torch.tensor(reference.answer, device=logits.device)
    return Distance(
        divergence.tolist(),
        (logits.argmax(-1) == tokens).tolist(),
        found.gather(1, tokens[:, None])[:, 0].tolist(),
    )
