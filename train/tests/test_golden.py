"""The golden values in test/golden/linking match what this package computes."""

import json
from pathlib import Path

import pytest

from kvsplice_train.golden import write_golden
from kvsplice_train.weights import ARCHITECTURES

COMMITTED = Path(__file__).parents[2] / "test" / "golden" / "linking"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    write_golden(folder)
    return folder


def close(found, expected) -> bool:
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in expected)
    return found == pytest.approx(expected, abs=1e-4) if isinstance(expected, float) else found == expected


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_values_are_the_committed_ones(written, architecture):
    found, expected = (json.loads((folder / f"{architecture}-values.json").read_text()) for folder in (written, COMMITTED))
    assert close(found, expected)
    assert (written / f"{architecture}.gguf").read_bytes() == (COMMITTED / f"{architecture}.gguf").read_bytes()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_recomputing_everything_is_full_attention(written, architecture):
    cases = {case["name"]: case for case in json.loads((written / f"{architecture}-values.json").read_text())["cases"]}
    assert cases["recompute everything"]["logits"] == pytest.approx(cases["full attention"]["logits"], abs=1e-4)
    assert cases["recompute"]["logits"] != pytest.approx(cases["full attention"]["logits"], abs=1e-2)
