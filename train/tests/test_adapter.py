"""Adapters: what they change, where they act, and their files."""

import json

import pytest
import torch
from folders import folder_of

from kvsplice_train.adapter import BOTH, ENCODE, TARGETS, load_adapter, new_adapter, save_adapter
from kvsplice_train.decoder import Decoder
from kvsplice_train.golden import random_adapter
from kvsplice_train.tiny import tiny_model
from kvsplice_train.weights import ModelError, Weights

IDS = torch.arange(1, 30)[None]


def test_a_new_adapter_changes_nothing():
    weights = tiny_model("qwen2", seed=1)
    decoder = Decoder(weights)
    adapter = new_adapter(weights.config, 4, 8, BOTH, list(TARGETS), range(3), seed=1)
    plain, _ = decoder.encode(IDS)
    adapted, _ = decoder.encode(IDS, adapter)
    assert all(torch.equal(a, b) for a, b in zip(plain.keys + plain.values, adapted.keys + adapted.values))


def test_an_adapter_is_its_product_added_to_the_weights():
    weights = tiny_model("llama", seed=1)
    adapter = random_adapter(weights.config, seed=1)
    merged = dict(weights.tensors)
    for (layer, module), (a, b) in adapter.pairs.items():
        name = f"model.layers.{layer}.{TARGETS[module]}.weight"
        merged[name] = merged[name] + b @ a * adapter.alpha / adapter.rank
    expected, _ = Decoder(Weights(weights.config, merged)).encode(IDS)
    found, _ = Decoder(weights).encode(IDS, adapter)
    for a, b in zip(expected.keys + expected.values, found.keys + found.values):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_files_keep_an_adapter(tmp_path):
    adapter = random_adapter(tiny_model("qwen3", seed=1).config, seed=1)
    save_adapter(adapter, tmp_path, "tiny", torch.float32)
    read = load_adapter(tmp_path)
    assert (read.rank, read.alpha, read.where) == (adapter.rank, adapter.alpha, ENCODE)
    assert read.pairs.keys() == adapter.pairs.keys()
    assert all(torch.equal(x, y) for at in read.pairs for x, y in zip(read.pairs[at], adapter.pairs[at]))


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
@pytest.mark.parametrize("architecture", ("llama", "qwen2", "qwen3"))
def test_peft_computes_the_same_with_the_files(architecture, tmp_path):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    weights = tiny_model(architecture, seed=1)
    adapter = random_adapter(weights.config, seed=1)
    save_adapter(adapter, tmp_path / "adapter", "tiny", torch.float32)
    base = transformers.AutoModelForCausalLM.from_pretrained(folder_of(weights, tmp_path / "model"), dtype=torch.float32)
    decoder = Decoder(weights)
    with torch.no_grad():
        expected = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")(IDS).logits
        _, hidden = decoder.encode(IDS, adapter, hidden=True)
        torch.testing.assert_close(decoder.logits(hidden), expected, atol=1e-3, rtol=1e-3)
        _, plain = decoder.encode(IDS, hidden=True)
    assert (decoder.logits(plain) - expected).abs().max() > 0.1


@pytest.mark.parametrize("feature", ("use_dora", "modules_to_save", "rank_pattern"))
def test_unsupported_features_are_refused_by_name(tmp_path, feature):
    save_adapter(random_adapter(tiny_model("qwen2", seed=1).config, seed=1), tmp_path, "tiny")
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | {feature: ["lm_head"]}))
    with pytest.raises(ModelError, match=feature):
        load_adapter(tmp_path)


def test_an_encoding_adapter_leaves_out_unused_modules():
    config = tiny_model("qwen2", seed=1).config
    last = {module for layer, module in new_adapter(config, 4, 8, ENCODE, list(TARGETS), range(3), seed=1).pairs if layer == 2}
    assert last == {"k_proj", "v_proj"}
