"""Tokens of a model's own tokenizer, from its GGUF file or its folder's tokenizer.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from .weights import ModelError

# How text is split before byte pairs are merged, by llama.cpp's name (`tokenizer.ggml.pre`).
CUTS = {
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
# Single digits, then GPT-2's own split.
DIGITS_APART = ("smollm",)


@dataclass(frozen=True)
class ModelTokenizer:
    """`begin` precedes every prompt if the model requires it; `ends` end an answer."""

    tokenizer: Tokenizer
    begin: tuple[int, ...]
    ends: tuple[int, ...]

    def tokens(self, text: str) -> list[int]:
        """Control tokens spelled out in the text become control tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def text(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)


def read_tokenizer(path: str | Path) -> ModelTokenizer:
    path = Path(path)
    return folder_tokenizer(path) if path.is_dir() else gguf_tokenizer(path)


def folder_tokenizer(path: Path) -> ModelTokenizer:
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    settings = json.loads((path / "tokenizer_config.json").read_text())

    def ids(name: str) -> tuple[int, ...]:
        token = settings.get(name)
        content = token["content"] if isinstance(token, dict) else token
        return () if content is None else (tokenizer.token_to_id(content),)

    return ModelTokenizer(tokenizer, ids("bos_token") if settings.get("add_bos_token") else (), ids("eos_token"))


def gguf_tokenizer(path: Path) -> ModelTokenizer:
    fields = gguf.GGUFReader(path).fields

    def value(key: str, fallback=None):
        field = fields.get(f"tokenizer.ggml.{key}")
        return fallback if field is None else field.contents()

    if value("model") != "gpt2":
        raise ModelError(f"The tokenizer of {path} is not byte-level BPE. Give the model's Hugging Face folder instead.")
    tokens = value("tokens")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in value("merges")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=value("pre") == "llama-bpe"))
    tokenizer.pre_tokenizer = cut(value("pre"))
    tokenizer.decoder = decoders.ByteLevel()
    kinds = {gguf.TokenType.CONTROL: True, gguf.TokenType.USER_DEFINED: False}
    tokenizer.add_tokens(
        [AddedToken(token, special=kinds[kind], normalized=False) for token, kind in zip(tokens, value("token_type")) if kind in kinds]
    )
    ends = {value(key) for key in ("eos_token_id", "eot_token_id")} - {None}
    return ModelTokenizer(tokenizer, (value("bos_token_id"),) if value("add_bos_token") else (), tuple(sorted(ends)))


def cut(name: str) -> pre_tokenizers.PreTokenizer:
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if name in DIGITS_APART:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    if name not in CUTS:
        raise ModelError(f"The pre-tokenizer \"{name}\" is unknown. Give the model's Hugging Face folder instead.")
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CUTS[name]), "isolated"), bytes_of])
