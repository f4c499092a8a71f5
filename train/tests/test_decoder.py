"""The passes, compared with Hugging Face's implementations of the same models."""

import random

import pytest
import torch
from folders import folder_of

from kvsplice_train.answering import full_attention
from kvsplice_train.decoder import Decoder
from kvsplice_train.linking import again
from kvsplice_train.prompts import PromptSet, Question, encode_library, rows_behind, splice_prompts
from kvsplice_train.tiny import tiny_model, write_gguf
from kvsplice_train.weights import ModelError, read_weights

ARCHITECTURES = ("llama", "qwen2", "qwen3")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_those_of_transformers(architecture, tmp_path):
    transformers = pytest.importorskip("transformers")
    weights = tiny_model(architecture, seed=1)
    folder = folder_of(weights, tmp_path / "model")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    decoder = Decoder(read_weights(folder))
    ids = torch.randint(1, 96, (2, 40), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        _, hidden = decoder.encode(ids, hidden=True)
        torch.testing.assert_close(decoder.logits(hidden), theirs(ids).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_gguf_file_gives_the_tensors_that_were_written(architecture, tmp_path):
    weights = tiny_model(architecture, seed=1)
    write_gguf(weights, tmp_path / "model.gguf")
    read = read_weights(tmp_path / "model.gguf")
    assert read.config.layers == weights.config.layers and read.config.architecture == architecture
    assert read.tensors.keys() == weights.tensors.keys()
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in weights.tensors.items())


def test_an_unknown_architecture_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(ModelError, match="mamba"):
        read_weights(tmp_path)


def random_prompts(seed: int) -> PromptSet:
    rng = random.Random(seed)
    tokens = lambda low, high: tuple(rng.randrange(1, 96) for _ in range(rng.randrange(low, high)))
    documents = {f"d{i}": tokens(5, 20) for i in range(12)}
    asked = [Question(tuple(rng.sample(sorted(documents), rng.randrange(1, 5))), tokens(3, 9)) for _ in range(6)]
    return PromptSet(tokens(4, 5), documents, {"all": asked}, (0,))


@pytest.mark.parametrize("behind_prefix", (False, True))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_recomputing_every_document_token_is_full_attention(architecture, behind_prefix):
    decoder, prompts = Decoder(tiny_model(architecture, seed=3)), random_prompts(4)
    asked = prompts.questions["all"]
    expected = full_attention(decoder, prompts, asked)
    library = encode_library(decoder, prompts, sorted(prompts.documents), prompts.prefix if behind_prefix else ())
    context = splice_prompts(decoder, library, [question.documents for question in asked])
    rows, cache = again(context, context.document >= 0, rows_behind(context.lengths, [list(q.tokens) for q in asked], "cpu"))
    with torch.no_grad():
        hidden, _, _ = decoder.run(rows, cache)
    longest = max(len(question.tokens) for question in asked)
    for i, (question, reference) in enumerate(zip(asked, expected)):
        last = decoder.logits(hidden[i, hidden.shape[1] - longest + len(question.tokens) - 1]).log_softmax(-1)
        torch.testing.assert_close(last, reference.log_probabilities[0].float(), atol=5e-3, rtol=1e-3)


def test_one_document_behind_the_prefix_is_full_attention():
    decoder, prompts = Decoder(tiny_model("qwen2", seed=3)), random_prompts(4)
    asked = [Question((name,), (5, 6, 7)) for name in prompts.documents]
    expected = full_attention(decoder, prompts, asked)
    library = encode_library(decoder, prompts, sorted(prompts.documents), prompts.prefix)
    context = splice_prompts(decoder, library, [question.documents for question in asked])
    with torch.no_grad():
        hidden, _, _ = decoder.run(rows_behind(context.lengths, [list(q.tokens) for q in asked], "cpu"), context.cache)
    for i, reference in enumerate(expected):
        found = decoder.logits(hidden[i, -1]).log_softmax(-1)
        torch.testing.assert_close(found, reference.log_probabilities[0].float(), atol=5e-3, rtol=1e-3)
