"""tables: TOML, read key by key, with errors that name the file, the table and the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from stillwatch.errors import PolicyError
from stillwatch.settings import suggestion

MAX_BYTES = 1 << 20
"""Of a policy file; a larger one is not a policy."""

MAX_TEXT = 256
MAX_LIST = 65_536
MAX_NUMBER = 10**12

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,6})([smhd])")


def parse_toml(content: bytes, file: str) -> Table:
    """The document of a policy file.

    Raises:
        PolicyError: it is too large, not UTF-8, or not TOML.
    """
    if len(content) > MAX_BYTES:
        raise PolicyError(f"{file} is too large", got=f"{len(content):,} bytes", expected=f"at most {MAX_BYTES:,}")
    try:
        return Table(tomllib.loads(content.decode("utf-8-sig")), file=file, at="")
    except UnicodeDecodeError as error:
        raise PolicyError(f"{file} is not UTF-8 text", got=f"byte {error.start}: {error.reason}") from error
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{file} is not TOML", got=str(error)) from error
    except (RecursionError, ValueError) as error:
        # A number of a million digits, or lists ten thousand deep.
        raise PolicyError(f"{file} is not TOML that anybody wrote", got=type(error).__name__) from None


class Table:
    """One table; each key is taken once, and what is left at the end is unknown."""

    def __init__(self, values: Mapping[str, Any], *, file: str, at: str) -> None:
        self._values, self._file, self._at = dict(values), file, at
        self._known: list[str] = []

    def place(self, key: str) -> str:
        """Where a key stands, for messages: `gate.toml: [levels.email] models`."""
        return f"{self._file}: {f'[{self._at}] ' if self._at else ''}{key}"

    def wrong(self, key: str, got: object, expected: str, do: str | None = None) -> NoReturn:
        """Refuse the value of a key."""
        raise PolicyError(self.place(key), got=_short(got), expected=expected, do=do)

    def has(self, key: str) -> bool:
        """Whether a key is written and was not taken yet."""
        return key in self._values

    def keys(self) -> tuple[str, ...]:
        """The keys that are left, as written."""
        return tuple(self._values)

    def done(self) -> None:
        """Refuse keys nobody took."""
        self.only(self._known)

    def only(self, known: Sequence[str]) -> None:
        """Refuse other keys than these, before a missing one is blamed on something else."""
        for key in self._values:
            if key in known:
                continue
            where = f"[{self._at}]" if self._at else "the top of the file"
            raise PolicyError(f"{self._file}: {where} has no key {_short(key)}", do=suggestion(key[:MAX_TEXT], known))

    def _take(self, key: str, expected: str, *, required: bool) -> Any:
        self._known.append(key)
        if required and key not in self._values:
            # The nearest unknown key is probably the misspelt one.
            near = [name for name in self._values if suggestion(name[:MAX_TEXT], [key]).startswith("Did")]
            raise PolicyError(
                f"{self.place(key)} is missing",
                expected=expected,
                do=f"You wrote {_short(near[0])}." if near else None,
            )
        return self._values.pop(key, None)

    def text(self, key: str, *, pattern: str = r".+", expected: str = "a text", required: bool = True) -> str | None:
        """A text that a pattern matches whole; None where it is absent and not required."""
        value = self._take(key, expected, required=required)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > MAX_TEXT or not re.fullmatch(pattern, value):
            self.wrong(key, value, expected)
        return value

    def word(self, key: str, words: Sequence[str], *, required: bool = True) -> str | None:
        """One of some words."""
        expected = f"one of {', '.join(words)}"
        value = self._take(key, expected, required=required)
        if value is not None and (not isinstance(value, str) or value not in words):
            self.wrong(key, value, expected, suggestion(value[:MAX_TEXT], words) if isinstance(value, str) else None)
        return value

    def words(self, key: str, words: Sequence[str], *, required: bool = True) -> tuple[str, ...]:
        """A list of some words, each at most once."""
        found = self.texts(key, required=required)
        for value in found:
            if value not in words:
                self.wrong(key, value, f"some of {', '.join(words)}", suggestion(value, words))
        return found

    def texts(
        self, key: str, *, pattern: str = r".+", expected: str = "texts", required: bool = True
    ) -> tuple[str, ...]:
        """A list of distinct texts, each of which a pattern matches whole; empty where absent."""
        value = self._take(key, f"a list of {expected}", required=required)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > MAX_LIST:
            self.wrong(key, value, f"a list of {expected}")
        for one in value:
            if not isinstance(one, str) or len(one) > MAX_TEXT or not re.fullmatch(pattern, one):
                self.wrong(key, one, expected)
        if len(set(value)) < len(value):
            self.wrong(key, value, f"{expected}, each once")
        return tuple(value)

    def whole(self, key: str, low: int, high: int = MAX_NUMBER, *, default: int | None = None) -> int | None:
        """A whole number in a range; the default where it is absent."""
        expected = f"a whole number from {low:,} to {high:,}"
        value = self._take(key, expected, required=False)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.wrong(key, value, expected)
        return value

    def share(self, key: str, *, default: float) -> float:
        """A number from 0 to 1."""
        value = self._take(key, "a number from 0 to 1", required=False)
        if value is None:
            return default
        # Not a number compares false with everything.
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
            self.wrong(key, value, "a number from 0 to 1")
        return float(value)

    def seconds(self, key: str, *, low: int = 1, required: bool = True, default: int = 0) -> int:
        """A duration such as `90s`, `15m`, `1h` or `30d`, in seconds, of at most 366 days."""
        expected = "a duration such as 90s, 15m, 1h or 30d, of at most 366d"
        value = self._take(key, expected, required=required)
        if value is None:
            return default
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        seconds = int(found[1]) * _UNITS[found[2]] if found else -1
        if not low <= seconds <= 366 * 86_400:
            self.wrong(key, value, expected)
        return seconds

    def table(self, key: str, *, required: bool = False) -> Table | None:
        """A table of its own."""
        value = self._take(key, f"a table [{self._below(key)}]", required=required)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.wrong(key, value, f"a table [{self._below(key)}]")
        return Table(value, file=self._file, at=self._below(key))

    def named_tables(self, names: Collection[str]) -> dict[str, Table]:
        """Every key that is left, each one of these names and a table."""
        found = {}
        for key in list(self._values):
            if key not in names:
                raise PolicyError(self.place(_short(key)), do=suggestion(key[:MAX_TEXT], list(names)))
            table = self.table(key)
            assert table is not None
            found[key] = table
        return found

    def tables(self, key: str) -> list[Table]:
        """A list of tables, `[[key]]`."""
        value = self._take(key, f"tables [[{self._below(key)}]]", required=False)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value) or len(value) > MAX_LIST:
            self.wrong(key, value, f"tables [[{self._below(key)}]]")
        return [Table(one, file=self._file, at=f"{self._below(key)} {n}") for n, one in enumerate(value, start=1)]

    def rest(self) -> dict[str, Any]:
        """Everything that is left, taken."""
        values, self._values = self._values, {}
        return values

    def _below(self, key: str) -> str:
        return f"{self._at}.{key}" if self._at else key


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:
        # Python writes out no number of more than 4,300 digits.
        text = "a number of thousands of digits"
    return text if len(text) <= 120 else f"{text[:117]}..."
