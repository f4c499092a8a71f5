"""Training of an adapter against full attention: steps, checkpoints, the held-out divergence that stops it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from .adapter import Adapter, save_adapter
from .decoder import Decoder
from .prompts import PromptSet
from .student import answer_lessons
from .teacher import Lesson

WARM_UP_STEPS = 20
# A moving average over about this many steps is checked and saved: single steps see few tokens, and their noise averages out.
AVERAGED_STEPS = 40


@dataclass(frozen=True)
class Schedule:
    """`groups` of lessons per step, `at_once` of them in memory; checked every `check_every` steps; ended when `patience` checks in a row
    show no improvement. In every second step the share `recompute` of the document tokens is recomputed, so that the adapter works for
    answers with and without it. `states` is the initial weight of the distance of the question's states, added to the answer's
    divergence; it falls to zero during the run: states teach more from fewer questions, but the answer is what counts."""

    steps: int
    groups: int
    learning_rate: float
    check_every: int = 50
    patience: int = 3
    most_seconds: float = math.inf
    at_once: int = 4
    recompute: float = 0.0
    states: float = 0.0


@dataclass(frozen=True)
class Check:
    """On held-out lessons: mean KL divergence per token, the share of tokens whose likeliest is the teacher's, and the divergence when
    the schedule's share is recomputed (the same as without, if there is none)."""

    step: int
    divergence: float
    same: float
    recomputed: float

    @property
    def both(self) -> float:
        return self.divergence + self.recomputed


def train(
    decoder: Decoder,
    prompts: PromptSet,
    adapter: Adapter,
    groups: list[list[Lesson]],
    held_out: list[Lesson],
    schedule: Schedule,
    folder: Path,
    base: str,
    report: Callable[[str], None] = print,
) -> list[Check]:
    """Writes the best adapter so far to `folder`, with a checkpoint from which a second call continues. Returns the checks."""
    folder.mkdir(parents=True, exist_ok=True)
    parameters = adapter.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    averaged = Adapter(
        adapter.rank, adapter.alpha, adapter.where, {at: (a.detach().clone(), b.detach().clone()) for at, (a, b) in adapter.pairs.items()}
    )
    step, checks = resume(folder, parameters, averaged.parameters(), optimizer)
    if not checks:
        checks.append(check(decoder, prompts, held_out, averaged, 0, schedule.recompute))
        report(f"step 0: held-out KL {checks[0].divergence:.4f}, same {checks[0].same:.3f}, recomputed {checks[0].recomputed:.4f}")
    begun, skipped = time.time(), 0
    while step < schedule.steps and not exhausted(checks, schedule.patience) and time.time() - begun < schedule.most_seconds:
        done = max(step / schedule.steps, (time.time() - begun) / schedule.most_seconds)
        for settings in optimizer.param_groups:
            settings["lr"] = schedule.learning_rate * pace(step, done)
        chosen = [groups[(step * schedule.groups + i) % len(groups)] for i in range(schedule.groups)]
        optimizer.zero_grad()
        loss = backward(decoder, prompts, adapter, chosen, schedule, schedule.recompute if step % 2 else 0.0, schedule.states * (1 - done))
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(parameters, 1.0)):
            optimizer.step()
            follow(averaged.parameters(), parameters, max(1 / (step + 1), 1 / AVERAGED_STEPS))
        else:
            skipped += 1
        step += 1
        if step % 10 == 0:
            rate = (time.time() - begun) / step
            report(f"step {step} of {schedule.steps}: KL {loss:.4f}, {rate:.2f} s per step, {skipped} steps skipped")
        out_of_time = time.time() - begun >= schedule.most_seconds
        if step % schedule.check_every == 0 or step == schedule.steps or out_of_time:
            checks.append(check(decoder, prompts, held_out, averaged, step, schedule.recompute))
            best, found = min(checks, key=lambda c: c.both), checks[-1]
            report(f"step {step}: held-out KL {found.divergence:.4f}, same {found.same:.3f}, recomputed {found.recomputed:.4f}")
            if best is checks[-1]:
                save_adapter(averaged, folder, base)
            torch.save(
                {
                    "step": step,
                    "checks": [asdict(c) for c in checks],
                    "parameters": [p.detach().cpu() for p in parameters],
                    "averaged": [p.cpu() for p in averaged.parameters()],
                    "optimizer": optimizer.state_dict(),
                },
                folder / "checkpoint.pt",
            )
    (folder / "checks.json").write_text(json.dumps([asdict(c) for c in checks], indent=2) + "\n")
    return checks


def backward(
    decoder: Decoder,
    prompts: PromptSet,
    adapter: Adapter,
    groups: list[list[Lesson]],
    schedule: Schedule,
    recompute: float,
    states: float,
) -> float:
    """Gradients of the mean over the step's answer tokens; returns the mean divergence."""
    tokens = sum(len(lesson.answer) for group in groups for lesson in group)
    total = 0.0
    for at in range(0, len(groups), schedule.at_once):
        lessons = [lesson for group in groups[at : at + schedule.at_once] for lesson in group]
        graded = answer_lessons(decoder, prompts, lessons, adapter, recompute)
        loss = graded.divergence.sum() / tokens
        total += loss.item()
        if states:
            loss = loss + states * graded.apart.mean() * len(groups[at : at + schedule.at_once]) / len(groups)
        loss.backward()
    return total


def resume(
    folder: Path, parameters: list[torch.Tensor], averaged: list[torch.Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, list[Check]]:
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0, []
    saved = torch.load(path, weights_only=True)
    follow(parameters, saved["parameters"], 1.0)
    follow(averaged, saved["averaged"], 1.0)
    optimizer.load_state_dict(saved["optimizer"])
    return saved["step"], [Check(**c) for c in saved["checks"]]


@torch.no_grad()
def follow(averaged: list[torch.Tensor], parameters: list[torch.Tensor], share: float) -> None:
    """Moves each average by `share` of the way towards what it follows."""
    for average, parameter in zip(averaged, parameters, strict=True):
        average.lerp_(parameter.to(average.device), share)


def pace(step: int, done: float) -> float:
    """The learning rate's factor: up over the first steps, then down along a cosine to a twentieth."""
    return min(1.0, (step + 1) / WARM_UP_STEPS) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def exhausted(checks: list[Check], patience: int) -> bool:
    best = min(range(len(checks)), key=lambda i: checks[i].both)
    return len(checks) - 1 - best >= patience


@torch.no_grad()
def check(
    decoder: Decoder, prompts: PromptSet, held_out: list[Lesson], adapter: Adapter | None, step: int, recompute: float, batch: int = 16
) -> Check:
    total = same = again = count = 0.0
    for at in range(0, len(held_out), batch):
        part = held_out[at : at + batch]
        graded = answer_lessons(decoder, prompts, part, adapter)
        total += graded.divergence.sum().item()
        same += graded.same.sum().item()
        count += len(graded.divergence)
        again += answer_lessons(decoder, prompts, part, adapter, recompute).divergence.sum().item() if recompute else 0.0
    return Check(step, total / count, same / count, (again if recompute else total) / count)
