"""Prompts of question sets, and scores."""

import json
import math

import numpy as np
import pytest

from kvsplice_train import __main__ as command
from kvsplice_train.benchmark import contains, rank_correlation, scores, shuffler
from kvsplice_train.prompts import read_prompts
from kvsplice_train.tiny import tiny_model, write_gguf
from kvsplice_train.tokenizer import read_tokenizer


def test_the_shuffle_is_a_permutation_that_its_seed_repeats():
    once, again, other = list(range(20)), list(range(20)), list(range(20))
    shuffler(7)(once), shuffler(7)(again), shuffler(8)(other)
    assert once == again != other and sorted(once) == list(range(20)) != once


@pytest.mark.parametrize(
    "text, answers, right",
    [
        ("It was The Beatles!", ["beatles"], True),
        ("in 1984.", ["1984", "84"], True),
        ("Paris", ["London", "Rome"], False),
    ],
)
def test_an_answer_is_right_if_it_contains_one(text, answers, right):
    assert contains(text, answers) == right


def test_rank_correlation_is_spearman_s():
    assert rank_correlation(np.array([1, 2, 3, 4]), np.array([10, 20, 25, 100])) == pytest.approx(1)
    assert rank_correlation(np.array([1, 2, 3]), np.array([3, 2, 1])) == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: covariance 4.5 over the root of 4.5 times 5.
    assert rank_correlation(np.array([1, 2, 2, 3]), np.array([1, 3, 2, 4])) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_prompts_are_evaluated_and_scored_by_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_gguf(tiny_model("qwen2", seed=3), tmp_path / "model.gguf")
    card = {
        "prompt": {"system": "Read!", "document": "{title}:{text}.", "question": "?{question}!"},
        "maxDocumentTokens": 12,
        "chunkTokens": 9,
    }
    (tmp_path / "card.json").write_text(json.dumps(card))
    passages = [{"id": f"p{i}", "title": f"t{i}", "text": f"text{i}"} for i in range(12)]
    rows = [
        {"question": f"q{i}", "answers": ["x"], "gold": f"p{i}", "distractors": [f"p{(i + j) % 12}" for j in range(1, 12)]}
        for i in range(6)
    ]
    (tmp_path / "passages.jsonl").write_text("\n".join(map(json.dumps, passages)))
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command.main(["prompts", "model.gguf", "prompts.json", "--card", "card.json", "--passages", "passages.jsonl", "--set", "s=set.jsonl"])
    read = read_prompts(tmp_path / "prompts.json")
    assert all(len(set(question.documents)) == 10 and f"p{i}" in question.documents for i, question in enumerate(read.questions["s"]))
    assert read_tokenizer("model.gguf").text(list(read.documents["p3"])) == "t3:text3."
    command.main(
        ["evaluate", "model.gguf", "prompts.json", "out.json", "--settings", "none;none+recompute=1", "--device", "cpu", "--limit", "4"]
    )
    command.main(["score", "model.gguf", "prompts.json", "out.json"])
    assert "| none+recompute=1 | 100 % |" in capsys.readouterr().out
    scored = scores(
        json.loads((tmp_path / "prompts.json").read_text()), json.loads((tmp_path / "out.json").read_text()), read_tokenizer("model.gguf")
    )
    everything = scored["s"]["settings"]["none+recompute=1"]
    assert everything["difference"] == 0 and everything["interval"] == [0, 0] and everything["measures"]["first token's KL"] < 1e-3


def test_intervals_are_paired():
    """Settings that fail on the same questions do not differ, however wide their separate intervals are."""
    prompts = {"questions": {"s": [{"answers": ["yes"]}] * 40}}

    class Words:
        def text(self, tokens):
            return "yes" if tokens else "no"

    answers = [[1] if i % 2 else [] for i in range(40)]
    worse = [[1] if i % 4 == 1 else [] for i in range(40)]
    near = {"divergence": [0.1], "same": [True], "log_probability": [-0.1]}
    far = {"divergence": [9.0], "same": [False], "log_probability": [-9.0]}
    found = scores(
        prompts,
        {
            "s": {
                "full": {"answers": answers},
                "same": {"answers": answers, "recomputed": 0.5, "distances": [near] * 40},
                "worse": {"answers": worse, "recomputed": 0.1, "distances": [far] * 40},
            }
        },
        Words(),
    )["s"]
    assert found["settings"]["same"]["interval"] == [0, 0]
    low, high = found["settings"]["worse"]["interval"]
    assert found["settings"]["worse"]["difference"] == -25 and low < -25 < high < 0
    assert found["settings"]["worse"]["measures"]["answer's KL, at most 1"] == 1
    assert found["rank_correlation"]["first token's KL"] == pytest.approx(1)
