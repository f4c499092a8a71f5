#!/usr/bin/env python3
"""
Writes folders.json beside it: for each family, the configuration of a tiny checkpoint, the shapes of its tensors, and
what transformers computes with it. The weights are a function of names and places (`fill`), which
test/support/engine/files/write-folder.ts computes, too: no weights are kept.

It also notes what llama.cpp's converter makes of each: its keys, and hashes of each tensor's values and of the bytes that they
are quantised to.

usage: folders.py LLAMA.CPP    (its sources, for conversion/; torch, transformers, safetensors, numpy, gguf)
"""
import hashlib, json, os, pathlib, subprocess, sys, tempfile
import numpy as np, torch, transformers
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(0)


def fill(name, shape, mean, spread):
    """Values within `spread` of `mean`, rounded to bfloat16: a hash (murmur3's finish) of each place, seeded by the name's FNV-1a."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x01000193) & 0xFFFFFFFF
    with np.errstate(over="ignore"):
        x = np.arange(int(np.prod(shape)), dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(seed)
        x ^= x >> np.uint32(16); x *= np.uint32(0x85EBCA6B); x ^= x >> np.uint32(13); x *= np.uint32(0xC2B2AE35); x ^= x >> np.uint32(16)
    values = (mean + (x.astype(np.float64) / 2**31 - 1) * spread).astype(np.float32)
    return torch.from_numpy(values).reshape(shape).to(torch.bfloat16)


def moments(name, shape, family):
    """Norms scale by about one, in Gemma's way of writing, too; matrices keep what goes through them about as large as it is."""
    if "norm" in name: return (0.0 if family.startswith("gemma") else 1.0), 0.3
    if name.endswith("bias"): return 0.0, 0.3
    if "embed_tokens" in name: return 0.0, 1.0
    return 0.0, 2.0 / shape[-1] ** 0.5


SMALL = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=288,
             max_position_embeddings=256, bos_token_id=256, eos_token_id=257, pad_token_id=None, tie_word_embeddings=False)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64, rope_theta=10000.0)
LINEAR = dict(rope_type="linear", factor=4.0, rope_theta=10000.0)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64, rope_theta=10000.0)
LONG = dict(rope_type="longrope", long_factor=[1.0 + i for i in range(8)], short_factor=[1.0 + i / 8 for i in range(8)],
            original_max_position_embeddings=64, rope_theta=10000.0)
CASES = {
    "llama": ("LlamaConfig", dict()),
    "llama-tied-biased": ("LlamaConfig", dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True, rms_norm_eps=1e-5)),
    "llama-3.1": ("LlamaConfig", dict(rope_parameters=LLAMA3)),
    "llama-linear": ("LlamaConfig", dict(rope_parameters=LINEAR)),
    "mistral": ("MistralConfig", dict(sliding_window=8, head_dim=32)),
    "qwen2": ("Qwen2Config", dict()),
    "qwen2-yarn": ("Qwen2Config", dict(rope_parameters=YARN)),
    "qwen3": ("Qwen3Config", dict(head_dim=32, tie_word_embeddings=True)),
    "gemma": ("GemmaConfig", dict(head_dim=32, tie_word_embeddings=True)),
    "gemma2": ("Gemma2Config", dict(head_dim=32, sliding_window=8, query_pre_attn_scalar=24, tie_word_embeddings=True)),
    "gemma3": ("Gemma3TextConfig", dict(head_dim=32, sliding_window=8, query_pre_attn_scalar=24, tie_word_embeddings=True, num_hidden_layers=3,
               layer_types=["sliding_attention", "sliding_attention", "full_attention"])),
    "phi3": ("Phi3Config", dict(num_key_value_heads=4)),
    "phi3-long": ("Phi3Config", dict(rope_parameters=LONG, original_max_position_embeddings=64)),
    "smollm3": ("SmolLM3Config", dict(num_hidden_layers=4, no_rope_layers=[1, 1, 1, 0], tie_word_embeddings=True)),
    "granite": ("GraniteConfig", dict(embedding_multiplier=6.0, residual_multiplier=0.5, attention_multiplier=0.2, logits_scaling=4.0)),
    "mixtral": ("MixtralConfig", dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=None)),
    "qwen3moe": ("Qwen3MoeConfig", dict(head_dim=32, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True)),
    "gptoss": ("GptOssConfig", dict(head_dim=32, sliding_window=8, num_local_experts=4, num_experts_per_tok=2,
               rope_parameters=dict(YARN, truncate=False, beta_fast=32.0, beta_slow=1.0))),
    "olmo2": ("Olmo2Config", dict()),
    "olmo3": ("Olmo3Config", dict(sliding_window=8, num_hidden_layers=4, rope_parameters=YARN,
              layer_types=["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"])),
}


def make(family, out):
    name, more = CASES[family]
    config = getattr(transformers, name)(**{**SMALL, **more}, attn_implementation="eager")
    model = transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model.save_pretrained(out)
    path = os.path.join(out, "model.safetensors")
    tensors = {key: fill(key, tuple(value.shape), *moments(key, tuple(value.shape), family)) for key, value in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation="eager").eval()
    ids = [(i * 37 + 11) % 256 for i in range(24)]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1].double().numpy()
    with open(os.path.join(out, "config.json")) as file: config = json.load(file)
    return {"config": config, "tensors": {key: list(value.shape) for key, value in sorted(tensors.items())},
            "ids": ids, "logits": [round(float(x), 5) for x in logits]}


LLAMA_CPP = sys.argv[1]
sys.path[:0] = [LLAMA_CPP, os.path.join(LLAMA_CPP, "gguf-py")]
import gguf
from conversion import get_model_class


def convert(folder, config):
    """What llama.cpp's converter makes of a checkpoint, its vocabulary left out: keys of the architecture, and hashes of values."""
    out = pathlib.Path(folder) / "model.gguf"
    model = get_model_class(config["architectures"][0])(pathlib.Path(folder), gguf.LlamaFileType.ALL_F32, out)
    model.set_vocab = lambda: None
    with open(os.path.join(folder, "tokenizer.json"), "w") as file:  # Gemma 3's looks how many tokens there are
        json.dump({"model": {"vocab": {str(i): i for i in range(config["vocab_size"])}}, "added_tokens": []}, file)
    model.write()
    reader = gguf.GGUFReader(str(out))
    architecture = reader.get_field("general.architecture").contents()
    keys = {key: field.contents() for key, field in reader.fields.items() if key.startswith(architecture + ".")}
    tensors = {t.name: hashlib.sha256(np.ascontiguousarray(t.data, np.float32).tobytes()).hexdigest() for t in reader.tensors}
    quantized = {kind: {t.name: hashlib.sha256(gguf.quants.quantize(np.array(t.data, np.float32), gguf.GGMLQuantizationType[kind]).tobytes()).hexdigest()
                        for t in reader.tensors if t.data.ndim == 2} for kind in ("Q8_0", "Q4_0")}
    return {"architecture": architecture, "keys": keys, "tensors": tensors, "quantized": quantized}


made = {}
with tempfile.TemporaryDirectory() as folder:
    for family in CASES:
        path = os.path.join(folder, family)
        made[family] = make(family, path)
        made[family]["gguf"] = convert(path, made[family]["config"])
        print(family, "logits' deviation", round(float(np.std(made[family]["logits"])), 3), flush=True)
commit = subprocess.run(["git", "-C", LLAMA_CPP, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
with open(os.path.join(HERE, "folders.json"), "w") as file:
    json.dump({"made_with": {"transformers": transformers.__version__, "torch": torch.__version__, "llama.cpp": commit}, "families": made}, file)
    file.write("\n")
