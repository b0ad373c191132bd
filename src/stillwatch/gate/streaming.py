"""streaming: the policy's `[reasoning]` on answers inside LiteLLM: its own objects, dictionaries, or bytes of events.

A stream stays one: what LiteLLM yields leaves when it came, but for reasoning that waits for its end.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from stillwatch.gate.events import Events
from stillwatch.gate.replies import Replies
from stillwatch.policy.showing import Shows

_SHAPE = (TypeError, ValueError, AttributeError, KeyError, RecursionError)
"""What an answer of a shape that nobody knows raises."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What is done with the reasoning of one call's reply, as it travels through LiteLLM."""

    decision_id: str
    account_id: str
    opens: bool
    """The request opened the block that the reply begins in."""
    shows: Shows

    def written(self) -> str:
        """As a text, since LiteLLM writes its metadata down."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def read(cls, text: str) -> Self:
        """Of a text that `written` made."""
        return msgspec.json.decode(text, type=cls)

    @property
    def passes(self) -> bool:
        """Whether an answer that cannot be read passes."""
        return self.shows.shadow or self.shows.on_failure == "allow"


def show_whole(given: Shown, answer: Any) -> tuple[Any, dict[str, object]]:
    """A whole answer as it is shown, None where it must not be; and what was done, for the journal.

    The answer is changed where it stands, but in shadow mode, where a copy is.
    """
    replies, failure = Replies(given.shows, opens=given.opens), None
    try:
        replies.whole(copy.deepcopy(answer) if given.shows.shadow else answer)
    except _SHAPE as error:
        failure = f"not an answer: {type(error).__name__}"
    shown = answer if failure is None or given.passes else None
    return shown, _seen(replies, 0, failure)


async def show_stream(given: Shown, answer: AsyncIterator[Any], seen: dict[str, object]) -> AsyncIterator[Any]:
    """A streamed answer as it is shown; `seen` gets what was done, for the journal."""
    replies, n_unread = Replies(given.shows, opens=given.opens), 0
    events = Events(replies, passes=given.passes)
    failure: str | None = "broke off"
    try:
        is_bytes = is_text = False
        async for item in answer:
            if isinstance(item, bytes | str):
                is_bytes, is_text = True, isinstance(item, str)
                read = events.feed(item.encode("utf-8", "surrogatepass") if isinstance(item, str) else item)
                yield (
                    item if given.shows.shadow else read if isinstance(item, bytes) else read.decode("utf-8", "replace")
                )
                continue
            try:
                shown = replies.event(copy.deepcopy(item) if given.shows.shadow else item)
            except _SHAPE:
                n_unread += 1
                shown = [item] if given.passes else []
            for one in [item] if given.shows.shadow else shown:
                yield one
        rest = [events.end().decode("utf-8", "replace") if is_text else events.end()] if is_bytes else replies.end()
        for one in rest if not given.shows.shadow else []:
            if one:
                yield one
        failure = None
    finally:
        seen.update(_seen(replies, n_unread + events.n_unread, failure))


def _seen(replies: Replies, n_unread: int, failure: str | None) -> dict[str, object]:
    return {
        "face": "litellm", "n_characters_in": replies.n_in, "n_characters_out": replies.n_out,
        "n_events_unread": n_unread, "failure": failure,
    }  # fmt: skip
