"""How close kvsplice's first tokens are to the twin's, over the same prompts."""

from __future__ import annotations

import math


def beside(expected: dict, found: dict, pairs: str | None = None) -> str:
    """A table over sets and ways for two outputs of `evaluate`, for the questions in both. `pairs` matches ways that are named
    differently: `EXPECTED:FOUND`, separated by `;`."""
    names = [tuple(pair.split(":")) for pair in pairs.split(";")] if pairs else None
    lines = ["| set | way | prompts | first token equal | KL, mean | KL, most | answer equal |", "|---|---|---|---|---|---|---|"]
    for name in expected:
        for mine, other in names or [(way, way) for way in expected[name]]:
            a, b = expected[name].get(mine), found.get(name, {}).get(other)
            if a and b:
                lines.append(row(name, other, a, b))
    return "\n".join(lines)


def row(name: str, way: str, expected: dict, found: dict) -> str:
    firsts = list(zip(expected["first"], found["first"]))
    same = sum(a[0][0] == b[0][0] for a, b in firsts) / len(firsts)
    distances = [divergence(a, b) for a, b in firsts]
    # The twin's answer includes its end token, kvsplice's does not.
    answers = [list(a)[: len(b)] == list(b) and len(a) - len(b) <= 1 for a, b in zip(expected["answers"], found["answers"])]
    mean, most, equal = sum(distances) / len(distances), max(distances), sum(answers) / len(answers)
    return f"| {name} | {way} | {len(firsts)} | {100 * same:.0f} % | {mean:.4f} | {most:.4f} | {100 * equal:.0f} % |"


def divergence(expected: tuple[list[int], list[float]], found: tuple[list[int], list[float]]) -> float:
    """KL over the tokens that both have among their likeliest, with all others as one."""
    other = dict(zip(*found))
    shared = [(value, other[token]) for token, value in zip(*expected) if token in other]
    rest, rest_found = (max(1e-9, 1 - sum(math.exp(pair[i]) for pair in shared)) for i in (0, 1))
    return sum(math.exp(a) * (a - b) for a, b in shared) + rest * math.log(rest / rest_found)
