from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import stillwatch.watermark
from tests.watermark import making

FOLDER = Path(stillwatch.watermark.__file__).parent
EMBEDDERS = {path.stem for path in FOLDER.glob("*.py") if "torch" in path.read_text("utf-8").splitlines()[0]}
BLOCKED = ("torch", "transformers", "tokenizers", "vllm")


def without(lines: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in which none of the optional packages can be imported."""
    block = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
"""
    return subprocess.run(
        [sys.executable, "-c", block + lines], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


def test_all_but_the_embedders_load_without_torch(tmp_path: Path) -> None:
    """Keys, detector, marker and tickets need no optional package; what needs torch says so at its top."""
    plain = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in {*EMBEDDERS, "__init__"})
    assert {"huggingface", "vllm"} <= EMBEDDERS and {"detector", "keys", "tickets"} <= set(plain)
    imports = "\n".join(f"import stillwatch.watermark.{name}" for name in plain)
    done = without(imports, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("embedder", ["huggingface", "vllm"])
def test_an_embedder_says_what_to_install(tmp_path: Path, embedder: str) -> None:
    """Without its package an embedder is one clean error that names the extra."""
    program = f"""
from stillwatch.errors import ExtraMissing
try:
    import stillwatch.watermark.{embedder}
except ExtraMissing as error:
    print(error)
"""
    done = without(program, tmp_path)
    assert "pip install 'stillwatch[marks]'" in done.stdout, done.stderr


@pytest.mark.slow
def test_detection_works_without_torch(tmp_path: Path) -> None:
    """The command line tests token ids to the end, and asks for the tokenizer's package only where one is used."""
    np.save(tmp_path / "ids.npy", np.stack([one.tokens for one in making.written(None, seed=1, n_texts=3)]))
    program = "from stillwatch.cli.main import main\nsys.argv = ['stillwatch', 'mark', 'detect', 'ids.npy', {}]\nmain()"
    done = without(program.format("'--decoys', '20'"), tmp_path)
    assert done.returncode == 0 and "No mark found" in done.stdout, done.stderr
    done = without(program.format("'--tokenizer', 'x.json'"), tmp_path)
    assert done.returncode == 2 and "pip install 'stillwatch[tokenizer]'" in done.stderr
