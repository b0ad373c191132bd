"""compare: `stillwatch compare`: is that model ours, and did it learn from ours?"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from stillwatch.cli.mark import Epoch, Gamma, KeyFile, SchemeName, Split, Width
from stillwatch.cli.scan import FOUND, progress
from stillwatch.errors import SettingsError
from stillwatch.redact import plain_text

if TYPE_CHECKING:
    from stillwatch.compare.battery import Ask
    from stillwatch.compare.lineup import Wanted
    from stillwatch.compare.marks import Marks
    from stillwatch.journal import Journal
    from stillwatch.suspects.answers import Answers, Place
    from stillwatch.suspects.endpoint import Asking, Endpoint

MANY = ("--teacher", "--controls", "--students")
"""Options that take all words up to the next option, so that a shell pattern can follow them."""

N_NAMED = 8
"""Names in one line of the summary."""


Controls = Annotated[
    list[str] | None, typer.Option(help="Unrelated models, as [FAMILY=]FILE[#MODEL]; several may follow.")
]
Students = Annotated[
    list[str] | None, typer.Option(help="Known students of the teacher; without any, nothing is 'not derived'.")
]
Tokenizers = Annotated[
    list[Path] | None, typer.Option(help="Look for the first teacher's mark, as mark detect does; repeatable.")
]
Stop = Annotated[
    str | None, typer.Option(help="early: stop once nothing can change; never: ask all. Endpoints stop early.")
]
KeyEnv = Annotated[
    list[str] | None, typer.Option(help="HOST=VARIABLE: where the key for an endpoint's host is; repeatable.")
]
Temperature = Annotated[float | None, typer.Option(help="Sampling temperature; the endpoint's own.", min=0, max=2)]


class ManyValued(TyperCommand):
    """A command whose `MANY` options take several words each."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each of its words, then parse as usual."""
        return list(super().parse_args(ctx, spread(args)))


def spread(words: Sequence[str]) -> list[str]:
    """Write `--controls a b` as `--controls a --controls b`.

    >>> spread(["S", "--controls", "a", "b", "--json"])
    ['S', '--controls', 'a', '--controls', 'b', '--json']
    """
    found: list[str] = []
    option: str | None = None
    for n, word in enumerate(words):
        if word == "--":
            return [*found, *words[n:]]
        if word.startswith("-"):
            option = word if word in MANY else None
            follows = words[n + 1] if n + 1 < len(words) else "-"
            found += [word] if option is None or follows.startswith("-") else []
        else:
            found += [word] if option is None else [option, word]
    return found


