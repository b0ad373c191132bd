"""errors: one family; what is wrong, got and expected, next step.

StillwatchError
|-- InputError      a log, an accounts file or an allowlist that cannot be read as asked
|-- SettingsError   an option or stillwatch.toml that makes no sense
|-- KeyFileError    a key that is absent, too short, or readable by others
|-- ExtraMissing    a feature whose optional package is not installed
|-- JournalError    a journal whose chain is broken or locked
|-- PolicyError     a policy or a gate snapshot that cannot be used
|-- LineageError    a registry of lineages that is damaged, locked or of another version
|-- FindingsError   a findings folder that is absent, unfinished or from another version
`-- BudgetsError    a limit that makes no sense, or a store of budgets that cannot be asked
"""

from __future__ import annotations


class StillwatchError(Exception):
    """Base of every error this package raises on purpose.

    `str(error)` is one line fit for a person: what is wrong, what was got and expected, and what to do next.
    """

    def __init__(
        self, wrong: str, *, got: str | None = None, expected: str | None = None, do: str | None = None
    ) -> None:
        self.wrong, self.got, self.expected, self.do = wrong, got, expected, do
        parts = [wrong]
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        text = "; ".join(parts)
        if do is not None:
            text += f". {do}"
        super().__init__(text)


class InputError(StillwatchError):
    """A log, an accounts file or an allowlist that cannot be read as asked."""


class SettingsError(StillwatchError):
    """An option or a line of stillwatch.toml that makes no sense."""


class KeyFileError(StillwatchError):
    """A key that is absent, too short, or readable by others."""


class ExtraMissing(StillwatchError):
    """A feature whose optional package is not installed."""


class JournalError(StillwatchError):
    """A journal whose chain is broken or locked."""


class PolicyError(StillwatchError):
    """A policy or a gate snapshot that cannot be used."""


class LineageError(StillwatchError):
    """A registry of lineages that is damaged, locked or of another version."""


class FindingsError(StillwatchError):
    """A findings folder that is absent, unfinished or from another version."""


class BudgetsError(StillwatchError):
    """A limit that makes no sense, or a store of budgets that cannot be asked."""
