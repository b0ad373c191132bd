"""__main__: `python -m benchmarks`: every benchmark, its table written beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run each benchmark in a process of its own, so that peak memory is its own."""
    for name in ("practice", "speed", "marks", "audit", "compare"):
        subprocess.run([sys.executable, HERE / f"{name}.py", "--write", HERE / f"{name}.md"], check=True)


if __name__ == "__main__":
    main()
