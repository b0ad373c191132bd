"""speech: what the accounts of a draft say, and the set texts around it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.sim.grammar import PARAGRAPH, capital, join
from stillwatch.sim.places import Ints, skewed
from stillwatch.sim.population import Draft, Frame
from stillwatch.sim.tongues import grammar_for

FAITHFUL = 0.55
"""Share of what an account says that is of its own favourite kind."""


def speak(made: Draft) -> None:
    """Fill in the prompts and system prompts of a draft."""
    population = made.population
    body = repeated(made, say(made, population.speech))
    frames = [framed(made, frame) for frame in (population.head, population.tail)]
    made.prompt = join([part for part in (frames[0], body, frames[1]) if part is not None], PARAGRAPH)
    made.system = framed(made, population.system)


def say(made: Draft, speech: Mapping[str, float]) -> pa.Array:
    """One free text for each row; an account has a favourite kind, a language and a way with capitals."""
    rng, n_rows = made.rng, len(made.account)
    shares = np.array(list(speech.values()), float)
    odds = shares / shares.sum()
    favourite = rng.choice(len(odds), made.n_accounts, p=odds)
    faithful = rng.random(n_rows) < FAITHFUL
    kind = np.where(faithful, favourite[made.account], rng.choice(len(odds), n_rows, p=odds))
    lane = made.language[made.account] * len(odds) + kind
    order, parts = np.argsort(lane, kind="stable"), []
    for number in np.unique(lane):
        language = list(made.population.languages)[number // len(odds)]
        parts.append(_texts(made, language, list(speech)[number % len(odds)], int((lane == number).sum())))
    place = np.empty(n_rows, np.int64)
    place[order] = np.arange(n_rows)
    texts = pa.concat_arrays(parts).take(pa.array(place))
    formal = rng.random(made.n_accounts) < 0.5
    return pc.if_else(pa.array(formal[made.account]), capital(texts), texts)


def _texts(made: Draft, language: str, symbol: str, n: int) -> pa.Array:
    """Texts of a symbol: freshly written, or picked from its set texts where the population has them in public."""
    if n_set := made.population.public.get(symbol):
        return made.stage.texts(symbol, symbol, n_set, language).take(pa.array(made.rng.integers(0, n_set, n)))
    return grammar_for(language, symbol).write(symbol, n, made.rng)


def repeated(made: Draft, texts: pa.Array) -> pa.Array:
    """The same texts, where some rows repeat the one before of the same account."""
    again = made.rng.random(len(made.account)) < made.population.retry
    again[:1] = False
    again[1:] &= made.account[1:] == made.account[:-1]
    return texts.take(pa.array(np.maximum.accumulate(np.where(again, 0, np.arange(len(again))))))


def framed(made: Draft, frame: Frame | None) -> pa.Array | None:
    """The set text of each row, null for accounts that use none; None without a frame."""
    if frame is None:
        return None
    unit = {"all": np.zeros(made.n_accounts, np.int64), "group": made.group, "account": np.arange(made.n_accounts)}[
        frame.scope
    ]
    users = made.rng.random(made.n_accounts) < frame.share
    texts = made.stage.texts(frame.symbol, frame.key or made.population.name, int(unit.max() + 1) * frame.n)
    picked: Ints = unit[made.account] * frame.n + skewed(made.rng, frame.n, 0.6, len(made.account))
    return texts.take(pa.array(picked, mask=~users[made.account]))
