"""words: numbers, times and names as a person reads them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from stillwatch.records import Campaign
from stillwatch.redact import plain_text

UNKNOWN = "not known"
DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MAX_COUNT = 2**63
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MILLION_MILLION_BITS = math.log2(1e12)

KINDS = {
    "payment": "payment instrument",
    "phone": "phone number",
    "email": "e-mail address",
    "issuer": "card issuer",
    "network": "exit network",
    "client": "client program",
    "system": "system prompt",
    "head": "opening words of prompts",
    "tail": "closing words of prompts",
    "sign_up": "hour of sign-up",
    "conversation": "conversation carried on",
    "mail": "mail domain that few have",
}
"""Trait kinds in plain words; a kind not listed is shown under its own name."""

FAMILIES = {"network_client": "network and client", "funding": "card issuers and mail domains"}

ORIGINS = {"provider": "observed by the provider", "client": "chosen by the client"}

VERDICTS = {
    "campaign": "campaign",
    "lead": "lead: some evidence, not enough",
    "shared_access": "shared access: abuse perhaps, but no harvest",
    "declared": "declared: one organisation or one payer accounts for it",
    "single_account": "one heavy account, unlike its peers",
    "cannot_tell": "cannot tell: too little data",
}

BARS = {
    "population": ("too few accounts to compare with, short by", "account"),
    "members": ("too few sure members, short by", "account"),
    "innocent_margin_bits": ("an innocent explanation is too close, by", "bit"),
    "operator_bits": ("one operator is not shown, by", "bit"),
    "harvest_bits": ("a harvest is not shown, by", "bit"),
    "q_value": ("false discovery rate too high, by", ""),
}
"""What it means to miss a bar, and the unit in which it is missed."""


def plain(value: object, *, cells: int = 600) -> str:
    """Any value from a log as harmless text of at most `cells` terminal columns; a cut shows as an ellipsis."""
    text = plain_text(str(value)[: 4 * cells])
    used = 0
    for at, character in enumerate(text):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > cells:
            return text[: max(at - 1, 0)] + "…"
    return text


def named(value: object, names: dict[str, str]) -> str:
    """A code in plain words where `names` has it, else the code itself without underscores."""
    if value is None:
        return UNKNOWN
    return names.get(str(value)) or plain(value, cells=60).replace("_", " ")


def missed(bar: str | None, shortfall: float | None) -> str:
    """Which bar a lead missed and by how much: 'a harvest is not shown, by 3.6 bits'."""
    if not bar:
        return DASH
    says, unit = BARS.get(bar, (f"{named(bar, {})}, by", ""))
    by = decimal(shortfall)
    return f"{says} {by} {unit if by == '1' else unit + 's'}" if unit else f"{says} {by}"


def count(value: float | None) -> str:
    """A count with thousands separators: 1234567 is '1,234,567'; -1 and null are 'not known'."""
    if value is None or not math.isfinite(value) or value < 0:
        return UNKNOWN
    return f"{value:,.0f}"


def counted(n: int | None, one: str, many: str | None = None) -> str:
    """'1 account', '2 accounts'."""
    return f"{count(n)} {one if n == 1 else many or one + 's'}"


def bits(value: float | None) -> str:
    """Bits with one decimal; a minus sign that is one, no '-0.0', and words for what is no number."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:,.1f}"
    return "0.0" if text == "-0.0" else _signed(text)


