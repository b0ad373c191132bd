"""mark: `stillwatch mark`: the keys answers are marked with, and which of them a text carries."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillwatch.cli.scan import progress
from stillwatch.errors import InputError, SettingsError
from stillwatch.redact import plain_text

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from stillwatch.watermark.detector import Finding, Suspect
    from stillwatch.watermark.keys import KeyRing, Label
    from stillwatch.watermark.schemes import Scheme
    from stillwatch.watermark.texts import Encode

FOUND = 3
"""Exit status of `--fail-on found` when a mark is found."""

MAX_SHOWN = 20
WIDTH = 48
BARS = " ▁▂▃▄▅▆▇█"

KeyFile = Annotated[Path | None, typer.Option(help="Root key file instead of the one in STILLWATCH_HOME.")]
Epoch = Annotated[str, typer.Option(help="Epoch of the keys; another epoch, other keys.")]
SchemeName = Annotated[str, typer.Option(help="gumbel, kgw or adfp: what the answers were marked with.")]
Width = Annotated[int, typer.Option(help="Tokens of a window, 1 or 2.")]
Gamma = Annotated[float, typer.Option(help="Share of green tokens (kgw, adfp).")]
Split = Annotated[str, typer.Option(help="Share of windows of each level: provider=0.5,account=0.5.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Texts = Annotated[list[Path], typer.Argument(help="Files or folders: .npy, .jsonl, .parquet, .txt.")]
Tokenizers = Annotated[list[Path] | None, typer.Option(help="tokenizer.json to read text with; repeatable.")]
Base = Annotated[Path | None, typer.Option(help="Texts of a model that cannot have learned from yours, as a control.")]
Accounts = Annotated[Path | None, typer.Option(help="Test these accounts' keys: one id a line.")]
Campaigns = Annotated[Path | None, typer.Option(help="Test these campaigns' keys: one lineage id a line.")]
NameThem = Annotated[bool, typer.Option("--name-accounts", help="Name whom a found key belongs to; journaled.")]
Because = Annotated[str, typer.Option(help="Why these keys are looked for; for the journal.")]
About = Annotated[str, typer.Option(help="dataset: texts found somewhere; model: what a model answered.")]
Decoys = Annotated[int, typer.Option(min=0, help="Unused keys scored on the same text.")]
Alpha = Annotated[float, typer.Option(help="Largest Holm-adjusted p at which a mark is found.")]
Out = Annotated[Path | None, typer.Option(help="Write the findings here as Evidence (Parquet).")]
Threads = Annotated[int, typer.Option(min=1, help="Worker threads.")]
FailOn = Annotated[str | None, typer.Option(help="found: exit with 3 when a mark is found.")]


def detect(
    texts: Texts, tokenizer: Tokenizers = None, base: Base = None, scheme: SchemeName = "gumbel", width: Width = 2,
    gamma: Gamma = 0.25, split: Split = "provider", epoch: Epoch = "1", accounts: Accounts = None,
    campaigns: Campaigns = None, name_accounts: NameThem = False, because: Because = "mark detect",
    about: About = "dataset", decoys: Decoys = 1000, alpha: Alpha = 0.001, out: Out = None, key_file: KeyFile = None,
    threads: Threads = 2, json_: AsJson = False, fail_on: FailOn = None,
) -> None:  # fmt: skip
    """Test which keys a text carries: exact p-values, decoy keys on the same text, one family of tests.

    \b
    Examples:
      stillwatch mark detect suspect.jsonl --tokenizer tokenizer.json
      stillwatch mark detect student.npy --base before.npy --about model --out marks.parquet
      stillwatch mark detect student.npy --split provider=0.5,account=0.5 --accounts suspects.txt --json
    """
    from stillwatch.watermark.detector import detect as run
    from stillwatch.watermark.rows import evidence_rows, plain
    from stillwatch.watermark.schemes import Scheme, parse_split

    if out is not None:
        _check_place(out)
    for option, given, words in (("fail-on", fail_on, (None, "found")), ("about", about, ("dataset", "model"))):
        if given not in words:
            expected = " or ".join(word for word in words if word)
            raise SettingsError(f"--{option} does not know this word", got=repr(given), expected=expected)
    if not 0 < alpha < 1:
        raise SettingsError("--alpha is out of range", got=str(alpha), expected="between 0 and 1")
    chosen = Scheme(name=scheme, width=width, gamma=gamma, split=parse_split(split))  # type: ignore[arg-type]
    ring = ring_of(key_file)
    suspects = _suspects(texts, tokenizer or [], base, width)
    now = datetime.now(UTC)
    keys = ring.for_detection(labels_of(chosen, epoch, accounts, campaigns), because=because, now=now)
    routing = ring.routing(epoch=epoch, because=because, now=now)
    unused = ring.decoys(decoys, epoch=epoch, because=because, now=now)
    with progress() as on_progress:
        found = run(
            suspects, keys, scheme=chosen, routing=routing, decoys=unused, alpha=alpha,
            threads=threads, on_progress=partial(on_progress, "Scoring keys"),
        )  # fmt: skip
    names = _names(ring, found, because) if name_accounts else {}
    if out is not None:
        _write(evidence_rows(found, suspects, scheme=chosen, alpha=alpha, subject_kind=about), out)
    if json_:
        of = {(one.name, one.tokenizer): one for one in suspects}
        rows = [plain(one, of[one.text, one.tokenizer]) | names.get(one.key.key_id, {}) for one in found]
        typer.echo(json.dumps({"findings": rows, "alpha": alpha, "n_tests": len(found)}, indent=2, sort_keys=True))
    else:
        _show(found, chosen, names)
    if fail_on and any(one.verdict == "found" for one in found):
        raise typer.Exit(FOUND)


def keys(
    epoch: Epoch = "1",
    seal: Annotated[Path | None, typer.Option(help="Write the seal key here, for the engine that marks.")] = None,
    key_file: KeyFile = None,
    json_: AsJson = False,
) -> None:
    """Show the id of the provider's mark key, and write the seal key an engine opens tickets with.

    \b
    Examples:
      stillwatch mark keys
      stillwatch mark keys --epoch 2026-11 --seal seal.key
    """
    from stillwatch.watermark.keys import Label

    ring, now = ring_of(key_file), datetime.now(UTC)
    (provider,) = ring.for_detection([Label(epoch)], because="mark keys", now=now)
    if seal is not None:
        write_secret(seal, ring.seal(because="mark keys --seal", now=now).reveal().hex())
    if json_:
        typer.echo(json.dumps({"epoch": epoch, "key_id": provider.key_id, "level": "provider"}, sort_keys=True))
    else:
        typer.echo(f"provider  epoch {plain_text(epoch)}  key id {provider.key_id}")


def ticket(
    policy: Annotated[
        Path | None, typer.Option(help="File of the policy that allows marking by account; its hash is journaled.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Account whose answers are to be marked.")] = None,
    campaign: Annotated[str | None, typer.Option(help="Lineage the account belongs to.")] = None,
    scheme: SchemeName = "gumbel",
    width: Width = 2,
    gamma: Gamma = 0.25,
    delta: Annotated[float, typer.Option(help="Bias in logits (kgw), or its factor (adfp).")] = 2.0,
    split: Split = "provider",
    epoch: Epoch = "1",
    key_file: KeyFile = None,
) -> None:
    """Print a sealed ticket: what a gate adds to a request so that its answer is marked.

    \b
    Examples:
      stillwatch mark ticket
      stillwatch mark ticket --account acct_17 --policy policy.md --split provider=0.5,account=0.5
    """
    from stillwatch.watermark.keys import Label, Policy
    from stillwatch.watermark.schemes import Mark, Scheme, parse_split
    from stillwatch.watermark.tickets import seal_ticket

    chosen = Scheme(name=scheme, width=width, gamma=gamma, delta=delta, split=parse_split(split))  # type: ignore[arg-type]
    labels = {"provider": Label(epoch), "campaign": Label(epoch, campaign), "account": Label(epoch, account=account)}
    for level, given in (("account", account), ("campaign", campaign)):
        if (level in chosen.levels()) != (given is not None):
            raise SettingsError(f"--{level} and --split disagree", got=split, do=f"Name both --{level} and its share.")
    ring, rule, now = ring_of(key_file), Policy.read(policy) if policy else None, datetime.now(UTC)
    cut = {level: ring.for_embedding(labels[level], because=rule, now=now).secret for level in chosen.levels()}
    mark = Mark(scheme=chosen, keys=cut, routing=ring.routing(epoch=epoch, because="mark ticket", now=now))
    typer.echo(seal_ticket(mark, ring.seal(because="mark ticket", now=now)))


HELP = "Keys that answers are marked with, and which of them a text carries."

VERBS: tuple[Callable[..., None], ...] = (detect, keys, ticket)


def ring_of(key_file: Path | None) -> KeyRing:
    """The keys of this installation; every use is journaled."""
    from stillwatch.home import Home
    from stillwatch.watermark.keys import KeyRing

    home = Home.of()
    return KeyRing(home.root_key(key_file), journal=home.journal)


def _suspects(texts: Sequence[Path], tokenizers: Sequence[Path], base: Path | None, width: int) -> list[Suspect]:
    """Every text as every tokenizer reads it; the base model's texts as the same tokenizer reads them."""
    from stillwatch.watermark.detector import Suspect
    from stillwatch.watermark.grams import grams_of
    from stillwatch.watermark.texts import load_tokenizer, read_documents

    suspects = []
    readers: dict[str, Encode | None] = {str(path): load_tokenizer(path) for path in tokenizers}
    digests = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in tokenizers}
    for tokenizer, encode in (readers or {"token ids": None}).items():
        control = grams_of(read_documents(base, encode=encode), width=width) if base else None
        for text in texts:
            grams = grams_of(read_documents(text, encode=encode), width=width)
            suspects.append(
                Suspect(
                    name=_shown(text),
                    tokenizer=_shown(tokenizer),
                    grams=grams,
                    base=control,
                    tokenizer_sha256=digests.get(tokenizer),
                )
            )
    return suspects


