"""mimicry: accounts of a campaign that take after ordinary accounts, so that what is not text says nothing of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from stillwatch.sim.cast import Cast
from stillwatch.sim.dice import Flags, Ints


@dataclass(frozen=True, slots=True)
class Models:
    """The ordinary account that each account takes after: a place among all accounts of some casts."""

    casts: Sequence[Cast]
    chosen: Ints

    def of(self, field: str) -> Any:
        """A column of the chosen, such as `exchanges` or `zone`."""
        return np.concatenate([getattr(cast, field) for cast in self.casts])[self.chosen]

    def clients(self) -> tuple[pa.Table, Ints]:
        """All clients of the casts, and the place of the chosen's."""
        tables = [cast.clients for cast in self.casts]
        first = np.cumsum([0, *(table.num_rows for table in tables)])[:-1]
        places = np.concatenate([cast.client + at for cast, at in zip(self.casts, first, strict=True)])
        return pa.concat_tables(tables), places[self.chosen]


def choose_models(cast: Cast, crowd: Sequence[Cast]) -> Models | None:
    """An ordinary account for each account of a cast, all as likely; none where there is no crowd."""
    n = sum(map(len, crowd))
    return Models(crowd, cast.dice.below("model", n)) if n else None


def pay_like(cast: Cast, models: Models) -> None:
    """Leave accounts without a card where their models have none, and declare an organisation where they do."""
    cast.card = np.where(models.of("card") < 0, -1, np.arange(len(cast)))
    cast.org = np.where(models.of("org") >= 0, np.arange(len(cast)), -1)
    cast.own_mail |= cast.org >= 0


def take_after(cast: Cast, models: Models, mimics: frozenset[str], *, own_client: Flags) -> None:
    """Give each account the age, the client and the hours of its model, as far as they are mimicked.

    A client is taken over by accounts that do not share their campaign's, as `own_client` tells.
    """
    if "age" in mimics:
        cast.created_us, cast.begin_us, cast.end_us = (models.of(each) for each in ("created_us", "begin_us", "end_us"))
    if "client" in mimics:
        table, place = models.clients()
        cast.client = np.where(own_client, cast.clients.num_rows + place, cast.client)
        cast.clients = pa.concat_tables([cast.clients, table])
        cast.cap, cast.heat = (np.where(own_client, models.of(each), getattr(cast, each)) for each in ("cap", "heat"))
    if "hours" in mimics:
        cast.zone, cast.rhythm = models.of("zone"), models.of("rhythm")
