from importlib.util import find_spec

MISSING = [name for name in ("torch", "gguf", "safetensors", "tokenizers", "bm25s") if find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []

if not MISSING:
    import torch

    # The models are tiny: a second thread costs more than it gains.
    torch.set_num_threads(1)


def pytest_report_header() -> str:
    return f"kvsplice-train's tests are skipped: {', '.join(MISSING)} not installed" if MISSING else ""
