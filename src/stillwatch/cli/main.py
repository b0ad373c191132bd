"""main: the command line: verbs, and how errors leave the process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Annotated, NoReturn

import typer

from stillwatch import __version__
from stillwatch.errors import StillwatchError
from stillwatch.redact import plain_text

BAD_INPUT, INTERRUPTED, TERMINATED = 2, 130, 143

_caught: list[int] = []
"""Signals to end that came; DuckDB tells them from an interrupt no more."""

app = typer.Typer(
    name="stillwatch",
    help="Find unauthorised distillation of a model API: coordinated accounts that harvest its answers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"stillwatch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Find unauthorised distillation of a model API: coordinated accounts that harvest its answers."""


@contextmanager
def _in_our_words() -> Iterator[None]:
    """End the process with our own line and status; typer would end it silently on Ctrl-C and on a broken pipe."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except StillwatchError as error:
        _end(BAD_INPUT, f"stillwatch: {plain_text(str(error))}")
    except KeyboardInterrupt:
        if _caught:
            sys.exit(TERMINATED)
        _end(INTERRUPTED, "\nstillwatch: interrupted; nothing was written.")
    except BrokenPipeError:
        _mute()
        sys.exit(0)
    except OSError as error:
        _mute()
        _end(BAD_INPUT, f"stillwatch: cannot go on; got {plain_text(str(error))}. Free space, or name another place.")


def _end(status: int, says: str) -> NoReturn:
    print(says, file=sys.stderr)
    sys.exit(status)


def _mute() -> None:
    """Point a standard output that takes nothing more elsewhere, so that the interpreter's own flush is quiet."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _register() -> None:
    from stillwatch.cli import canary, mark, policy, registry
    from stillwatch.cli.appeal import appeal
    from stillwatch.cli.audit import audit
    from stillwatch.cli.bench import bench
    from stillwatch.cli.compare import ManyValued, compare
    from stillwatch.cli.demo import demo
    from stillwatch.cli.doctor import doctor
    from stillwatch.cli.explain import explain
    from stillwatch.cli.import_ import import_
    from stillwatch.cli.receive import receive
    from stillwatch.cli.review import review
    from stillwatch.cli.scan import scan
    from stillwatch.cli.serve import serve
    from stillwatch.cli.simulate import simulate

    verbs: tuple[Callable[..., None], ...] = (
        scan, explain, review, import_, doctor, bench, receive, serve, audit, appeal, demo, simulate,
    )  # fmt: skip
    for verb in verbs:
        app.command(verb.__name__.rstrip("_"))(_in_our_words()(verb))
    app.command(cls=ManyValued)(_in_our_words()(compare))
    for room in (mark, registry, canary, policy):
        group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
        for verb in room.VERBS:
            group.command(verb.__name__.rstrip("_"))(_in_our_words()(verb))
        group.callback()(lambda: None)
        app.add_typer(group, name=room.__name__.rpartition(".")[2], help=room.HELP)


_register()


def main() -> None:
    """Run the command line. Exit 0 done, 2 bad input, 3 as `--fail-on` asked, 130 interrupted, 143 terminated."""
    signal.signal(signal.SIGTERM, _terminated)
    with _in_our_words():
        app()


def _terminated(number: int, _frame: FrameType | None) -> None:
    """Unwind, so that what was half written and spilled is removed."""
    _caught.append(number)
    sys.exit(TERMINATED)
