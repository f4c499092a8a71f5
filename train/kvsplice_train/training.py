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
# What is checked and saved is a moving average over about so many steps: single steps see few tokens, and their noise averages out.
AVERAGED_STEPS = 40


@dataclass(frozen=True)
class Schedule:
    """`groups` of lessons a step; checked each `check_every` steps; ended when `patience` checks in a row were no better."""

    steps: int
    groups: int
    learning_rate: float
    check_every: int = 50
    patience: int = 3
    most_seconds: float = math.inf


@dataclass(frozen=True)
class Check:
    """On held-out lessons: mean KL divergence a token, and the share of tokens whose likeliest is the teacher's."""

    step: int
    divergence: float
    same: float


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
    """Writes the best adapter so far to `folder`, and with it a checkpoint from which a second call goes on. Returns the checks."""
    folder.mkdir(parents=True, exist_ok=True)
    parameters = adapter.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    averaged = Adapter(
        adapter.rank, adapter.alpha, adapter.where, {at: (a.detach().clone(), b.detach().clone()) for at, (a, b) in adapter.pairs.items()}
    )
    step, checks = resume(folder, parameters, averaged.parameters(), optimizer)
    if not checks:
        checks.append(check(decoder, prompts, held_out, averaged, 0))
        report(f"step 0: held-out KL {checks[0].divergence:.4f}, same {checks[0].same:.3f}")
    begun, skipped = time.time(), 0
    while step < schedule.steps and not exhausted(checks, schedule.patience) and time.time() - begun < schedule.most_seconds:
        elapsed = (time.time() - begun) / schedule.most_seconds
        for settings in optimizer.param_groups:
            settings["lr"] = schedule.learning_rate * pace(step, max(step / schedule.steps, elapsed))
        chosen = [groups[(step * schedule.groups + i) % len(groups)] for i in range(schedule.groups)]
        loss = answer_lessons(decoder, prompts, [lesson for group in chosen for lesson in group], adapter).divergence.mean()
        optimizer.zero_grad()
        loss.backward()
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(parameters, 1.0)):
            optimizer.step()
            follow(averaged.parameters(), parameters, max(1 / (step + 1), 1 / AVERAGED_STEPS))
        else:
            skipped += 1
        step += 1
        if step % 10 == 0:
            rate = (time.time() - begun) / step
            report(f"step {step} of {schedule.steps}: KL {loss.item():.4f}, {rate:.2f} s a step, {skipped} steps left out")
        out_of_time = time.time() - begun >= schedule.most_seconds
        if step % schedule.check_every == 0 or step == schedule.steps or out_of_time:
            checks.append(check(decoder, prompts, held_out, averaged, step))
            best = min(checks, key=lambda c: c.divergence)
            report(f"step {step}: held-out KL {checks[-1].divergence:.4f}, same {checks[-1].same:.3f}, best {best.divergence:.4f}")
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
    """Moves each average by `share` of the way to what it follows."""
    for average, parameter in zip(averaged, parameters, strict=True):
        average.lerp_(parameter.to(average.device), share)


def pace(step: int, done: float) -> float:
    """The learning rate's factor: up over the first steps, then down along a cosine to a twentieth."""
    return min(1.0, (step + 1) / WARM_UP_STEPS) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def exhausted(checks: list[Check], patience: int) -> bool:
    best = min(range(len(checks)), key=lambda i: checks[i].divergence)
    return len(checks) - 1 - best >= patience


@torch.no_grad()
def check(decoder: Decoder, prompts: PromptSet, held_out: list[Lesson], adapter: Adapter | None, step: int, batch: int = 16) -> Check:
    total = same = count = 0.0
    for at in range(0, len(held_out), batch):
        graded = answer_lessons(decoder, prompts, held_out[at : at + batch], adapter)
        total += graded.divergence.sum().item()
        same += graded.same.sum().item()
        count += len(graded.divergence)
    return Check(step, total / count, same / count)
