"""telling: an explanation in sentences, for a person at a terminal.

Every value out of the findings passes `words.plain`, so that nothing a stranger wrote moves the cursor or hides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stillwatch.dossier import words

QUESTIONS = {"operator": "One operator?", "harvest": "A harvest?"}
BARS = {
    "q_value": "false discovery rate",
    "operator_bits": "one operator",
    "harvest_bits": "a harvest",
    "innocent_margin_bits": "beyond innocent causes",
}
MAX_EVIDENCE, MAX_ROWS, MAX_FILES, MAX_HUBS = 12, 4, 6, 8


@dataclass(frozen=True, slots=True)
class Line:
    """One paragraph: how far it stands in, and whether it is a heading."""

    text: str
    indent: int = 0
    is_heading: bool = False


def tell(explained: Mapping[str, Any]) -> list[Line]:
    """The paragraphs of what `explain` returned."""
    told = _account(explained) if explained["kind"] == "account" else _group(explained)
    return [Line(words.plain(line.text, cells=1_200), line.indent, line.is_heading) for line in told]


def _group(said: Mapping[str, Any]) -> Iterator[Line]:
    reported = said["kind"] == "campaign"
    yield Line(f"{'Campaign' if reported else 'Lead'} {said['campaign_id']}: {said['verdict']}", is_heading=True)
    if reported:
        yield Line(said["claim"])
        yield Line(said["strength"])
    else:
        accounts = words.counted(said["n_accounts"], "account was", "accounts were")
        together = "by itself" if said["n_accounts"] == 1 else "together"
        yield Line(f"{accounts} weighed {together} and not reported: {said['missed']}. That accuses nobody.")
    for name in ("lineage", "review"):
        if said[name]:
            yield Line(said[name] if name == "lineage" else f"It was {said[name]}")
    yield from _why(said)
    yield from _why_not_innocent(said)
    yield from _what_would_change(said)
    yield from _where(said["rows_lie_in"])
    yield Line("What this does not say", is_heading=True)
    if said["not_examined"]:
        yield Line(f"Not examined, because the logs do not hold it: {words.listed(said['not_examined'])}.")
    yield Line(
        "Who is behind it, whether a model was trained, or that each holder took part: none of this is shown here."
    )


def _why(said: Mapping[str, Any]) -> Iterator[Line]:
    yield Line("Why", is_heading=True)
    bars = {one["bar"]: one for one in said["bars"]}
    last: object = None
    for question in said["questions"]:
        if said["n_accounts"] == 1 and question["question"] == "operator":
            yield Line("One operator? It is one account.")
            continue
        bar = bars[f"{question['question']}_bits"]
        reached = "cleared" if bar["cleared"] else f"missed by {words.bits(_short(bar))}"
        yield Line(
            f"{QUESTIONS[question['question']]} {words.bits(question['bits'])} bits of {words.decimal(bar['limit'])} "
            f"needed, {reached}. Ordinary traffic gets there {words.once_in(question['bits'] or 0.0)}."
        )
        if not question["evidence"]:
            yield Line("No evidence is in the findings for this question.", 1)
        for one in question["evidence"][:MAX_EVIDENCE]:
            yield from _evidence(one, again=one["rows"] == last)
            last = one["rows"]
        if len(question["evidence"]) > MAX_EVIDENCE:
            yield Line(f"{words.count(len(question['evidence']) - MAX_EVIDENCE)} more in evidence.parquet.", 1)
    if said["belongs"]:
        low, middle, high = (words.share(said["belongs"][name]) for name in ("belongs_low", "belongs", "belongs_high"))
        yield Line(
            f"Of a member's sampled exchanges {middle} show templates the group made its own (most members: {low} to "
            f"{high}). What the rest are for is not known: some may be other people's."
        )
    if said["traits"]:
        yield Line("They share:")
        yield from _hubs(said["traits"], said["n_traits"])


def _evidence(one: Mapping[str, Any], *, again: bool) -> Iterator[Line]:
    bits = "not counted in bits" if one["bits"] is None else f"{words.bits(one['bits'])} bits"
    family = words.named(one["family"], words.FAMILIES)
    yield Line(f"{words.named(one['signal'], {})} ({family}): {bits}", 1)
    yield Line(f"If a campaign: {one['h1'] or 'not stated'}. If ordinary: {one['h0'] or 'not stated'}.", 2)
    yield Line(
        f"Effect {words.decimal(one['effect'])} [{words.decimal(one['lo'])}, {words.decimal(one['hi'])}] over "
        f"{words.counted(one['n'], 'unit')}; null {words.named(one['null_id'], {})}; id {one['evidence_id']}.",
        2,
    )
    if not one["rows"]:
        yield Line("No rows are named for it.", 2)
        return
    if again:
        yield Line("Rests on the rows of the evidence before.", 2)
        return
    rows = ", ".join(f"{row['row_id']} of {row['account_id']}" for row in one["rows"][:MAX_ROWS])
    shown = "Shown by" if one["rows"][0]["role"] != "member" else "No row shows it by itself; it was measured over"
    n = words.counted(one["n_rows"], "sampled exchange")
    yield Line(f"{shown} {n} of members, among them row {rows}; more in evidence_rows.parquet.", 2)


def _hubs(hubs: list[Mapping[str, Any]], n: int) -> Iterator[Line]:
    for one in hubs[:MAX_HUBS]:
        yield Line(_hub(one), 1)
    if n > MAX_HUBS:
        yield Line(f"{words.count(n - MAX_HUBS)} more in traits.parquet.", 1)


def _hub(one: Mapping[str, Any]) -> str:
    return (
        f"{words.named(one['kind'], words.KINDS)} {words.plain(one['trait_key'], cells=20)}: "
        f"{words.counted(one['n_inside'], 'account')}, {words.decimal(one['expected'])} expected, "
        f"{words.count(one['n_outside'])} outside; {words.named(one['origin'], words.ORIGINS)}"
    )


def _why_not_innocent(said: Mapping[str, Any]) -> Iterator[Line]:
    yield Line("Why not an innocent explanation", is_heading=True)
    if not said["innocent"]:
        yield Line("No innocent explanation is in the findings. Treat this as unweighed.")
    for one in said["innocent"]:
        nearest = ", the nearest" if one["is_best"] else ""
        beaten = "" if one["beaten"] else ", which is not enough"
        name = words.named(one["hypothesis"], {})
        yield Line(f"{name}{nearest}: the campaign beats it by {words.bits(one['bits'])} bits{beaten}.", 1)
        if one["says"] is None:
            yield Line("This version does not know what it says.", 2)
            continue
        yield Line(f"It says that {one['says']}.", 2)
        left = [_left(each) for each in one["leaves_open"]]
        explains = words.listed(one["explains"]) if one["explains"] else "nothing that was found"
        yield Line(f"It would account for {explains}. It leaves open {', '.join(left) or 'nothing'}.", 2)


def _left(one: Mapping[str, Any]) -> str:
    found = one["bits_for_all"]
    return f"{words.named(one['signal'], {})} " + (
        "(weighed for it alone)" if found is None else f"({words.bits(found)} bits among all)"
    )


def _what_would_change(said: Mapping[str, Any]) -> Iterator[Line]:
    yield Line("What would change the verdict", is_heading=True)
    for one in said["bars"]:
        if said["n_accounts"] == 1 and one["bar"] in ("operator_bits", "q_value"):
            continue
        name, unit = BARS[one["bar"]], "" if one["bar"] == "q_value" else " bits"
        if one["cleared"]:
            yield Line(f"{name}: {_figure(one)}{unit}, {_by(one)}{unit} to spare", 1)
        else:
            yield Line(f"{name}: {_figure(one)}{unit}, short by {_by(one)}{unit}", 1)
    for one in said["innocent"]:
        if one["would_change"]:
            yield Line(f"{words.named(one['hypothesis'], {})}: {one['would_change']}", 1)


def _figure(one: Mapping[str, Any]) -> str:
    return words.q_value(one["value"]) if one["bar"] == "q_value" else words.bits(one["value"])


def _by(one: Mapping[str, Any]) -> str:
    by = None if one["spare"] is None else abs(one["spare"])
    return words.decimal(by) if one["bar"] == "q_value" else words.bits(by)


def _short(bar: Mapping[str, Any]) -> float | None:
    return None if bar["spare"] is None else -bar["spare"]


def _where(manifest: Mapping[str, Any]) -> Iterator[Line]:
    yield Line("Where the rows lie", is_heading=True)
    files = manifest["files"]
    if not files:
        yield Line("The findings do not say which files were read.")
        return
    key = f" (key id {manifest['key_id']})" if manifest["key_id"] else ""
    several = "" if manifest["n_files"] == 1 else " Which file holds which row is not recorded; it is one of these:"
    yield Line(
        f"A row id is a keyed hash of the row's content{key}, so it is found by reading the logs again.{several}"
    )
    for one in files[:MAX_FILES]:
        yield Line(f"{one['path']}{_span(one)}; SHA-256 {words.plain(one['sha256'], cells=16)}", 1)
    if manifest["n_files"] > MAX_FILES:
        yield Line(f"{words.count(manifest['n_files'] - MAX_FILES)} more in run.json.", 1)


def _span(file: Mapping[str, Any]) -> str:
    n, first = file["n_rows"], file["first_row"]
    if not isinstance(n, int) or isinstance(n, bool):
        return ""
    since = f", from row {words.whole(first)} of the input" if isinstance(first, int) else ""
    return f", {words.whole(n)} rows{since}"


def _account(said: Mapping[str, Any]) -> Iterator[Line]:
    yield Line(f"Account {said['account_id']}", is_heading=True)
    if not said["found"]:
        yield Line(f"{said['says']}")
        return
    for one in said["member_of"]:
        yield Line(
            f"It is named in campaign {one['campaign_id']} with a membership of {words.probability(one['membership'])} "
            f"({words.bits(one['bits'])} bits, {words.counted(one['n_exchanges'], 'exchange')}). Membership is an "
            "estimate for the account, not a verdict on its holder: a named account can be innocent."
        )
        if one["campaign"]:
            yield Line(f"The campaign: {one['campaign']}", 1)
        if one["review"]:
            yield Line(f"The campaign was {one['review']}", 1)
        yield Line("It meets others of the campaign at:" if one["hubs"] else "No trait of it is in the findings.", 1)
        for hub in one["hubs"]:
            yield Line(f"{_hub(hub)}; in {words.share(hub['share'])} of its sampled exchanges", 2)
    for one in said["alone"]:
        yield Line(f"It is lead {one} by itself: {words.VERDICTS['single_account']}. A lead accuses nobody.")
    for one in said["member_of"]:
        if one["belongs_at_least"]:
            least = words.share(one["belongs_at_least"])
            yield Line(
                f"At least {least} of its sampled exchanges show one template of campaign {one['campaign_id']}.", 1
            )
    if not said["member_of"] and not said["alone"]:
        yield Line("It is in no campaign. Rows of it are among those that leads rest on, and a lead accuses nobody.")
    grouped: dict[tuple[str, bool, str], list[str]] = {}
    for one in said["named_in"]:
        key = (one["campaign_id"], one["reported"], ", ".join(one["rows"][:MAX_ROWS]))
        grouped.setdefault(key, []).append(one["signal"])
    for (campaign_id, reported, rows), signals in grouped.items():
        kind = "campaign" if reported else "lead"
        yield Line(f"Rows of it that {words.listed(signals)} of {kind} {campaign_id} rest on: {rows}", 1)
    yield from _where(said["rows_lie_in"])
