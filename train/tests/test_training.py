"""Lessons, steps, checkpoints and the command, on a tiny random model."""

import json
import random

import pytest
import torch

from kvsplice_train import __main__ as command
from kvsplice_train.adapter import BOTH, ENCODE, TARGETS, load_adapter, new_adapter
from kvsplice_train.answering import full_attention
from kvsplice_train.decoder import Decoder
from kvsplice_train.evaluate import evaluate, parse_setting, references
from kvsplice_train.lessons import Asked, grouped
from kvsplice_train.prompts import PromptSet, Question
from kvsplice_train.student import answer_lessons
from kvsplice_train.teacher import teach
from kvsplice_train.tiny import tiny_model, write_gguf
from kvsplice_train.training import Check, Schedule, exhausted, train

CONFIG = tiny_model("qwen2", seed=3).config


@pytest.fixture(scope="module")
def taught():
    rng = random.Random(5)
    tokens = lambda low, high: tuple(rng.randrange(1, 96) for _ in range(rng.randrange(low, high)))
    documents = {f"d{i}": tokens(5, 20) for i in range(12)}
    prompts = PromptSet(tokens(4, 5), documents, {}, (0,))
    asked = [Question(tuple(rng.sample(sorted(documents), 3)), tokens(3, 9)) for _ in range(18)]
    decoder = Decoder(tiny_model("qwen2", seed=3))
    lessons = teach(decoder, prompts, asked, batch=6, answer_tokens=5)
    return decoder, prompts, lessons


def adapter_of(where: str = ENCODE, seed: int = 1):
    return new_adapter(CONFIG, 4, 8, where, list(TARGETS), range(3), seed)


def test_the_teacher_is_full_attention(taught):
    decoder, prompts, lessons = taught
    expected = full_attention(decoder, prompts, [lesson.question for lesson in lessons], tokens=5)
    assert [lesson.answer for lesson in lessons] == [reference.answer for reference in expected]
    assert all(lesson.likeliest[0, 0] == lesson.answer[0] for lesson in lessons)


def test_the_student_matches_kvsplice_s_splice(taught):
    """A lesson's divergence equals the distance that `evaluate` finds for the same documents after the prefix."""
    decoder, prompts, lessons = taught
    asked = [lesson.question for lesson in lessons]
    found = evaluate(decoder, prompts, asked, references(decoder, prompts, asked, 6), [parse_setting("prefix")], 6, lambda line: None)
    with torch.no_grad():
        for lesson, distance in zip(lessons, found["prefix"].distances):
            graded = answer_lessons(decoder, prompts, [lesson], None)
            # The teacher's 64 likeliest of 96 tokens, with the rest as one: a close lower bound.
            count = len(lesson.answer)
            assert graded.divergence.tolist() == pytest.approx(distance.divergence[:count], abs=0.02)
            assert graded.same.tolist() == distance.same[:count]


@pytest.mark.parametrize("where", (ENCODE, BOTH))
def test_training_lowers_the_divergence_and_leaves_the_model_alone(taught, tmp_path, where):
    decoder, prompts, lessons = taught
    before = {name: tensor.clone() for name, tensor in decoder.tensors.items()}
    groups = [lessons[i : i + 2] for i in range(0, 12, 2)]
    trained_on = [lesson for group in groups for lesson in group]
    checks = train(decoder, prompts, adapter_of(where), groups, trained_on, Schedule(30, 3, 5e-3, 10), tmp_path, "tiny", lambda line: None)
    assert min(check.divergence for check in checks) < 0.8 * checks[0].divergence
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.tensors.items())
    assert load_adapter(tmp_path).where == where


def test_recomputing_a_share_is_closer_and_recomputing_everything_is_full_attention(taught):
    decoder, prompts, lessons = taught
    with torch.no_grad():
        spliced, again, everything = (answer_lessons(decoder, prompts, lessons, None, share) for share in (0.0, 0.5, 1.0))
    assert everything.divergence.max() < 1e-3 and everything.apart.max() < 1e-3 < again.apart.mean() < spliced.apart.mean()


def test_states_and_recomputation_also_train(taught, tmp_path):
    decoder, prompts, lessons = taught
    groups = [lessons[i : i + 2] for i in range(0, 12, 2)]
    held_out = [lesson for group in groups for lesson in group]
    schedule = Schedule(30, 4, 5e-3, 10, at_once=2, recompute=0.3, states=1.0)
    checks = train(decoder, prompts, adapter_of(), groups, held_out, schedule, tmp_path, "tiny", lambda line: None)
    assert min(check.both for check in checks) < 0.9 * checks[0].both
    assert checks[0].recomputed < checks[0].divergence


