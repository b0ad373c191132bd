"""findings: what an audit says, sentence by sentence, each with its verdict and the Evidence it rests on.

| verdict      | what it means                                                          |
| ------------ | ---------------------------------------------------------------------- |
| finding      | shown, against a stated null, after allowing for how often was looked  |
| lead         | worth a look; shows nothing                                            |
| estimate     | a figure with its interval, of the whole set                           |
| nothing      | looked for and not found; the smallest share that would have been is stated |
| cannot_tell  | looked for, and what was needed to judge it is missing                 |
| not_examined | nothing to compare with was given                                      |
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from stillwatch.audit import identity, matching
from stillwatch.audit.canary import Found, plain_found
from stillwatch.audit.declared import Declared
from stillwatch.audit.identity import Identity
from stillwatch.audit.licences import UNSTATED, Known, Register, conflict
from stillwatch.audit.matching import Match, is_finding, is_lead
from stillwatch.audit.registry import MIN_WORDS
from stillwatch.audit.written import AUC_MIN, N_MIN, P_FIT, Written
from stillwatch.records import EVIDENCE, Evidence

VERDICTS = ("finding", "lead", "estimate", "nothing", "cannot_tell", "not_examined")

BARS = {
    "min_words": MIN_WORDS,
    "band_bars": matching.BAND_BARS,
    "min_spans": matching.MIN_SPANS,
    "span_share": matching.SPAN_SHARE,
    "null_same_prompt": matching.NULL_SAME_PROMPT,
    "whole_spans": matching.WHOLE_SPANS,
    "whole_bands": matching.WHOLE_BANDS,
    "null_whole": matching.NULL_WHOLE,
    "null_other": matching.NULL_OTHER,
    "p_finding": matching.P_FINDING,
    "p_lead": identity.P_LEAD,
    "auc_min": AUC_MIN,
    "p_fit": P_FIT,
    "n_min": N_MIN,
}
"""Every number that decides a verdict; their hash is the `settings_hash` of the Evidence."""

P_CANARY = 1e-3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: which check, the verdict, and what was seen, in words and in plain values."""

    check: str
    verdict: str
    says: str
    detail: Mapping[str, Any]
    evidence: Evidence | None = None


def licence_finding(said: Declared, known: Known | None, register: Register) -> Finding:
    """The declared licence beside that of the known set of the same name, its teacher and the terms it came under."""
    declared, said_in, others = said.licence, said.said_in, said.others
    detail: dict[str, Any] = {"declared": declared, "said_in": said_in, "others": list(others)}
    if known is None:
        says = f"Declared licence: {declared}; no known data set goes by this name."
        verdict = "cannot_tell" if declared == UNSTATED else "nothing"
        if others:
            verdict, says = "finding", f"The metadata disagree: {declared} ({said_in}), {', '.join(others)}."
        return Finding("licence", verdict, says, detail)
    terms = register.terms.get(known.terms)
    sources = [source for source in map(register.find, ([name] for name in known.made_from)) if source is not None]
    detail |= {"known_as": known.name, "known_licence": known.licence, "teacher": known.teacher}
    detail["made_from"] = {source.name: source.licence for source in sources}
    says = f"By its name this is {known.name}, {known.licence}, answers by {known.teacher}"
    if terms is not None:
        detail |= {"terms": terms.provider, "restricts": terms.restricts, "accepted_by": UNSTATED}
        says += f"; collected under the terms of {terms.provider}, which restrict {terms.restricts}"
    for source in sources:
        says += f"; made from {source.name}, {source.licence}"
    departs = [conflict(declared, known.licence), *(conflict(known.licence, source.licence) for source in sources)]
    differ = "; ".join(filter(None, departs)) or ", ".join(others)
    if differ:
        return Finding("licence", "finding", f"{says}. Licences differ: {differ}.", detail)
    return Finding("licence", "lead" if terms is not None else "nothing", f"{says}.", detail)


def match_finding(
    check: str, match: Match, *, n_registries: int, subject: str, declared: str = UNSTATED, known: Known | None = None
) -> Finding:
    """Copies of one registered set or registry; for a set, with both licences."""
    share, (low, high) = match.share, match.share.interval
    found = is_finding(match, n_registries=n_registries)
    measured = (
        f"{share.n:,} of {share.total:,} rows ({100 * share.value:.2f} %, 95 % from {100 * low:.2f} "
        f"to {100 * high:.2f} %) {'are' if match.n_answers == share.total else 'hold'} copies of {match.registry}"
    )
    detail: dict[str, Any] = {
        **asdict(match), "share": share.value, "n_copied": share.n, "n_judged": share.total, "lo": low, "hi": high,
    }  # fmt: skip
    whose = ""
    if known is not None:
        departs = conflict(declared, known.licence)
        detail |= {"declared": declared, "licence": known.licence, "teacher": known.teacher, "conflict": departs}
        whose = f" Licences: {declared} declared here, {known.licence} there{': ' + departs if departs else ''}."
        whose += f" Answers there by {known.teacher}." if known.teacher != UNSTATED else ""
    lead = is_lead(match, n_registries=n_registries)
    if found:
        says = f"{measured}; {match.expected:.1f} distinct expected by chance, {match.n_distinct} found.{whose}"
    elif lead:
        says = (
            f"{measured}: more than answers to other prompts agree, no more than other models' answers to the same "
            f"prompts may. Those prompts are not known here; name other models' answers to them with --control.{whose}"
        )
    elif share.n:
        says = f"{measured}, no more than chance allows ({match.expected:.1f} distinct expected; null: {match.null})."
    elif share.total:
        says = f"No copy of {match.registry} among {share.total:,} rows."
    else:
        says = f"None of {match.n_rows:,} rows has an answer of {MIN_WORDS} words or more to be judged."
    if share.total and not found:
        says += f" A share of {100 * match.smallest_share:.2f} % would have been found."
    verdict = "finding" if found else "lead" if lead else "nothing" if share.total else "cannot_tell"
    evidence = _evidence(
        subject, check, family="content", statistic=float(match.n_distinct), n=share.total, effect=share.value,
        lo=low, hi=high, null_id=match.null, p_log10=match.p_log10, detail=detail,
        h1=f"rows were copied from {match.registry}", h0="somebody else answered, perhaps the same prompts",
    )  # fmt: skip
    return Finding(check, verdict, says.strip(), detail, evidence)


