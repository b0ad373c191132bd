"""accounts: the accounts of a cast as the canonical columns."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.records import ACCOUNTS, TIMESTAMP
from stillwatch.sim.cast import Cast
from stillwatch.sim.dice import Dice, Flags, Ints
from stillwatch.sim.places import COUNTRIES, FREE_MAIL, N_ISSUERS, hexes
from stillwatch.sim.tongues import grammar

COLUMNS: Final = tuple(
    "account_id created_at org_id email_domain email_hash phone_hash payment_fingerprint payment_bin country plan "
    "is_reseller".split()
)

NO_MAIL: Final = 0.03
"""Share of accounts that signed up through somebody else's identity and left no address."""


def account_rows(cast: Cast, ids: pa.Array) -> pa.Table:
    """The accounts of a cast."""
    dice, n, population = cast.dice, len(cast), cast.population
    plan = np.where(cast.card < 0, 0, np.where(cast.org >= 0, 2, 1))
    bins = pa.array([f"{400000 + number:06d}" for number in range(len(COUNTRIES) * N_ISSUERS)])
    columns = {
        "account_id": ids,
        "created_at": pa.array(cast.created_us + dice.below("moment", 1_000_000), pa.int64()).cast(TIMESTAMP),
        "org_id": _pick(_ids(cast, "org", cast.org, 8), cast.org),
        "email_domain": _mail(cast),
        "email_hash": _where(~dice.flag("no mail", NO_MAIL), hexes(dice.word("mail"), prefix="mail_", digits=12)),
        "phone_hash": _pick(_ids(cast, "phone", cast.phone, 12), cast.phone),
        "payment_fingerprint": _pick(_ids(cast, "card", cast.card, 12), cast.card),
        "payment_bin": bins.take(pa.array(cast.issuer, mask=cast.card < 0)),
        "country": pa.array(COUNTRIES, pa.string()).take(pa.array(cast.country)),
        "plan": pa.array(["free", "pro", "business"], pa.string()).take(pa.array(plan)),
        "is_reseller": pa.repeat(pa.scalar(population.reseller), n),
    }
    return pa.table(columns, schema=pa.schema([ACCOUNTS.field(name) for name in COLUMNS]))


def _ids(cast: Cast, kind: str, number: Ints, digits: int) -> pa.Array:
    dice = cast.stage.dice(int(number.max(initial=-1)) + 1, kind, cast.population.name)
    return hexes(dice.word("id"), prefix=f"{kind}_", digits=digits)


def _where(kept: Flags, texts: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(kept), texts, pa.scalar(None, pa.string()))


def _pick(texts: pa.Array, place: Ints) -> pa.Array:
    """Texts at places, null at -1."""
    return texts.take(pa.array(place, mask=place < 0))


def _mail(cast: Cast) -> pa.Array:
    """E-mail domains: most of free providers, some of one's own or of those one shares it with."""
    free = pa.array(FREE_MAIL, pa.string()).take(pa.array(cast.dice.skewed("free mail", len(FREE_MAIL), 1.0)))
    domain: Dice = cast.stage.dice(int(cast.mail.max(initial=-1)) + 1, "domain", cast.population.name)
    names = pc.utf8_lower(grammar().write("en_name", domain.word("name"))).take(pa.array(cast.mail))
    own = pc.binary_join_element_wise(names, pa.scalar("example"), pa.scalar("."))
    return pc.if_else(pa.array(cast.own_mail), own, free)