def test_lessons_after_an_example_match_the_evaluation_after_it(taught):
    decoder, prompts, lessons = taught
    behind = PromptSet(prompts.prefix, prompts.documents, {}, prompts.ends, example=(5, 6, 7, 8))
    asked = [lesson.question for lesson in lessons]
    settings = [parse_setting("prefix"), parse_setting("prefix+example")]
    found = evaluate(decoder, behind, asked, references(decoder, behind, asked, 6), settings, 6, lambda line: None)
    with torch.no_grad():
        graded = answer_lessons(decoder, behind, lessons[:1], None)
    count = len(lessons[0].answer)
    assert graded.divergence.tolist() == pytest.approx(found["prefix+example"].distances[0].divergence[:count], abs=0.02)
    assert found["prefix+example"].distances[0].divergence != found["prefix"].distances[0].divergence


def test_an_interrupted_run_ends_like_an_uninterrupted_one(taught, tmp_path):
    decoder, prompts, lessons = taught
    groups, held_out = [[lesson] for lesson in lessons[:12]], lessons[12:]

    def run(folder: str, *steps: int) -> list[torch.Tensor]:
        for most in steps:
            stopped = Stop(most)
            adapter = adapter_of()
            try:
                train(decoder, prompts, adapter, groups, held_out, Schedule(8, 2, 2e-3, 4), tmp_path / folder, "tiny", stopped)
            except KeyboardInterrupt:
                pass
        return adapter.parameters()

    class Stop:
        def __init__(self, step: int):
            self.step = step

        def __call__(self, line: str) -> None:
            # The checkpoint of step 4 is written before the next report, that of step 8.
            if self.step == 4 and line.startswith("step 8"):
                raise KeyboardInterrupt

    whole, resumed = run("whole", 8), run("resumed", 4, 8)
    for a, b in zip(whole, resumed):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_checks_without_improvement_end_the_run():
    checks = [Check(i, kl, 0.5, kl) for i, kl in enumerate((0.3, 0.2, 0.25, 0.21))]
    assert not exhausted(checks, patience=3) and exhausted(checks, patience=2)


def test_a_group_shares_retrieved_documents_and_uses_a_question_once():
    texts = {f"d{i}": f"topic{i % 3} word{i} fact{i}" for i in range(30)}
    asked = [Asked(f"topic{i % 3} fact{i}", (i + 1,), (f"d{i}",)) for i in range(30)]
    groups = list(grouped(asked, texts, documents=4, pool=6, questions=3, rng=random.Random(1)))
    questions = [question for group in groups for question in group]
    assert sorted(question.tokens for question in questions) == sorted(a.tokens for a in asked)
    for group in groups:
        assert len({name for question in group for name in question.documents}) <= 6
        for question in group:
            needed = f"d{question.tokens[0] - 1}"
            assert needed in question.documents and len(question.documents) == 4
            topics = {int(name[1:]) % 3 for name in question.documents}
            assert topics == {int(needed[1:]) % 3}, "distractors are retrieved, not random"


def test_the_command_trains_from_documents_and_a_gguf_file(tmp_path, monkeypatch, capsys):
    write_gguf(tiny_model("qwen2", seed=3), tmp_path / "model.gguf")
    card = {
        "prompt": {"system": "Read!", "document": "{title}:{text}.", "question": "?{question}!"},
        "maxDocumentTokens": 24,
        "chunkTokens": 16,
    }
    (tmp_path / "card.json").write_text(json.dumps(card))
    words = [f"w{i}x" for i in range(40)]
    rows = [{"question": f"{word} {word}?", "title": word, "text": f"{word} {word}{word}"} for word in words]
    (tmp_path / "general.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "excluded.jsonl").write_text(json.dumps({"text": rows[0]["text"]}))
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "one.txt").write_text("Alpha beta.\n\nGamma delta.")
    arguments = [
        "train",
        "model.gguf",
        "out",
        "--card",
        "card.json",
        "--documents",
        "documents",
        "--general",
        "general.jsonl",
        "--exclude",
        "excluded.jsonl",
        "--steps",
        "4",
        "--check-every",
        "2",
        "--held-out",
        "2",
        "--rank",
        "2",
        "--modules",
        "k_proj,v_proj",
        "--layers",
        "0:1",
        "--device",
        "cpu",
        "--batch",
        "8",
    ]
    monkeypatch.chdir(tmp_path)
    command.main(arguments)
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["best"]["divergence"] <= result["before"]["divergence"]
    assert "2 passages from your documents, 40 general questions, 41 passages in total" in printed.err and "step 4" in printed.err
    adapter = load_adapter(tmp_path / "out")
    assert {module for _, module in adapter.pairs} == {"k_proj", "v_proj"} and {layer for layer, _ in adapter.pairs} == {0, 1}
