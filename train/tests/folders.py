"""Models as Hugging Face folders."""

import json

from safetensors.torch import save_file

from kvsplice_train.weights import Weights


def folder_of(weights: Weights, path):
    config = weights.config
    settings = {
        "model_type": config.architecture,
        "architectures": [{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}[config.architecture]],
        "num_hidden_layers": config.layers,
        "hidden_size": config.hidden,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "intermediate_size": config.feed_forward,
        "vocab_size": config.vocabulary,
        "rope_theta": config.rotary_base,
        "rms_norm_eps": config.norm_epsilon,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
    }
    path.mkdir()
    (path / "config.json").write_text(json.dumps(settings))
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.tensors.items()}, path / "model.safetensors", metadata={"format": "pt"}
    )
    return path
