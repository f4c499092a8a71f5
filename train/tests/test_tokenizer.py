"""The tokenizer made from a GGUF file."""

import pytest

from kvsplice_train.documents import Card, Passage, passages_of
from kvsplice_train.tiny import tiny_model, write_gguf
from kvsplice_train.tokenizer import read_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    write_gguf(tiny_model("qwen2", seed=1), path)
    return read_tokenizer(path)


def test_text_is_bytes_merges_and_control_tokens(tokenizer):
    assert tokenizer.tokens("Hi !!<|end|>") == [2 + ord("H") - 33, 2 + ord("i") - 33, 1, 95, 0]
    assert tokenizer.text(tokenizer.tokens("Hi !!<|end|>")) == "Hi !!"
    assert tokenizer.ends == (0,) and tokenizer.begin == ()


def test_passages_contain_every_word_within_the_token_limit(tokenizer):
    text = "One two three.\n\nFour.\n\n" + " ".join(f"word{i}" for i in range(40)) + "\n\nLast."
    passages = list(passages_of(text, 30, tokenizer))
    assert " ".join(passages).split() == text.split()
    assert all(len(tokenizer.tokens(passage)) <= 31 for passage in passages)


def test_a_template_is_filled_once():
    card = Card("", "{title}|{text}", "", 9, 9)
    assert card.filled(Passage("{text}", "{title}")) == "{text}|{title}"
