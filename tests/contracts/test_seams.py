"""What every Source, Engine and Signal has in common, and what every Signal promises."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import get_args

import pytest

from stillwatch.detect.traits import FAMILIES
from stillwatch.evidence.signal import Question
from stillwatch.records import ACCOUNTS, EXCHANGES
from tests.contracts.seams import SEAMS, Said, implementations, members, signals

PAIRS = [pytest.param(seam, made, id=made.__name__) for seam in SEAMS for made in implementations(seam)]


@pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: seam.__name__)
def test_a_seam_is_small_and_filled(seam: type) -> None:
    """A seam is a Protocol of at most five members, each method described, and something implements it."""
    assert getattr(seam, "_is_protocol", False)
    assert 1 <= len(members(seam)) <= 5
    methods = [vars(seam)[name] for name in members(seam) if callable(vars(seam).get(name))]
    assert all(inspect.getdoc(method) for method in methods)
    assert implementations(seam)


@pytest.mark.parametrize(("seam", "made"), PAIRS)
def test_an_implementation_is_called_like_its_seam(seam: type, made: type) -> None:
    """Every method takes the same parameters in the same way, so that one can stand in for another."""
    for name in members(seam):
        if callable(vars(seam).get(name)):
            asked, offered = inspect.signature(vars(seam)[name]), inspect.signature(getattr(made, name))
            for parameter in asked.parameters.values():
                ours = offered.parameters.get(parameter.name)
                assert ours is not None, f"{made.__name__}.{name} takes no {parameter.name}"
                assert (ours.kind, ours.default) == (parameter.kind, parameter.default), f"{made.__name__}.{name}"
            extra = [p for n, p in offered.parameters.items() if n not in asked.parameters]
            assert all(p.default is not p.empty for p in extra), f"{made.__name__}.{name} asks for more"


@pytest.mark.parametrize("signal", signals(), ids=lambda signal: signal.name)
def test_a_signal_says_what_it_is(signal: Said) -> None:
    """Its family and its question are known ones, and what it needs are canonical columns."""
    assert signal.family in FAMILIES
    assert signal.question in get_args(Question)
    assert set(signal.needs) <= {*EXCHANGES.names, *ACCOUNTS.names}


def test_signals_have_names_of_their_own() -> None:
    """In `evidence.parquet` a name stands for one Signal."""
    assert signals()
    assert [name for name, n in Counter(signal.name for signal in signals()).items() if n > 1] == []


def test_neither_country_nor_language_is_evidence() -> None:
    """No Signal needs a column that says where people are from, or a stand-in for it.

    The exceptions, issuers of cards and mail domains that few have, are only ever compared within one country, and no
    provider of mail is a hub: `test_traits` holds them to that.
    """
    barred = {"country", "payment_bin", "email_domain"}
    excepted = {"shared_issuers", "shared_mail_domains"}
    assert {signal.name for signal in signals() if set(signal.needs) & barred} <= excepted
