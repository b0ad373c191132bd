"""refresh: run the demo and put its terminal capture, its counts and the report's picture into README.md.

    python docs/refresh.py             (the picture needs chromium; without it the old one stays)

Run it whenever a score or a word of the summary moves. The key is fixed, so that the capture can be made again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
KEY = "01" * 32
"""The key of the capture; it guards nothing but made-up accounts."""

N_LEADS_SHOWN = 2
CUT = "  [further leads cut from this capture]"
CAPTURE = re.compile(r"(<!-- capture: stillwatch demo -->\n```text\n).*?(\n```)", re.DOTALL)
COUNTS = re.compile(r"\d+ of the \d+ planted accounts and \d+ others?")


def run_demo(folder: Path) -> str:
    """Run the demo in a folder with the fixed key and return what it prints on a pipe, 80 columns wide."""
    environ = os.environ | {
        "STILLWATCH_KEY": KEY,
        "STILLWATCH_HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONIOENCODING": "utf-8",
        "COLUMNS": "80",
    }
    command = [sys.executable, "-m", "stillwatch", "demo"]
    return subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True, text=True).stdout


def trimmed(said: str) -> str:
    """The output as shown: runs of empty lines made one, and all but the first leads cut, which is said."""
    lines: list[str] = []
    n_leads = 0
    for line in re.sub(r"\n{3,}", "\n\n", said).rstrip().splitlines():
        n_leads += bool(re.match(r"  c[0-9a-f]{15} ", line))
        if n_leads <= N_LEADS_SHOWN or not line.startswith("  "):
            lines.append(line.rstrip())
        elif lines[-1] != CUT:
            lines.append(CUT)
    return "\n".join(lines)


def counts(demo: Path) -> str:
    """Who was named, against the truth that the scan never saw."""
    truth = pq.read_table(demo / "world" / "truth.parquet")
    planted = set(truth.filter(pc.is_valid(truth["campaign"]))["account_id"].to_pylist())
    named = set(pq.read_table(demo / "findings" / "members.parquet")["account_id"].to_pylist())
    others = len(named - planted)
    return f"{len(named & planted)} of the {len(planted)} planted accounts and {others} other" + "s" * (others != 1)


def picture(report: Path, target: Path) -> None:
    """Photograph the top of the report, where chromium is installed."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        sys.stderr.write("no chromium: docs/report.png was left as it is\n")
        return
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,1600"]
    subprocess.run([browser, *flags, f"--screenshot={target}", report.as_uri()], check=True, capture_output=True)


def main() -> None:
    """Refresh README.md and docs/report.png from one run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = trimmed(run_demo(folder))
        readme = ROOT / "README.md"
        text = readme.read_text(encoding="utf-8")
        text = CAPTURE.sub(lambda found: found[1] + "$ stillwatch demo\n" + said + found[2], text)
        readme.write_text(COUNTS.sub(counts(folder / "demo"), text), encoding="utf-8")
        picture(folder / "demo" / "findings" / "report.html", ROOT / "docs" / "report.png")


if __name__ == "__main__":
    main()
