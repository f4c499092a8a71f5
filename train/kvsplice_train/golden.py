"""Golden values for kvsplice's own tests: tiny random models, an adapter for each, and what this package computes with them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch

from .adapter import BOTH, ENCODE, TARGETS, Adapter, new_adapter, save_adapter
from .answering import full_attention, generate
from .decoder import Decoder
from .evaluate import Setting, link
from .linking import again, looked_at
from .prompts import PromptSet, Question, encode_library, rows_behind, splice_prompts
from .tiny import TINY, tiny_model, write_gguf
from .weights import ARCHITECTURES

ANSWER_TOKENS = 6
RANK, ALPHA = 4, 8

CASES = {
    "spliced": Setting("spliced"),
    "prefix": Setting("prefix", behind_prefix=True),
    "recompute": Setting("recompute", behind_prefix=True, recompute=0.3, last=5, others=0.1),
    "recompute, all rows": Setting("recompute, all rows", behind_prefix=True, recompute=0.3),
    "recompute everything": Setting("recompute everything", behind_prefix=True, recompute=1.0),
    "order": Setting("order", behind_prefix=True, recompute=0.3, last=5, order=True, others=0.1),
    "first": Setting("first", behind_prefix=True, recompute=4, choose="first"),
    "deviation": Setting("deviation", behind_prefix=True, recompute=0.3, choose="deviation"),
}


def write_golden(folder: Path) -> None:
    """One `NAME.gguf`, `NAME-adapter/` and `NAME-values.json` for each architecture."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, architecture in enumerate(ARCHITECTURES):
        weights = tiny_model(architecture, seed)
        write_gguf(weights, folder / f"{architecture}.gguf")
        adapter = random_adapter(weights.config, seed)
        save_adapter(adapter, folder / f"{architecture}-adapter", f"tiny {architecture}", torch.float32)
        values = golden_values(Decoder(weights), adapter, prompts_of(seed))
        (folder / f"{architecture}-values.json").write_text(json.dumps(values, separators=(",", ":")) + "\n")


def random_adapter(config, seed: int) -> Adapter:
    """On every module of every layer, except those in the last layer that encoding does not use, with a B that has an effect."""
    adapter = new_adapter(config, RANK, ALPHA, ENCODE, list(TARGETS), range(config.layers), seed)
    generator = torch.Generator().manual_seed(seed + 100)
    pairs = {at: (a.detach(), torch.randn(b.shape, generator=generator) * 0.15) for at, (a, b) in adapter.pairs.items()}
    return Adapter(RANK, ALPHA, ENCODE, pairs)


def prompts_of(seed: int) -> PromptSet:
    rng = random.Random(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(1, TINY["vocabulary"]) for _ in range(count))

    documents = {name: tokens(count) for name, count in (("a", 17), ("b", 11), ("c", 23))}
    return PromptSet(tokens(5), documents, {"all": [Question(("b", "c", "a"), tokens(9))]}, (0,))


def golden_values(decoder: Decoder, adapter: Adapter, prompts: PromptSet) -> dict:
    question = prompts.questions["all"][0]
    both = Adapter(adapter.rank, adapter.alpha, BOTH, adapter.pairs)
    encoded = encode_library(decoder, prompts, ["b"], prompts.prefix, adapter)
    at = encoded.start["b"]
    return {
        "prefix": prompts.prefix,
        "documents": prompts.documents,
        "order": question.documents,
        "question": question.tokens,
        "cases": [
            full_case(decoder, prompts, question, "full attention", None),
            *(spliced_case(decoder, prompts, question, setting, None) for setting in CASES.values()),
            spliced_case(decoder, prompts, question, Setting("encoding adapter", behind_prefix=True), adapter),
            spliced_case(decoder, prompts, question, Setting("encoding adapter, recompute", True, recompute=0.3, last=5, others=0.1), adapter),
            full_case(decoder, prompts, question, "full attention, adapter on every pass", both),
            spliced_case(decoder, prompts, question, Setting("adapter on every pass", behind_prefix=True), both),
        ],
        "block": {
            "document": "b",
            "how": "behind the prefix, with the encoding adapter",
            "k": rounded(torch.stack([k[0, at : at + encoded.length["b"]] for k in encoded.encoding.keys]).transpose(1, 2)),
            "v": rounded(torch.stack([v[0, at : at + encoded.length["b"]] for v in encoded.encoding.values]).transpose(1, 2)),
        },
    }


def full_case(decoder: Decoder, prompts: PromptSet, question: Question, name: str, adapter: Adapter | None) -> dict:
    sequence = [*prompts.prefix, *(t for d in question.documents for t in prompts.documents[d]), *question.tokens]
    with torch.no_grad():
        _, hidden = decoder.encode(torch.tensor([sequence]), adapter, hidden=True)
        logits = decoder.logits(hidden[0, -1])
    answer = full_attention(decoder, prompts, [question], adapter, ANSWER_TOKENS)[0].answer
    return {"name": name, "adapter": adapter.where if adapter else None, "logits": rounded(logits), "answer": answer}


@torch.no_grad()
def spliced_case(decoder: Decoder, prompts: PromptSet, question: Question, setting: Setting, adapter: Adapter | None) -> dict:
    answering = adapter.answering if adapter else None
    library = encode_library(decoder, prompts, sorted(prompts.documents), prompts.prefix if setting.behind_prefix else (), adapter)
    context, chosen = link(decoder, library, [question], setting, answering)
    asked = rows_behind(context.lengths, [list(question.tokens)], decoder.device)
    rows, cache = again(context, chosen, asked)
    hidden, cache, _ = decoder.run(rows, cache, answering)
    logits = decoder.logits(hidden[:, -1])
    ends = context.lengths + len(question.tokens)
    answers, _ = generate(decoder, cache, ends, logits, prompts.ends, ANSWER_TOKENS, answering)
    case = {
        "name": setting.name,
        "adapter": adapter.where if adapter else None,
        "behindPrefix": setting.behind_prefix,
        "recomputed": chosen[0].nonzero()[:, 0].tolist(),
        "logits": rounded(logits[0]),
        "answer": answers[0],
    }
    if setting.order:
        case["order"] = placed(question, context.ids[0].tolist(), prompts)
    if setting.choose == "question" and setting.recompute:
        before = splice_prompts(decoder, library, [question.documents])
        case["looked"] = rounded(looked_at(decoder, before, asked, setting.layers, setting.last, answering, setting.others)[0])
        case |= {"layers": setting.layers, "last": setting.last, "others": setting.others}
    return case


def placed(question: Question, ids: list[int], prompts: PromptSet) -> list[str]:
    """The documents in the order of their tokens in the prompt."""
    text = ids[len(prompts.prefix) :]
    order: list[str] = []
    while text:
        name = next(name for name in question.documents if tuple(text[: len(prompts.documents[name])]) == prompts.documents[name])
        order.append(name)
        text = text[len(prompts.documents[name]) :]
    return order


def rounded(tensor: torch.Tensor) -> list:
    return json.loads(json.dumps(tensor.tolist()), parse_float=lambda text: round(float(text), 6))
