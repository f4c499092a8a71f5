"""Questions about one passage and about two linked ones; and how close two results are."""

import json
import math

from kvsplice_train import __main__ as command
from kvsplice_train.beside import beside

PASSAGES = [
    {"id": "a", "title": "Night Ferry (film)", "text": "Night Ferry is a 1931 film directed by Ada Lund."},
    {"id": "b", "title": "Ada Lund", "text": "Ada Lund was born in Bergen."},
    {"id": "c", "title": "Grey Harbour", "text": "Grey Harbour is a novel written by John Roe."},
    {"id": "d", "title": "John Roe", "text": "John Roe taught in Leeds."},
]


def test_a_general_set_has_questions_about_one_passage_and_about_two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = [{"question": "Where is it?", "gold": "b", "source": "nq"}, {"question": "Who?", "gold": "d", "source": "squad"}]
    for name, rows in (("passages", PASSAGES), ("asked", asked), ("kept", [{"text": PASSAGES[3]["text"]}])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = "general out.jsonl --passages passages.jsonl --questions asked.jsonl --exclude kept.jsonl --repeat nq=2"
    command.main(arguments.split())
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["question"] for row in rows if len(row["passages"]) == 1] == ["Where is it?"] * 2
    two = [row for row in rows if len(row["passages"]) == 2]
    # One passage of the second pair is excluded, so only the first pair is asked about, in each of the ways.
    assert {tuple(passage["title"] for passage in row["passages"]) for row in two} == {("Night Ferry (film)", "Ada Lund")}
    assert "Where was the director of Night Ferry (film) born?" in {row["question"] for row in two} and len(two) == 5


def test_results_are_compared_by_set_and_way():
    mine = {"nq": {"full": {"answers": [[1, 2, 0], [3, 0]], "first": [[[1, 4], [math.log(0.5), math.log(0.25)]]] * 2}}}
    other = {"nq": {"all": {"answers": [[1, 2], [4]], "first": [[[1, 4], [math.log(0.25), math.log(0.5)]], [[1, 4], [math.log(0.5), math.log(0.25)]]]}}}
    row = beside(mine, other, "full:all").splitlines()[-1]
    # KL of (1/2, 1/4, 1/4) from (1/4, 1/2, 1/4) is 1/4 log 2, and 0.
    assert row == f"| nq | all | 2 | 100 % | {math.log(2) / 8:.4f} | {math.log(2) / 4:.4f} | 50 % |"
