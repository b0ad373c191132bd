"""__main__: `python -m benchmarks`: every benchmark, its table written beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = (
    "practice", "speed", "marks", "audit", "compare", "leads", "simulate", "importers", "channels", "tagger",
    "detection", "policy",
)  # fmt: skip


def main() -> None:
    """Run each benchmark in a process of its own, so that peak memory is its own."""
    for name in NAMES:
        words: list[str | Path] = [sys.executable, "-m", f"benchmarks.{name}", "--write", HERE / f"{name}.md"]
        subprocess.run(words, check=True, cwd=HERE.parent)


if __name__ == "__main__":
    main()
