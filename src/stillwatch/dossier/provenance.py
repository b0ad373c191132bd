"""provenance: what a scan read, what it could not read, and what it did not look at, from its run.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillwatch.dossier import words
from stillwatch.dossier.findings import Findings
from stillwatch.dossier.lineage import dismissed


@dataclass(frozen=True, slots=True)
class Provenance:
    """The facts about one scan that a reader must know before its verdict; None where run.json does not say."""

    version: str
    files: list[Mapping[str, Any]]
    rows_read: int | None
    rows_kept: int | None
    duplicates: int | None
    accounts: int | None
    licensed: int | None
    period: str
    rejects: list[tuple[str, int]]
    notes: list[tuple[str, int]]
    skipped: list[str]
    lapsed: list[tuple[str, str]]
    window: str
    examined: list[str]
    absent: list[str]
    mapping: list[tuple[str, str]]
    unknown_columns: list[str]
    key_ids: list[tuple[str, str]]
    settings_fingerprint: str

    @property
    def rejected(self) -> int:
        """Rows that could not be read, over all reasons."""
        return sum(n for _, n in self.rejects)


def provenance_of(findings: Findings) -> Provenance:
    """Read run.json leniently: what is absent or of another shape is shown as not known, never invented."""
    run = findings.run
    source, counts, channels = (_mapping(run.get(key)) for key in ("input", "counts", "channels"))
    spanned = _mapping(run.get("period"))
    names = {**_mapping(source.get("guesses")), **_mapping(source.get("mapping"))}
    lapsed = [one for one in _list(run.get("licences_not_applied")) if isinstance(one, Mapping)]
    asked = (("from", source.get("since")), ("before", source.get("until")))
    return Provenance(
        version=str(run.get("version", words.UNKNOWN)),
        files=[file for file in _list(source.get("files")) if isinstance(file, Mapping)],
        rows_read=_whole(counts.get("rows_read")),
        rows_kept=_whole(counts.get("rows_kept")),
        duplicates=_whole(counts.get("duplicates")),
        accounts=_whole(counts.get("accounts")),
        licensed=_whole(counts.get("licensed_accounts")),
        period=words.period(spanned.get("first"), spanned.get("last")),
        rejects=_tally(run.get("rejects")),
        notes=_tally(run.get("notes")),
        skipped=sorted(map(str, _list(source.get("skipped")))),
        lapsed=[(str(one.get("entry")), str(one.get("reason"))) for one in lapsed],
        window=" ".join(f"{word} {instant}" for word, instant in asked if instant is not None),
        examined=sorted(map(str, _list(channels.get("examined")))),
        absent=sorted(map(str, _list(channels.get("absent")))),
        mapping=sorted((str(theirs), str(ours)) for theirs, ours in names.items()),
        unknown_columns=sorted(map(str, _list(source.get("unknown_columns")))),
        key_ids=sorted((str(purpose), str(key)) for purpose, key in _mapping(run.get("key_ids")).items()),
        settings_fingerprint=str(run.get("settings_fingerprint", words.UNKNOWN)),
    )


def verdict(findings: Findings) -> tuple[str, str]:
    """The verdict in plain words: one sentence to remember and one that says how far it goes."""
    n = findings.campaigns.num_rows
    accounts = _whole(_mapping(findings.run.get("counts")).get("accounts"))
    aside = _leads(findings.leads.num_rows, other=n > 0)
    if n:
        among = f" among {words.counted(accounts, 'account')}" if accounts is not None else ""
        held = sum(size or 0 for size in findings.campaigns["n_accounts"].to_pylist())
        excused = len(dismissed(findings))
        said = f"{words.count(excused)} of {words.count(n)} dismissed by review. " if excused else ""
        return f"{words.counted(n, 'campaign')}{among}.", f"{words.counted(held, 'account')} in all. {said}{aside}"
    if findings.run.get("too_few_to_tell") is True:
        bar = _whole(_mapping(_mapping(findings.run.get("settings")).get("scan")).get("n_min_population"))
        fewer = f" (fewer than {words.count(bar)})" if bar is not None else ""
        return (
            f"{words.counted(accounts, 'account')} {'is' if accounts == 1 else 'are'} too few to tell{fewer}.",
            f"Too few ordinary accounts to compare with. {aside}",
        )
    weighed = f"{words.counted(accounts, 'account')} weighed. " if accounts is not None else ""
    return (
        "No campaign was found. That is not proof that none exists.",
        f"{weighed}{aside} "
        "A campaign that is small, short, or hidden in channels these logs do not hold can stay below every bar.",
    )


def _leads(n: int, *, other: bool) -> str:
    if not n:
        return f"No {'other ' if other else ''}group came close enough to be a lead."
    return f"{words.counted(n, 'lead')} fell short of a bar and {'accuses' if n == 1 else 'accuse'} nobody."


def _tally(value: Any) -> list[tuple[str, int]]:
    """Reasons with their counts, the most frequent first."""
    pairs = [(str(reason), _whole(n) or 0) for reason, n in _mapping(value).items()]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _whole(value: Any) -> int | None:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value < words.MAX_COUNT
    return int(value) if whole else None
