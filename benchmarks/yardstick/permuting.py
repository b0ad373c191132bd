"""permuting: a world in which nobody acts as one with anybody: its facets are dealt out anew within cohorts.

Every account keeps what it asks for and how much; payment (with its organisation), telephone and e-mail, sign-up, and
networks and clients are each dealt out by a permutation of their own among the accounts of its cohort. How popular
each trait is stays, and whatever two facets had in common is gone, so any finding is false.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]

DEALT: Final = (
    ("org_id", "payment_fingerprint", "payment_bin", "plan", "identity_level", "is_reseller"),
    ("phone_hash",),
    ("email_domain", "email_hash"),
    ("created_at",),
)
"""Account columns that are dealt out together. Country stays with what is asked: cohorts are made of it."""

DEALT_ROWS: Final = ("network", "client")


def permuted(population: Any, *, seed: int) -> Any:
    """The population with its facets dealt out anew."""
    from stillwatch.detect.population import build_population

    rng = np.random.default_rng([seed, 11])
    accounts, profiles = population.accounts, population.profiles
    for names in DEALT:
        source = _within(population.cohort, rng)
        for name in set(names) & set(accounts.column_names):
            at = accounts.column_names.index(name)
            accounts = accounts.set_column(at, accounts.field(name), accounts.column(name).take(pa.array(source)))
    source = _within(population.cohort, rng)
    for name in DEALT_ROWS:
        at = profiles.column_names.index(f"rows_{name}")
        profiles = profiles.set_column(at, profiles.field(at), _dealt(profiles.column(at), source))
    return build_population(profiles, accounts)


def _within(cohort: Ints, rng: np.random.Generator) -> Ints:
    """Where each account takes a facet from: a permutation within cohorts."""
    by_cohort = np.argsort(cohort, kind="stable")
    source = np.empty(len(cohort), np.int64)
    source[by_cohort] = np.lexsort((rng.random(len(cohort)), cohort))
    return source


def _dealt(column: pa.ChunkedArray, source: Ints) -> pa.Array:
    """Lists of the lengths they had, filled with the values of the accounts they are taken from, over again if few."""
    lists = column.combine_chunks()
    starts, values = lists.offsets.to_numpy().astype(np.int64), lists.values.to_numpy()
    length = np.diff(starts)
    owner = np.repeat(np.arange(len(length)), length)
    place = np.arange(len(owner)) - np.repeat(starts[:-1] - starts[0], length)
    taken = values[starts[source[owner]] + place % np.maximum(length[source[owner]], 1)]
    offsets = np.r_[0, np.cumsum(length)].astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(taken)).cast(column.type)
