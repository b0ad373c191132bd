"""archive: every reply of an endpoint, kept as it came, so that a run can be resumed and checked.

One JSON line per prompt, mode 0600, on disk before the next question is asked. A line torn by a crash is left out. The
file is itself a file of answers: it can be compared again without asking anybody.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from stillwatch.errors import InputError


class Archive:
    """The replies to one kind of request: an address, a model, and the options that were sent with the prompt."""

    def __init__(self, folder: Path, *, address: str, model: str, options: Mapping[str, Any]) -> None:
        asked = {"address": address, "model": model, "options": dict(options)}
        self.request_sha256 = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        plain = "".join(character if character.isalnum() or character in "._-" else "-" for character in model)
        self.path = folder / f"{plain[:80]}-{self.request_sha256[:12]}.jsonl"
        self._model = model
        self._outputs = self._read()

    @property
    def outputs(self) -> Mapping[str, str | None]:
        """What has been answered so far; None where the endpoint refused the prompt."""
        return self._outputs

    def add(self, prompt: str, output: str | None, *, reply: bytes, status: int, ts: datetime) -> None:
        """Keep one reply; it is on disk when the call returns.

        Raises:
            InputError: the file cannot be written.
        """
        record = {
            "model": self._model,
            "prompt": prompt,
            "output": output,
            "status": status,
            "ts": ts.isoformat(),
            "reply_sha256": hashlib.sha256(reply).hexdigest(),
            "reply": reply.decode("utf-8", "replace"),
        }
        line = json.dumps(record, sort_keys=True).encode("ascii") + b"\n"
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                os.write(descriptor, b"\n" + line if torn else line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise InputError(f"the replies cannot be kept in {self.path}", got=error.strerror) from error
        self._outputs[prompt] = output

    def _read(self) -> dict[str, str | None]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InputError(f"{self.path} cannot be read", got=error.strerror, do="Name another --answers.") from error
        found: dict[str, str | None] = {}
        for line in content.split(b"\n"):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and isinstance(record.get("prompt"), str):
                output = record.get("output")
                found[record["prompt"]] = output if isinstance(output, str) else None
        return found
