"""Asking an address, as a client does: its answer, whatever its status."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A status, headers by lower-case name, and a body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    @property
    def said(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def ask(url: str, body: Any = None, headers: Mapping[str, str] | None = None, method: str | None = None) -> Answer:
    """POST a body as JSON, or GET where there is none."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data=data, headers=given, method=method)  # noqa: S310 (loopback)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (loopback)
            return _read(answer)
    except urllib.error.HTTPError as error:
        with error:
            return _read(error)


def _read(answer: Any) -> Answer:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(answer.status, headers, answer.read())