def _shown(path: Path | str) -> str:
    """A path as text: bytes of a name that are not UTF-8 are replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def labels_of(scheme: Scheme, epoch: str, accounts: Path | None, campaigns: Path | None) -> list[Label]:
    """The keys to test: the provider's where the scheme has it, and those of the files of ids."""
    from stillwatch.watermark.keys import Label

    labels = [Label(epoch)] if "provider" in scheme.levels() else []
    labels += [Label(epoch, campaign=one) for one in _ids(campaigns)]
    labels += [Label(epoch, account=one) for one in _ids(accounts)]
    return labels


def _ids(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        ids = dict.fromkeys(line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read", got=str(error)[:200], expected="one id a line") from error
    if not ids:
        raise InputError(f"{path} names nobody", expected="one id a line")
    return list(ids)


def _names(ring: KeyRing, found: Sequence[Finding], because: str) -> dict[str, dict[str, Any]]:
    """Who the keys that were found belong to; the journal says that they were named."""
    ours = {one.key.key_id: one.key.label for one in found if one.verdict == "found"}
    ring.reveal(sorted(ours), because=because, now=datetime.now(UTC))
    return {key_id: {"account": label.account, "campaign": label.campaign} for key_id, label in ours.items()}


def _write(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    # Opened here: Arrow takes no name that is not UTF-8.
    descriptor, made = tempfile.mkstemp(prefix=f".{path.name[:100]}-", dir=path.parent)
    partial = Path(made)
    try:
        with os.fdopen(descriptor, "wb") as file:
            pq.write_table(table, file, compression="zstd", version="2.6")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _check_place(path: Path) -> None:
    """Refuse, before hours of scoring, to put findings where a folder, a device or a pipe stands."""
    if not path.name or (path.exists() and not path.is_file()):
        raise InputError(f"--out {path} is no file", got="a folder, a device or a pipe", do="Name a file to write.")


def write_secret(path: Path, text: str) -> None:
    """Write a line of a secret to a new file of its owner; where it does not fit, no file is left."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
    except BaseException:
        path.unlink()
        raise


def _show(found: Sequence[Finding], scheme: Scheme, names: dict[str, dict[str, Any]]) -> None:
    """One paragraph for each finding worth a look, the smallest p first."""
    shown = sorted(found, key=lambda one: one.p_log10)[:MAX_SHOWN]
    sure = sum(one.verdict == "found" for one in found)
    typer.echo(f"{sure} of {len(found)} tests found a mark." if sure else f"No mark found in {len(found)} tests.")
    unmarked = 1.0 if scheme.name == "gumbel" else scheme.gamma
    for one in shown:
        owner = names.get(one.key.key_id, {})
        named = plain_text(owner.get("account") or owner.get("campaign") or "")
        typer.echo(f"\n{one.verdict.upper()}  {one.key.label.level} key {one.key.key_id} {named}".rstrip())
        typer.echo(f"  text       {plain_text(one.text)} ({plain_text(one.tokenizer)}), {one.n:,} distinct pairs")
        if not one.n:
            typer.echo("  too short to say anything")
            continue
        typer.echo(f"  p          {_p(one.p_log10)}; among {len(found):,} tests {_p(one.holm_log10)} (Holm)")
        typer.echo(f"  effect     {one.effect:.4f} a pair, {one.lo:.4f} to {one.hi:.4f}; unmarked {unmarked:g}")
        if one.verdict == "not found":
            least = "no effect is" if one.least_effect is None else f"an effect measured at {one.least_effect:.4f} is"
            typer.echo(f"  bar        of so many pairs and tests, {least} enough to be found")
        if one.n_decoys:
            typer.echo(f"  decoys     {one.n_decoys_as_high} of {one.n_decoys:,} unused keys score as high")
            typer.echo(f"             {_drawn(one)}".rstrip())
        if one.beyond_base_p_log10 is not None and one.base_p_log10 is not None:
            typer.echo(f"  base model {_p(one.base_p_log10)} by itself; beyond it {_p(one.beyond_base_p_log10)}")
    if len(found) > len(shown):
        typer.echo(f"\n{len(found) - len(shown):,} more tests: --json or --out shows all.")


def _drawn(one: Finding) -> str:
    """The scores of the decoys as a row of bars, and where this key stands; empty where they cannot be shown."""
    if one.decoy_scores is None or not (sys.stdout.encoding or "").lower().startswith("utf"):
        return ""
    low, high = min(*one.decoy_scores, one.score), max(*one.decoy_scores, one.score)
    column = [int((score - low) / ((high - low) or 1) * (WIDTH - 1)) for score in one.decoy_scores]
    counts = [column.count(at) for at in range(WIDTH)]
    bars = [BARS[-(-n * (len(BARS) - 1) // max(counts))] for n in counts]
    bars[int((one.score - low) / ((high - low) or 1) * (WIDTH - 1))] = "●"
    return f"{''.join(bars)}  ● this key"


def _p(log10: float) -> str:
    """A p-value of any size: 0.25, 3.1e-05, 2.4e-12345."""
    if log10 > -4:
        return f"{10**log10:.3g}"
    power = math.floor(log10)
    return f"{10 ** (log10 - power):.1f}e{power}"