def identity_finding(found: Identity, *, subject: str) -> Finding:
    """Answers that speak as a model, beside people's rate; a lead at most."""
    low, high = found.leaks.interval
    people = identity.PEOPLE
    said = f"; they name {', '.join(found.named)}" if found.named else ""
    says = (
        f"{found.leaks.n:,} of {found.leaks.total:,} answers ({100 * found.leaks.value:.2f} %) speak as a model, "
        f"{found.claims.n:,} say which{said}. People: {people.n} of {people.total:,} ({100 * people.value:.2f} %); "
        f"models: {100 * identity.MODELS:.2f} % at the median."
    )
    detail = {
        "leaks": found.leaks.n, "claims": found.claims.n, "n": found.leaks.total, "share": found.leaks.value, "lo": low,
        "hi": high, "named": found.named, "people": people.value, "models": identity.MODELS,
    }  # fmt: skip
    evidence = _evidence(
        subject, "identity", family="content", statistic=float(found.leaks.n), n=found.leaks.total, detail=detail,
        effect=found.leaks.value, lo=low, hi=high, null_id=f"people: {people.n} of {people.total}",
        p_log10=found.p_log10,
        h1="some answers were written by a model that says so", h0="people wrote them",
    )  # fmt: skip
    verdict = "lead" if found.is_lead else "nothing" if found.leaks.total else "cannot_tell"
    return Finding("identity", verdict, says, detail, evidence)


def written_finding(found: Written, *, subject: str) -> Finding:
    """The share of the set that models wrote; an estimate, or why there is none."""
    detail = asdict(found)
    if found.share is None:
        return Finding("written", "cannot_tell", f"Share written by models: cannot tell, {found.why_not}.", detail)
    says = (
        f"Models wrote about {100 * found.share:.0f} % of the answers (95 % from {100 * found.lo:.0f} "
        f"to {100 * found.hi:.0f} %), beside the controls given (AUC {found.auc:.2f}). This holds of no single row."
    )
    evidence = _evidence(
        subject, "written", family="content", statistic=found.auc or math.nan, n=found.n, effect=found.share,
        lo=found.lo, hi=found.hi, null_id="mixture of two domain-matched controls", p_log10=None, detail=detail,
        h1="models wrote a share of the answers", h0="people wrote all of them",
    )  # fmt: skip
    return Finding("written", "estimate", says, detail, evidence)


def canary_finding(found: Found, *, subject: str) -> Finding:
    """Canaries among the rows, against the decoys that never left."""
    detail = plain_found(found)
    when = (
        "never committed to this journal"
        if found.committed_at is None
        else f"committed {found.committed_at:%Y-%m-%d %H:%M} UTC"
    )
    says = (
        f"{found.canaries} of {found.n_canaries} canaries of {found.label} and {found.decoys} of {found.n_decoys} "
        f"decoys are in the data ({when})."
    )
    shown = found.canaries > 0 and found.p_log10 <= math.log10(P_CANARY)
    # Without the commitment nobody can tell that the batch was not made after the data were seen.
    verdict = "nothing" if not found.canaries else "finding" if shown and found.committed_at else "lead"
    evidence = _evidence(
        subject, "canary", family="planted", statistic=float(found.canaries), n=found.n_canaries, detail=detail,
        effect=found.canaries / found.n_canaries, lo=0.0, hi=1.0, null_id=f"{found.n_decoys} decoys that never left",
        p_log10=found.p_log10, h1="the data hold what only their maker let out", h0="canaries are found like decoys",
    )  # fmt: skip
    return Finding("canary", verdict, says, detail, evidence)


def evidence_table(findings: Sequence[Finding]) -> pa.Table:
    """The Evidence of all findings, in order."""
    return pa.Table.from_pylist([asdict(one.evidence) for one in findings if one.evidence is not None], schema=EVIDENCE)


def settings_hash() -> str:
    """SHA-256 of `BARS`, in hex."""
    return hashlib.sha256(json.dumps(BARS, sort_keys=True).encode()).hexdigest()


def _evidence(subject: str, signal: str, *, detail: Mapping[str, Any], null_id: str, **values: Any) -> Evidence:
    told = json.dumps({"version": 1} | dict(detail), sort_keys=True, default=str)
    name = hashlib.sha256("\0".join((subject, signal, null_id, told)).encode()).hexdigest()[:16]
    return Evidence(
        evidence_id=name, subject_kind="dataset", subject_id=subject, signal=signal, null_id=null_id, e_log2=None,
        settings_hash=settings_hash(), detail=told, **values,
    )  # fmt: skip
