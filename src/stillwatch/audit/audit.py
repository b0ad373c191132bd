"""audit: a data set in, what is in it out; one pass over its rows.

registered sets, registries, controls, canaries --> what to compare with
rows --prints--> copies; answers --> identity leaks, sample; runs of words --> canaries
counts --> findings with their nulls --> Audit
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stillwatch import __version__
from stillwatch.audit.canary import Finder, committed, read_batch
from stillwatch.audit.croissant import croissant_patch
from stillwatch.audit.dataset import Dataset
from stillwatch.audit.declared import Declared, read_declared
from stillwatch.audit.findings import (
    Finding,
    canary_finding,
    evidence_table,
    identity_finding,
    licence_finding,
    match_finding,
    written_finding,
)
from stillwatch.audit.identity import leaks, names_in, weigh_identity
from stillwatch.audit.licences import UNSTATED, Known, Register, load_register, names_of, shipped, spdx
from stillwatch.audit.marks import MarkSearch, Pool, look_for_marks
from stillwatch.audit.matching import Match, Rows, begins, match_rows, places, weigh_match
from stillwatch.audit.registry import Registry, fill, match_key, printed
from stillwatch.audit.shapes import first_answers
from stillwatch.audit.written import Sample, estimate_written
from stillwatch.errors import InputError
from stillwatch.journal import Journal
from stillwatch.kernels.hashing import HashKey
from stillwatch.keys import RootKey

OnProgress = Callable[[str, int, int], None]
"""Called with the step, what is done of it and all of it; 0 of 0 when a step begins."""

_MIN_FILTER, _MAX_FILTER = 1 << 20, 512 << 20
_PACKED_RATIO = 4
_MOST_PLACES = 1000
_MOST_REGISTER = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """What to audit and what to compare it with; every field is an option of `stillwatch audit`, or several."""

    data: Sequence[Path]
    registers: Sequence[Path] = ()
    registries: Sequence[Path] = ()
    control: Sequence[Path] = ()
    human: Sequence[Path] = ()
    model: Sequence[Path] = ()
    canaries: Sequence[Path] = ()
    licence: str | None = None
    marks: MarkSearch | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found in a data set; `places` are the (file, row) of copies, by the set they are copies of."""

    name: str
    version: str
    declared: Declared
    findings: list[Finding]
    evidence: pa.Table
    files: list[dict[str, Any]]
    skipped: list[str]
    n_rows: int
    places: dict[str, list[tuple[int, int]]]
    croissant: dict[str, Any]
    key_ids: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON; no text of any row."""
        return {
            "version": self.version, "dataset": self.name, "n_rows": self.n_rows, "key_ids": self.key_ids,
            "declared": {name: getattr(self.declared, name) for name in ("name", "licence", "said_in", "others")},
            "findings": [
                {name: getattr(one, name) for name in ("check", "verdict", "says", "detail")} for one in self.findings
            ],
            "evidence": self.evidence.to_pylist(), "files": self.files, "skipped": self.skipped,
            "rejects": counted(self.files, "rejects"), "notes": counted(self.files, "notes"),
            "shapes": counted(self.files, "shapes"),
            "places": {name: [list(place) for place in found] for name, found in self.places.items()},
        }  # fmt: skip


def counted(files: Sequence[Mapping[str, Any]], what: str) -> dict[str, int]:
    """A count of all files together."""
    total: Counter[str] = Counter()
    for file in files:
        total.update(file[what])
    return dict(sorted(total.items()))


@dataclass(slots=True)
class _Against:
    """One registered set or registry while rows are matched with it."""

    check: str
    registry: Registry
    known: Known | None
    rate: float
    rows: list[Rows] = field(default_factory=list)
    control: list[Rows] = field(default_factory=list)
    n_seen: int = 0
    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    """(file, row) of copies, by the answer's number."""

    def take(self, batch: pa.RecordBatch, rows: Rows) -> None:
        """The answers of one more batch as judged."""
        at = np.flatnonzero(rows.copied)[: _MOST_PLACES - len(self.places)]
        self.places.update(zip((at + self.n_seen).tolist(), places(batch, at), strict=True))
        self.n_seen += len(rows.copied)
        self.rows.append(rows)

    def weighed(self, n_registries: int) -> Match:
        """What comes of it; stock phrases leave the places too."""
        rows, control = Rows.joined(self.rows).without_stock(), Rows.joined(self.control) if self.control else None
        self.places = {at: place for at, place in self.places.items() if rows.copied[at]}
        return weigh_match(self.registry, rows, control=control, n_registries=n_registries)


