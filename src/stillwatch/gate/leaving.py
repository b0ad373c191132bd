"""leaving: what has to be done before a signal ends the process, whoever else listens to it.

A server such as uvicorn ends in order when it is told to, and then raises the signal again, whose own action ends the
process without a word: neither `atexit` nor `finally` is heard.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""What ends a process. An interrupt becomes an exception, after which `atexit` is heard."""


def before_signals(do: Callable[[], object]) -> None:
    """Have `do` called before whatever a signal does now. Nothing happens outside the main thread.

    A signal that is ignored stays so. `do` runs inside the handler, between any two steps of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        earlier = signal.getsignal(number)
        if earlier is not None and earlier != signal.SIG_IGN:
            signal.signal(number, _handler(do, earlier))


def _handler(do: Callable[[], object], earlier: Any) -> Callable[[int, FrameType | None], None]:
    def leave(number: int, frame: FrameType | None) -> None:
        do()
        if callable(earlier):
            earlier(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    return leave
