"""interrupts: a signal that ends a DuckDB query ends the program, as it does anywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt for the RuntimeError that DuckDB makes of whatever a signal handler raised."""
    try:
        yield
    except RuntimeError as error:
        if "interrupted" not in str(error):
            raise
        raise KeyboardInterrupt from error