@dataclass(slots=True)
class _Said:
    """Answers counted: all, those that speak as a model, those that say which, and whom these name."""

    n: int = 0
    n_leaks: int = 0
    n_claims: int = 0
    named: Counter[str] = field(default_factory=Counter)

    def add(self, answers: pa.Array) -> None:
        spoken, claimed = leaks(answers)
        self.n += len(answers) - answers.null_count
        self.n_leaks, self.n_claims = self.n_leaks + spoken.true_count, self.n_claims + claimed.true_count
        self.named.update(names_in(answers.filter(claimed).to_pylist()))


def audit(
    request: AuditRequest, *, key: RootKey, journal: Journal, on_progress: OnProgress = lambda step, done, total: None
) -> Audit:
    """Look for everything there is something to compare with.

    Raises:
        InputError: nothing can be read as asked; says what is wrong and what to do.

    Cost: one pass over the data set at 20 MB/s or more a core, one over each registered set and control.
    """
    prints_key = match_key(key)
    dataset = Dataset(request.data, mapping=request.mapping)
    register, declared, name, known = _about(request)
    against = _against(request, register, key, prints_key, on_progress)
    finders = [(Finder(batch, prints_key), committed(batch, journal)) for batch in map(read_batch, request.canaries)]

    on_progress("Reading rows", 0, 0)
    sample, said = Sample(prints_key), _Said()
    pools = _pools(request.marks)
    n_rows = 0
    for batch in dataset.batches(on_progress=lambda done, total: on_progress("Reading rows", done, total)):
        n_rows += int(begins(batch).sum())
        said.add(batch.column("answer"))
        if request.human and request.model:
            _add(sample, batch)
        _match(batch, against, prints_key)
        for looking in (*(finder.look for finder, _ in finders), *(pool.add for pool in pools.values())):
            looking(batch)
    people, models = (_sample(paths, request, prints_key, on_progress) for paths in (request.human, request.model))
    if request.control and against:
        _match_control(request, against, prints_key, on_progress)
    on_progress("Weighing", 0, 0)
    findings = [licence_finding(declared, known, register), *_weighed(against, declared, known, name)]
    findings += _unexamined(against)
    findings.append(identity_finding(weigh_identity(said.n_leaks, said.n_claims, said.n, said.named), subject=name))
    findings.append(written_finding(estimate_written(sample, people, models, prints_key), subject=name))
    findings += [canary_finding(finder.found(when), subject=name) for finder, when in finders]
    findings += _marks(request.marks, pools, name, on_progress)
    return Audit(
        name=name, version=__version__, declared=declared, findings=findings, evidence=evidence_table(findings),
        files=[one.to_dict() for one in dataset.files], skipped=dataset.skipped, n_rows=n_rows,
        places={one.registry.about.name: list(dict.fromkeys(one.places.values())) for one in against if one.places},
        croissant=_patch(declared, findings), key_ids={"match": key.key_id("match")},
    )  # fmt: skip


def _pools(marks: MarkSearch | None) -> dict[str, Pool]:
    return {} if marks is None else {name: Pool(read, marks.scheme.width) for name, read in marks.readers.items()}


def _marks(marks: MarkSearch | None, pools: dict[str, Pool], name: str, on_progress: OnProgress) -> list[Finding]:
    if marks is None:
        return [Finding("marks", "not_examined", "Not examined: marks were not asked for (--marks).", {})]
    on_progress("Scoring keys", 0, 0)
    return look_for_marks(
        marks, pools, subject=name, on_progress=lambda done, total: on_progress("Scoring keys", done, total)
    )


def _about(request: AuditRequest) -> tuple[Register, Declared, str, Known | None]:
    """The register, what the data set says of itself, its name, and the known set it goes by."""
    register = shipped()
    for path in request.registers:
        register = register.plus(_register(path, register, beside=request.data))
    declared = read_declared(request.data)
    if request.licence is not None:
        declared = Declared(declared.name, spdx(request.licence), "--licence", declared.others, declared.croissant)
    names = names_of(request.data, declared.name)
    return register, declared, names[0], register.find(names)


def _register(path: Path, known_so_far: Register, *, beside: Sequence[Path]) -> Register:
    """A register file, or a data file registered under the licence that it or the register states for it."""
    if path.suffix.lower() == ".toml" or (path.suffix.lower() == ".json" and _is_register(path)):
        return load_register(path)
    if not path.exists():
        raise InputError(f"cannot read the register {path}", got="no such file")
    # Metadata in the audited set's own folder speak of that set.
    own = {one if one.is_dir() else one.parent for one in beside}
    declared = Declared() if path.is_file() and path.parent in own else read_declared([path])
    known = known_so_far.find(names_of([path], declared.name)[:2])
    licence = declared.licence if declared.licence != UNSTATED or known is None else known.licence
    teacher, terms = (known.teacher, known.terms) if known else (UNSTATED, "")
    name = path.name if path.is_dir() else path.name.split(".")[0]
    return Register((Known(name, licence, teacher, terms, files=(path,)),))


