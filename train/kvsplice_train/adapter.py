"""Low-rank adapters (LoRA, arXiv 2106.09685), read and written as PEFT's safetensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .weights import MODULES, Config, ModelError

# Short names of the modules, as used in options and PEFT's `target_modules` -> path in the layer.
TARGETS = {path.split(".")[1]: path for path in MODULES.values()}
ENCODE, BOTH = "encode", "both"


@dataclass
class Adapter:
    """`pairs[(layer, module)]` is A `[rank, in]` and B `[out, rank]`; a module's output gains `x A^T B^T * alpha / rank`.
    `where` determines the passes it acts on: those that encode documents (`encode`), or every pass (`both`)."""

    rank: int
    alpha: float
    where: str
    pairs: dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor]]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def answering(self) -> Adapter | None:
        """The adapter that acts on the passes that answer, if any."""
        return self if self.where == BOTH else None

    def parameters(self) -> list[torch.Tensor]:
        return [tensor for pair in self.pairs.values() for tensor in pair]

    def to(self, device: str) -> Adapter:
        pairs = {at: (a.to(device), b.to(device)) for at, (a, b) in self.pairs.items()}
        return Adapter(self.rank, self.alpha, self.where, pairs)


def module_shape(config: Config, module: str) -> tuple[int, int]:
    """`(out, in)` of a module's matrix."""
    queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
    return {
        "q_proj": (queries, config.hidden),
        "k_proj": (keys, config.hidden),
        "v_proj": (keys, config.hidden),
        "o_proj": (config.hidden, queries),
        "gate_proj": (config.feed_forward, config.hidden),
        "up_proj": (config.feed_forward, config.hidden),
        "down_proj": (config.hidden, config.feed_forward),
    }[module]


def new_adapter(
    config: Config, rank: int, alpha: float, where: str, modules: list[str], layers: range, seed: int, device: str = "cpu"
) -> Adapter:
    """An adapter that changes nothing yet: A is random, B is zero. In the last layer an encoding adapter needs only k and v:
    nothing uses the output of the other modules."""
    unknown = set(modules) - set(TARGETS)
    if unknown:
        raise ModelError(f"Unknown modules {', '.join(sorted(unknown))}; use some of {', '.join(TARGETS)}.")
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for layer in layers:
        for module in modules:
            if where == ENCODE and layer == config.layers - 1 and module not in ("k_proj", "v_proj"):
                continue
            outputs, inputs = module_shape(config, module)
            a = torch.randn(rank, inputs, generator=generator) / inputs**0.5
            pairs[layer, module] = (a.to(device).requires_grad_(), torch.zeros(outputs, rank, device=device).requires_grad_())
    return Adapter(rank, alpha, where, pairs)


def save_adapter(adapter: Adapter, folder: str | Path, base: str, dtype: torch.dtype = torch.float16) -> None:
    """Writes `adapter_model.safetensors` and `adapter_config.json`, which PEFT reads as well."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for (layer, module), (a, b) in adapter.pairs.items():
        name = f"base_model.model.model.layers.{layer}.{TARGETS[module]}"
        tensors[f"{name}.lora_A.weight"] = a.detach().to("cpu", dtype).contiguous()
        tensors[f"{name}.lora_B.weight"] = b.detach().to("cpu", dtype).contiguous()
    path = folder / "adapter_model.safetensors"
    save_file(tensors, path, metadata={"format": "pt", "kvsplice.where": adapter.where})
    path.chmod(0o644)
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "target_modules": sorted({module for _, module in adapter.pairs}),
        "layers_to_transform": sorted({layer for layer, _ in adapter.pairs}),
        "kvsplice_where": adapter.where,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def load_adapter(folder: str | Path) -> Adapter:
    """Reads the files of `save_adapter`, or another PEFT LoRA; anything unsupported is refused by name."""
    folder = Path(folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    if settings.get("peft_type") != "LORA":
        raise ModelError(f"{folder} is a PEFT adapter of type {settings.get('peft_type')}; only LORA is supported.")
    for name in ("use_dora", "use_rslora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern"):
        if settings.get(name):
            raise ModelError(f"{folder} uses {name}, which is not supported.")
    paths = {path: module for module, path in TARGETS.items()}
    halves: dict[tuple[int, str], dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        stem, _, kind = name.removesuffix(".weight").rpartition(".")
        layer, _, path = stem.removeprefix("base_model.model.model.layers.").partition(".")
        if kind not in ("lora_A", "lora_B") or not layer.isdigit() or path not in paths:
            raise ModelError(f"Tensor {name} in {folder} is not supported.")
        halves.setdefault((int(layer), paths[path]), {})[kind] = tensor.float()
    pairs = {at: (pair["lora_A"], pair["lora_B"]) for at, pair in halves.items()}
    return Adapter(settings["r"], settings["lora_alpha"], settings.get("kvsplice_where", BOTH), pairs)