class SystemClock:
    """The clock and the sleep of this machine."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def now(self) -> datetime:
        """The time in UTC."""
        return datetime.now(UTC)


def compare(
    suspect: Annotated[str, typer.Argument(help="[FAMILY=]FILE[#MODEL], or the base address of an endpoint#MODEL.")],
    teacher: Annotated[list[str], typer.Option(help="Model it may have learned from; several may follow.")],
    controls: Controls = None,
    students: Students = None,
    before: Annotated[str | None, typer.Option(help="An earlier version of the suspect.")] = None,
    canaries: Annotated[Path | None, typer.Option(help="Planted strings: one a line, or JSONL with decoys.")] = None,
    tokenizer: Tokenizers = None,
    scheme: SchemeName = "gumbel",
    width: Width = 2,
    gamma: Gamma = 0.25,
    split: Split = "provider",
    epoch: Epoch = "1",
    key_file: KeyFile = None,
    expected: Annotated[Path | None, typer.Option(help="Right answers, for shared errors: prompt and output.")] = None,
    prompts: Annotated[int, typer.Option(help="Prompts at most.", min=1, max=5000)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the choice and order of prompts, and of permutations.", min=0)] = 0,
    stop: Stop = None,
    out: Annotated[Path, typer.Option(help="Folder to write the result, the evidence and the page to.")] = Path(
        "comparison"
    ),
    answers: Annotated[Path, typer.Option(help="Folder in which replies of endpoints are kept.")] = Path("answers"),
    key_env: KeyEnv = None,
    rate: Annotated[float, typer.Option(help="Requests a second, at most.", min=0.001, max=1000)] = 2.0,
    max_tokens: Annotated[int, typer.Option(help="Tokens of an answer, at most.", min=1)] = 512,
    temperature: Temperature = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
    fail_on: Annotated[str | None, typer.Option(help="derived: exit with 3 when that is the word.")] = None,
) -> None:
    """Compare a suspect model with a teacher, against unrelated controls: same model? derived?

    \b
    Examples:
      stillwatch compare suspect.jsonl --teacher ours.jsonl --controls controls/*.jsonl
      stillwatch compare all.parquet#suspect --teacher all.parquet#ours --controls acme=all.parquet#acme-1 --json
      stillwatch compare https://host/v1#model --key-env host=THEIR_KEY --teacher ours.jsonl --controls controls/*
    """
    _one_of("--fail-on", fail_on, "derived")
    _one_of("--stop", stop, "early", "never")
    from stillwatch.compare.lineup import Wanted
    from stillwatch.suspects.endpoint import Asking

    wanted = Wanted(suspect=suspect, teachers=teacher, controls=controls or [], students=students or [], before=before)
    asking = Asking(requests_per_s=rate, max_tokens=max_tokens, temperature=temperature)
    marks = _marks(tokenizer, scheme=scheme, width=width, gamma=gamma, split=split, epoch=epoch, key_file=key_file)
    result = run_compare(
        wanted, marks=marks, canaries=canaries, expected=expected, n_prompts=prompts, seed=seed, stop=stop, out=out,
        asked=Asked(answers, keys=_keys(key_env or []), asking=asking),
    )  # fmt: skip
    report(result, out, as_json=json_)
    if fail_on and any(one["derived"] == "derived" for one in result["teachers"]):
        raise typer.Exit(FOUND)


class Asked:
    """The endpoints of one run: where their replies are kept, where their keys are, how they are asked."""

    def __init__(self, answers: Path, *, keys: dict[str, str], asking: Asking) -> None:
        self.answers, self._keys, self._asking = answers, keys, asking

    def options(self) -> dict[str, Any]:
        """What is sent with every prompt."""
        return self._asking.options()

    def open(self, place: Place) -> Endpoint:
        """The endpoint at a place."""
        from stillwatch.suspects.archive import Archive
        from stillwatch.suspects.endpoint import Endpoint, key_for

        archive = Archive(self.answers, address=place.where, model=place.model or "", options=self.options())
        key = key_for(place, self._keys, os.environ)
        return Endpoint(place, key=key, archive=archive, asking=self._asking, clock=SystemClock())

    def collect(self, place: Place, prompts: Sequence[str], *, journal: Journal) -> Answers:
        """Ask a teacher or a control, after registering what it will be asked."""
        from stillwatch.compare.plan import plan_of_asking, register
        from stillwatch.suspects.endpoint import collect

        endpoint = self.open(place)
        plan = plan_of_asking(place.where, place.model or "", prompts, self.options())
        register(plan, journal, now=datetime.now(UTC))
        return collect(endpoint, place, prompts)


def run_compare(
    wanted: Wanted,
    *,
    marks: Marks | None,
    canaries: Path | None,
    expected: Path | None,
    n_prompts: int,
    seed: int,
    stop: str | None,
    out: Path,
    asked: Asked,
) -> dict[str, Any]:
    """Line up, register, ask, weigh and write; the result as plain values."""
    # Imported here so that --help answers at once.
    from stillwatch.compare.battery import Extras
    from stillwatch.compare.battery import compare as run_battery
    from stillwatch.compare.canaries import read_canaries
    from stillwatch.compare.lineup import line_up, read_expected
    from stillwatch.compare.plan import make_plan, register
    from stillwatch.compare.result import as_plain, evidence
    from stillwatch.compare.rules import Rules
    from stillwatch.dossier.comparison import check_folder, write_comparison
    from stillwatch.home import Home

    check_folder(out)
    rules, journal = Rules(), Home.of().journal
    planted = read_canaries(canaries) if canaries else None
    right, right_sha256 = read_expected(expected) if expected else (None, None)
    with _kept(asked.answers), progress() as on_progress:
        lineup = line_up(wanted, collect=partial(asked.collect, journal=journal), n_prompts=n_prompts, seed=seed)
        stop_early = stop == "early" or (stop is None and lineup.answers is None)
        endpoint = None if lineup.answers else asked.open(lineup.suspect)
        ask: Ask = endpoint.ask if endpoint else lineup.answers.outputs.get  # type: ignore[union-attr]
        known = endpoint.n_known(lineup.panel.prompts) if endpoint else len(lineup.panel.prompts)
        plan = make_plan(
            lineup.panel, rejects=lineup.rejects, rules=rules, seed=seed, stop_early=stop_early,
            canaries_sha256=planted.sha256 if planted else None, expected_sha256=right_sha256,
            marks=marks.plan() if marks else None, n_known=known, asking=asked.options() if endpoint else None,
        )  # fmt: skip
        registered = register(plan, journal, now=datetime.now(UTC))
        extras = Extras(expected=right, canaries=planted, marks=marks)
        compared = run_battery(
            lineup.panel, ask, rules=rules, seed=seed, stop_early=stop_early, extras=extras, on_progress=on_progress
        )
        result = as_plain(compared, lineup.panel, registered, rules)
        write_comparison(result, evidence(compared, lineup.panel, registered, rules), out)
    return result


def report(result: Mapping[str, Any], out: Path, *, as_json: bool) -> None:
    """Say what was found: lines for a person, or JSON for a program."""
    from stillwatch.dossier.comparison import PAGE

    if as_json:
        typer.echo(json.dumps(result, indent=2, sort_keys=True))
        return
    for line in summary(result):
        typer.echo(plain_text(line))
    typer.echo(plain_text(f"Page  {out / PAGE}"))


def _marks(
    tokenizers: Sequence[Path] | None, *, scheme: str, width: int, gamma: float, split: str, epoch: str,
    key_file: Path | None,
) -> Marks | None:  # fmt: skip
    """What is needed to look for the provider's mark; None where no tokenizer is named, since nothing can be read."""
    if not tokenizers:
        return None
    from stillwatch.cli.mark import ring_of
    from stillwatch.compare.marks import N_DECOYS, Marks
    from stillwatch.watermark.keys import Label
    from stillwatch.watermark.schemes import Scheme, parse_split
    from stillwatch.watermark.texts import load_tokenizer

    chosen = Scheme(name=scheme, width=width, gamma=gamma, split=parse_split(split))  # type: ignore[arg-type]
    if "provider" not in chosen.levels():
        raise SettingsError("compare looks for the provider's mark only", got=split, do="Use mark detect for accounts.")
    readers = {str(path): load_tokenizer(path) for path in tokenizers}
    ring, now = ring_of(key_file), datetime.now(UTC)
    return Marks(
        scheme=chosen,
        keys=ring.for_detection([Label(epoch)], because="compare", now=now),
        routing=ring.routing(epoch=epoch, because="compare", now=now),
        decoys=ring.decoys(N_DECOYS, epoch=epoch, because="compare", now=now),
        tokenizers=readers,
        files={str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in tokenizers},
    )


def _one_of(option: str, word: str | None, *known: str) -> None:
    if word is not None and word not in known:
        raise SettingsError(f"{option} does not know this word", got=repr(word), expected=" or ".join(known))


def _keys(pairs: Sequence[str]) -> dict[str, str]:
    """Hosts and the variables their keys are in. A key itself on the command line is not repeated back."""
    found = {}
    for pair in pairs:
        host, equals, variable = pair.partition("=")
        if not (equals and host and variable.isidentifier() and variable == variable.upper()):
            raise SettingsError(
                "--key-env is not understood", expected="HOST=VARIABLE, as in api.example.org=THEIR_KEY"
            )
        found[host.lower()] = variable
    return found


@contextmanager
def _kept(answers: Path) -> Iterator[None]:
    """Say, when somebody interrupts, where the replies so far are."""
    try:
        yield
    except KeyboardInterrupt:
        if answers.is_dir():
            print(
                f"\nReplies so far are kept in {plain_text(answers)}; the same command goes on there.", file=sys.stderr
            )
        raise


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:N_NAMED]) + (f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else "")


def summary(result: Mapping[str, Any]) -> Iterator[str]:
    """The result in lines for a terminal: words first, the rank p before the permutation p."""
    from stillwatch.dossier import words
    from stillwatch.dossier.comparison import headline

    yield headline(result)
    for one in result["teachers"]:
        p, power = one["p_values"], one["power"]
        yield ""
        n_families = one["controls"]["n_families"]
        yield f"Teacher {one['teacher']}, {one['n_prompts']} prompts, {n_families} unrelated families"
        yield f"  same model?  {one['same_model']}: {one['why']['same_model']}"
        yield f"  derived?     {one['derived']}: {one['why']['derived']}"
        if one["related"]:
            yield f"  kin          {_some(one['related'])}: of the suspect's or the teacher's family, no controls"
        yield (
            f"  nearness     rank p {words.decimal(p['rank'])} (never below {words.decimal(p['rank_bound'])}), "
            f"permutation p {words.decimal(p['permutation'])} conditional on the controls"
        )
        if one["views"]:
            yield f"  nearest      {one['views'][0]['best_control']} among the controls"
        shares = power["derived_if_it_repeated_this_share"].items()
        told = ", ".join(f"{words.share(found)} at {words.share(float(share))}" for share, found in shares)
        if power["known_students"]:
            found = power["share_of_such_students_found"]
            yield (
                f"  students     {found['found']} of {found['of']} known students found; to be one of them: rank p "
                f"{words.decimal(p['student_rank'])}, p {words.decimal(p['student'])} if their margins are normal"
            )
        yield f"  power        equality {words.share(power['equality'])}; derived, by share repeated: {told or 'none'}"
        for name in ("canaries", "shared_errors"):
            if one[name]:
                yield f"  {name.replace('_', ' '):<12} {json.dumps(one[name], sort_keys=True)}"
        for mark in one["marks"] or ():
            yield (
                f"  mark         {mark['verdict']}: key {mark['key_id']}, p 10^{mark['holm_log10']:.1f}, "
                f"{mark['n']} pairs, {mark['n_decoys_as_high']} of {mark['n_decoys']} unused keys as high"
            )
        for gain in one["contrast"] or ():
            yield (
                f"  contrast     {gain['view']}: nearer by {words.decimal(gain['gain'])}, best control by "
                f"{words.decimal(gain['best_gain'])}, rank p {words.decimal(gain['rank_p'])}, "
                f"permutation p {words.decimal(gain['permutation_p'])}"
            )
    yield ""
    for name, why in result["set_aside"].items():
        yield f"Set aside: {name}: {why}"
    for where, n in result["rejects"].items():
        yield f"Left out: {n} rows or prompts of {where}, without a readable prompt or answer"
    asked = f"{result['n_asked']} prompts, {result['n_unanswered']} without an answer"
    yield f"Asked {asked}{'; stopped early' if result['stopped_early'] else ''}. Plan {result['plan']['sha256'][:16]}."