def decimal(value: float | None, *, digits: int = 3) -> str:
    """At most `digits` significant digits: '0.001', '3.9', '4,180'; a power of ten where that is long."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value == 0 or (float(value).is_integer() and abs(value) < 1e9):
        return _signed(f"{value:,.0f}")
    if not 0.001 <= abs(value) < 1e9:
        return (MINUS if value < 0 else "") + power(math.log10(abs(value)))
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return _signed(text.rstrip("0").rstrip(".") if places else text)


def power(log10: float, *, digits: int = 2) -> str:
    """A number given by its decimal logarithm, which may be beyond any float."""
    exponent = math.floor(log10)
    mantissa = f"{10 ** (log10 - exponent):.{digits - 1}f}"
    if mantissa.startswith("10"):
        mantissa, exponent = "1" + mantissa[2:], exponent + 1
    return f"{mantissa}{TIMES}10{str(exponent).translate(RAISED)}"


def share(value: float | None) -> str:
    """A share between 0 and 1 as per cent."""
    if value is None or not math.isfinite(value):
        return DASH
    percent = 100 * value
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %" if 0 < percent < 10 else f"{percent:.0f} %"


def q_value(value: float | None) -> str:
    """A bound on the false discovery rate; 0 is below what a float holds, and said so."""
    return f"below {power(-300, digits=1)}" if value == 0 else decimal(value, digits=2)


def day(value: Any, *, year: bool = True) -> str:
    """A day in UTC, from a datetime, a date or ISO text: '3 Sep 2026'."""
    moment = _moment(value)
    if moment is None:
        return UNKNOWN if value is None else plain(value, cells=40)
    return f"{moment.day} {MONTHS[moment.month - 1]}" + (f" {moment.year}" if year else "")


def period(first: Any, last: Any) -> str:
    """Two days as one phrase: '3 Sep to 17 Oct 2026'."""
    a, b = day(first), day(last)
    if a == b:
        return a
    start, end = _moment(first), _moment(last)
    return f"{day(first, year=not (start and end and start.year == end.year))} to {b}"


def once_in(value: float) -> str:
    """How rarely ordinary traffic gives `value` bits or more: at most 2 to the minus bits (Markov's inequality)."""
    if not value > 0:
        return "no less often than this"
    if value >= MILLION_MILLION_BITS:
        return "at most once in a million million"
    times = 2**value
    for size, name in ((1e9, "thousand million"), (1e6, "million")):
        if times >= size:
            return f"at most once in {math.floor(times / size):,} {name}"
    return f"at most once in {math.floor(times):,}"


def claim(campaign: Campaign) -> str:
    """What is claimed of a campaign, in one sentence."""
    return (
        f"{counted(campaign.n_accounts, 'account')} act as one, and what they ask serves training: "
        f"{counted(campaign.n_exchanges, 'exchange')} in {lasting(campaign.first_seen, campaign.last_seen)}."
    )


def strength(campaign: Campaign) -> str:
    """How strong the claim is, in words a reader without statistics can weigh."""
    return (
        f"From {period(campaign.first_seen, campaign.last_seen)}, {count(campaign.input_tokens)} tokens in and "
        f"{count(campaign.output_tokens)} tokens out. "
        f"Unrelated accounts would agree this well {once_in(campaign.operator_bits)}; "
        f"ordinary traffic would look this much like a harvest {once_in(campaign.harvest_bits)}. "
        f"The best innocent explanation, {named(campaign.best_innocent, {})}, is beaten by "
        f"{bits(campaign.innocent_margin_bits)} bits. False discovery rate: {q_value(campaign.q_value)}."
    )


def lasting(first: Any, last: Any) -> str:
    """How long from one instant to another, counted in days begun."""
    start, end = _moment(first), _moment(last)
    if start is None or end is None:
        return UNKNOWN
    return counted(end.toordinal() - start.toordinal() + 1, "day")


def listed(names: Sequence[str], *, most: int = 12) -> str:
    """Names joined by commas; beyond `most` only their number."""
    shown = ", ".join(named(name, {}) for name in names[:most])
    return f"{shown} and {count(len(names) - most)} more" if len(names) > most else shown


def probability(value: float | None) -> str:
    """A membership between 0 and 1, never rounded up to certainty."""
    if value is None or math.isnan(value):
        return DASH
    return "> 0.999" if 0.999 < value < 1 else f"{value:.3f}"


def whole(value: object) -> str:
    """A count out of a file that may hold anything."""
    return count(value) if isinstance(value, int | float) and -1 <= value < MAX_COUNT else UNKNOWN


def _moment(value: Any) -> date | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(moment, datetime) and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if isinstance(moment, date) else None


def _signed(text: str) -> str:
    return text.replace("-", MINUS)
