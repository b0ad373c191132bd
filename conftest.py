"""What pytest cannot read for doctests here: modules whose optional packages are not installed."""

from importlib.util import find_spec

NEEDS = {
    "src/stillwatch/watermark/huggingface.py": "transformers",
    "src/stillwatch/watermark/vllm.py": "vllm",
}

collect_ignore = [path for path, package in NEEDS.items() if find_spec(package) is None]
