#!/usr/bin/env python3
"""Writes tensors.json: blocks of random bytes of each tensor type, and their values by llama.cpp's Python package.

pip install gguf numpy; python3 test/golden/tensors.py > test/golden/tensors.json
"""
import base64
import importlib.metadata
import json

import gguf
import numpy as np

# Where the half precision numbers of a block lie; random bytes there would be infinite now and then.
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": []}
rng = np.random.default_rng(13)
types = {}
for name in ["F16", "BF16", *HALVES]:
    type = getattr(gguf.GGMLQuantizationType, name)
    elements, size = gguf.GGML_QUANT_SIZES[type]
    blocks = 512 // elements if elements > 1 else 64
    raw = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
    if name == "F16":
        raw = (rng.standard_normal(64) * 3).astype(np.float16).view(np.uint8)
    elif name == "BF16":
        raw = ((rng.standard_normal(64) * 3).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    elif name == "MXFP4":
        raw[:, 0] = rng.integers(110, 140, blocks)
        raw[:2, 0] = [0, 1]
    else:
        for at in HALVES[name]:
            raw[:, at:at + 2] = (rng.standard_normal(blocks) * 0.05).astype(np.float16).view(np.uint8).reshape(-1, 2)
    values = gguf.quants.dequantize(raw.reshape(-1), type).astype(np.float32)
    text = lambda array: base64.b64encode(array.tobytes()).decode()
    types[name] = {"bytes": text(raw), "values": text(values)}
print(json.dumps({"made_by": f"gguf {importlib.metadata.version('gguf')}, numpy {np.__version__}", "types": types}, indent=1))