def _is_register(path: Path) -> bool:
    try:
        if path.stat().st_size > _MOST_REGISTER:
            return False
        load_register(path)
    except OSError:
        return False
    except InputError as error:
        return "is no register" not in error.wrong
    return True


def _against(
    request: AuditRequest, register: Register, key: RootKey, prints_key: HashKey, on_progress: OnProgress
) -> list[_Against]:
    found: list[tuple[str, Registry, Known | None]] = []
    for known in register.with_files():
        on_progress("Reading registered sets", 0, 0)
        rows = Dataset(known.files)
        size = rows.n_bytes * (_PACKED_RATIO if any(path.suffix != ".jsonl" for path in known.files) else 1)
        empty = Registry.empty(known.name, key=key, memory_bytes=min(_MAX_FILTER, max(_MIN_FILTER, size)))
        batches = rows.batches(on_progress=lambda done, total: on_progress("Reading registered sets", done, total))
        found.append(("overlap", fill(empty, batches, prints_key, whole=True), known))
    for path in request.registries:
        registry = Registry.load(path)
        if registry.about.key_id != key.key_id("match"):
            raise InputError(
                f"{path} was built under another key", got=registry.about.key_id, expected=key.key_id("match"),
                do="Name its key with --key-file",
            )  # fmt: skip
        found.append(("registry", registry, None))
    return [_Against(check, registry, one, registry.held.false_positive_rate()) for check, registry, one in found]


def _match(batch: pa.RecordBatch, against: Sequence[_Against], key: HashKey) -> None:
    for asked, rows in zip(against, _judged(batch, against, key), strict=True):
        asked.take(batch, rows)


def _judged(batch: pa.RecordBatch, against: Sequence[_Against], key: HashKey) -> Iterator[Rows]:
    """The answers of a batch against each registered set, whole, and each registry; printed once each."""
    first = begins(batch)
    prints = {whole: printed(batch, key, whole=whole) for whole in {asked.check == "overlap" for asked in against}}
    for asked in against:
        yield match_rows(prints[asked.check == "overlap"], asked.registry, first=first, rate=asked.rate)


def _match_control(request: AuditRequest, against: Sequence[_Against], key: HashKey, on_progress: OnProgress) -> None:
    for batch in _controls(request.control, request, on_progress):
        for asked, rows in zip(against, _judged(batch, against, key), strict=True):
            asked.control.append(rows)


def _weighed(against: Sequence[_Against], declared: Declared, known: Known | None, name: str) -> Iterator[Finding]:
    licence = declared.licence if declared.licence != UNSTATED or known is None else known.licence
    for asked in against:
        yield match_finding(
            asked.check,
            asked.weighed(len(against)),
            n_registries=len(against),
            subject=name,
            declared=licence,
            known=asked.known,
        )


def _controls(paths: Sequence[Path], request: AuditRequest, on_progress: OnProgress) -> Iterator[pa.RecordBatch]:
    """The rows of a control, read as those of the audited set are."""
    on_progress("Reading controls", 0, 0)
    rows = Dataset(paths, mapping=request.mapping)
    return rows.batches(on_progress=lambda done, total: on_progress("Reading controls", done, total))


def _sample(paths: Sequence[Path], request: AuditRequest, key: HashKey, on_progress: OnProgress) -> Sample | None:
    if not paths:
        return None
    sample = Sample(key)
    for batch in _controls(paths, request, on_progress):
        _add(sample, batch)
    return sample


def _add(sample: Sample, batch: pa.RecordBatch) -> None:
    one_each = first_answers(batch)
    sample.add(one_each.column("answer"), one_each.column("prompt"))


def _unexamined(against: Sequence[_Against]) -> list[Finding]:
    """What could not be looked for, because there was nothing to compare with."""
    missing = {
        "overlap": "no registered set has its rows at hand (--register)",
        "registry": "no registry was given (--registry)",
    }
    there = {asked.check for asked in against}
    return [
        Finding(check, "not_examined", f"Not examined: {why}.", {})
        for check, why in missing.items()
        if check not in there
    ]


def _patch(declared: Declared, findings: Sequence[Finding]) -> dict[str, Any]:
    sources = [
        (str(one.detail["registry"]), str(one.detail["licence"]))
        for one in findings
        if one.check == "overlap" and one.verdict == "finding"
    ]
    shown = [one.says for one in findings if one.verdict in ("finding", "lead")]
    measured = [one.says for one in findings if one.verdict in ("estimate", "cannot_tell", "not_examined")]
    return croissant_patch(declared.croissant, sources=sources, limits=shown, collection=measured, version=__version__)
