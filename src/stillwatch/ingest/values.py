"""values: one value of any shape, read as what its canonical column holds; TypeError or ValueError where it cannot be.

These are the slow and patient readers; `conform` calls them only for columns whose type alone does not decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

_TEXT_KEYS = ("content", "text", "output_text", "message", "choices", "output", "parts", "arguments", "result")
_MISSING = frozenset({"", "null", "none", "nan", "na", "n/a", "\\n"})
_TRUTH = {"true": True, "yes": True, "1": True, "t": True, "false": False, "no": False, "0": False, "f": False}
_LARGEST = 2**63 - 1
_DEEPEST = 8

MOST_TOKENS = 1 << 32
"""No exchange has more; a milliard rows of as many add up within 64 bits."""


def as_text(value: Any) -> str | None:
    """Text as it is; numbers in their shortest form; bytes as UTF-8, what is not valid spelt out; the rest refused."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, (Mapping, list, tuple, set)):
        raise TypeError("not text")
    return str(value)


def as_account(value: Any) -> str | None:
    """Text as in `as_text`; true and false name nobody."""
    if isinstance(value, bool):
        raise TypeError("not an account")
    return as_text(value)


def as_prose(value: Any) -> str | None:
    """Text, or the text inside a message, a list of parts, a response object; other structures as JSON."""
    if not isinstance(value, (Mapping, list, tuple)):
        return as_text(value)
    found = _inner_text(value, 0)
    if found is not None:
        return found
    return msgspec.json.encode(value, enc_hook=str).decode() if value else None


def _inner_text(value: Any, depth: int) -> str | None:
    if isinstance(value, str):
        return value
    if depth > _DEEPEST:
        raise ValueError("nested too deep")
    if isinstance(value, Mapping):
        return next((text for key in _TEXT_KEYS if (text := _inner_text(value.get(key), depth + 1)) is not None), None)
    if isinstance(value, (list, tuple)):
        parts = [text for item in value if (text := _inner_text(item, depth + 1)) is not None]
        return "\n".join(parts) if parts else None
    return None


def as_prompt(value: Any) -> str | None:
    """Text, or the last user turn of a conversation."""
    if isinstance(value, (list, tuple)) and all(isinstance(turn, Mapping) and "role" in turn for turn in value):
        turns = as_messages(value) or []
        return next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), None)
    return as_prose(value)


def as_messages(value: Any) -> list[dict[str, str | None]] | None:
    """A conversation as role and content; bare text is one user turn, text that starts as JSON is read as JSON."""
    if value is None:
        return None
    if isinstance(value, (bytes, str)):
        text = as_text(value) or ""
        if not text.lstrip().startswith(("[", "{")):
            return [{"role": "user", "content": text}] if text else None
        value = msgspec.json.decode(text)
    if isinstance(value, Mapping):
        value = value.get("messages", [value])
    if not isinstance(value, (list, tuple)):
        raise TypeError("not a conversation")
    return [_turn(item) for item in value]


def _turn(item: Any) -> dict[str, str | None]:
    if isinstance(item, str):
        return {"role": "user", "content": item}
    if not isinstance(item, Mapping):
        raise TypeError("not a message")
    content = item.get("content", item.get("parts", item.get("text")))
    return {"role": as_text(item.get("role")), "content": as_prose(content)}


def as_whole(value: Any) -> int | None:
    """A count: a whole number that is not negative, also as text; a list counts its items."""
    count = _whole(value)
    if count is not None and count > _LARGEST:
        raise ValueError("not a count")
    return count


def _whole(value: Any) -> int | None:
    if isinstance(value, (list, tuple)):
        return len(value)
    if isinstance(value, (bytes, str)):
        text = (as_text(value) or "").strip()
        if text.lower() in _MISSING:
            return None
        value = int(text) if text.lstrip("+-").isdecimal() else float(text)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (bool, Mapping)) or int(value) != value or value < 0:
        raise ValueError("not a count")
    return int(value)


def as_tokens(value: Any) -> int | None:
    """A count; what no exchange can have becomes just above `MOST_TOKENS`."""
    count = _whole(value)
    return count if count is None else min(count, MOST_TOKENS + 1)


def as_real(value: Any) -> float | None:
    """A finite number, also as text; not-a-number is missing."""
    if isinstance(value, (bytes, str)):
        text = (as_text(value) or "").strip()
        value = None if text.lower() in _MISSING else float(text)
    if value is None:
        return None
    if isinstance(value, bool):
        raise TypeError("not a number")
    number = float(value)
    if math.isinf(number):
        raise ValueError("not finite")
    return None if math.isnan(number) else number


def as_flag(value: Any) -> bool | None:
    """True or false, also as 1 and 0 or as text."""
    text = (as_text(value) or "").strip().lower()
    if text in _MISSING:
        return None
    if text not in _TRUTH:
        raise ValueError("neither true nor false")
    return _TRUTH[text]


def as_names(value: Any) -> list[str] | None:
    """Names of tools: a list of names or of tool definitions, also as JSON text; bare text is split at commas."""
    if isinstance(value, (bytes, str)):
        text = (as_text(value) or "").strip()
        value = msgspec.json.decode(text) if text.startswith(("[", "{")) else text.split(",") if text else None
    if value is None:
        return None
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Iterable):
        raise TypeError("not names")
    return [_tool(item) for item in value]


def _tool(item: Any) -> str:
    if isinstance(item, Mapping):
        inner = item.get("function")
        item = (inner if isinstance(inner, Mapping) else item).get("name")
    if not isinstance(item, str):
        raise TypeError("not a name")
    return item.strip()


def as_domain(value: Any) -> str | None:
    """The domain of an e-mail address, lower case; a bare domain as it is. The local part never goes further."""
    text = as_text(value)
    return text.rsplit("@", 1)[-1].strip().lower() or None if text is not None else None
