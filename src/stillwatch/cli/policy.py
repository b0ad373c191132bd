"""policy: `stillwatch policy`: check, try, compile and screen by an operator's policy."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillwatch.errors import InputError, SettingsError
from stillwatch.redact import plain_text

if TYPE_CHECKING:
    from stillwatch.journal import Journal
    from stillwatch.keys import RootKey
    from stillwatch.policy.model import Budget, Policy
    from stillwatch.policy.simulating import Known, Simulation

HELP = "Who may query what, how often: check a policy, try it on logs, compile findings for the gate."

File = Annotated[Path, typer.Argument(help="The policy file.")]
KeyFile = Annotated[Path | None, typer.Option(help="Root key file instead of the one in STILLWATCH_HOME.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]

N_ROWS = 12


def check(
    file: File,
    account: Annotated[str | None, typer.Option(help="Also say what reasoning this account is shown.")] = None,
    org: Annotated[str | None, typer.Option(help="Organisation of the account.")] = None,
    level: Annotated[str, typer.Option(help="Identity level of the account.")] = "none",
    verdict: Annotated[str | None, typer.Option(help="Verdict of the snapshot on the account.")] = None,
    json_: AsJson = False,
) -> None:
    """Check a policy, and show what each identity level may do.

    \b
    Examples:
      stillwatch policy check gate.toml
      stillwatch policy check gate.toml --account ann --level email --verdict campaign
      stillwatch policy check gate.toml --json
    """
    from stillwatch.policy.named import read_named_files
    from stillwatch.policy.reading import load_policy

    policy = load_policy(file)
    said = _described(policy)
    said["files"] = [f"{one.field}: {one.path}, {one.holds}" for one in read_named_files(policy, file)]
    if account is not None:
        said["account"] = _shown(policy, account, org, level, verdict)
    if json_:
        typer.echo(json.dumps(said, indent=2, sort_keys=True))
        return
    typer.echo(f"{plain_text(file)} is a policy: version {policy.version}, {policy.mode} mode.")
    typer.echo(f"On failure: {policy.on_failure}. SHA-256 {policy.sha256[:16]}.")
    for name, opened in said["levels"].items():
        most = f", at most {opened['max_output_tokens']:,} tokens of output" if opened["max_output_tokens"] else ""
        typer.echo(f"\n{name}")
        typer.echo(f"  models        {plain_text(', '.join(opened['models']) or 'none')}{most}")
        typer.echo(f"  capabilities  {plain_text(', '.join(opened['capabilities']) or 'none')}")
        typer.echo(f"  features      {', '.join(opened['features']) or 'none'}")
        typer.echo(f"  reasoning     {opened['reasoning']}")
        for budget in opened["budgets"]:
            typer.echo(f"  budget        {budget}")
        if not opened["budgets"]:
            typer.echo("  budget        none of its own")
    for title in ("shared budgets", "verdicts", "networks", "licensed", "reasoning", "files"):
        typer.echo(f"\n{title}")
        for line in said[title.replace(" ", "_")] or ["none"]:
            typer.echo(f"  {plain_text(line)}")
    if account is not None:
        typer.echo(f"\naccount {plain_text(account)}")
        for action, shown in said["account"]["reasoning"].items():
            typer.echo(
                f"  {action:<14}{shown['show']}" + (f", by {plain_text(shown['rule'])}" if shown["rule"] else "")
            )


def _shown(policy: Policy, account: str, org: str | None, level: str, verdict: str | None) -> dict[str, Any]:
    """What an account is shown of reasoning, by what the gate decides on its call."""
    from stillwatch.policy.model import LEVELS
    from stillwatch.policy.showing import PASSING

    for option, got, known in (("--level", level, LEVELS), ("--verdict", verdict, tuple(policy.verdicts))):
        if got is not None and got not in known:
            do = "" if known else "The policy has no rule for any verdict."
            raise SettingsError(f"{option} is unknown", got=repr(got), expected=", ".join(known) or None, do=do or None)
    rule = policy.verdicts.get(verdict or "")
    holds = rule is not None and (rule.lifted_by is None or LEVELS.index(level) < LEVELS.index(rule.lifted_by))
    who: dict[str, Any] = {"account_id": account, "org_id": org, "level": level}
    shown = {}
    for action in PASSING:
        how, by = policy.reasoning.show(**who, action=action, verdict=verdict if holds else None)
        shown[action] = {"show": how, "rule": by}
    return {**who, "verdict": verdict, "reasoning": shown}


def compile_(
    findings: Annotated[Path, typer.Argument(help="A findings folder, as scan wrote it.")],
    policy: Annotated[Path | None, typer.Option(help="Leave out whom none of its rules can touch.")] = None,
    out: Annotated[Path, typer.Option(help="The snapshot to write.")] = Path("gate.snapshot"),
    days: Annotated[int, typer.Option(min=1, max=366, help="Days after which it says nothing any more.")] = 30,
    lineages: Annotated[
        Path | None, typer.Option(help="JSON: campaign id to lineage id, instead of what the scan recorded.")
    ] = None,
    key_file: KeyFile = None,
    json_: AsJson = False,
) -> None:
    """Compile findings into the signed snapshot that the gate reads.

    \b
    Examples:
      stillwatch policy compile findings --policy gate.toml
      stillwatch policy compile findings --out gate.snapshot --days 7
    """
    from stillwatch.dossier.words import counted
    from stillwatch.policy.appeals import overturned_accounts
    from stillwatch.policy.compiling import compile_snapshot
    from stillwatch.policy.reading import load_policy
    from stillwatch.policy.sealed import write_snapshot
    from stillwatch.watermark.keys import KeyRing

    root, now = _key(key_file), datetime.now(UTC)
    ends = now + timedelta(days=days)
    journal = _journal(root)
    overturned = overturned_accounts(journal)
    recorded, dismissed = _remembered(findings, root)
    snapshot = compile_snapshot(
        findings, policy=load_policy(policy) if policy else None, root=root, ring=KeyRing(root, journal=journal),
        now=now, kept_for=timedelta(days=days), lineages=_lineages(lineages) or recorded, overturned=overturned,
        dismissed=dismissed,
    )  # fmt: skip
    write_snapshot(snapshot, out, root)
    said = {
        "out": str(out),
        "n_accounts": len(snapshot.accounts),
        "n_lineages": len({one.lineage_id for one in snapshot.lineages}),
        "n_dismissed": len(dismissed),
        "n_overturned": len(overturned),
        "key_id": root.key_id("gate"),
        "policy_version": snapshot.policy_version,
        "expires": ends.isoformat(),
    }
    if json_:
        typer.echo(json.dumps(said, indent=2, sort_keys=True))
        return
    typer.echo(
        f"{plain_text(out)}: {len(snapshot.accounts):,} accounts in {said['n_lineages']:,} lineages, "
        f"until {ends:%Y-%m-%d}. Left out: {counted(len(dismissed), 'dismissed campaign')}, "
        f"{counted(len(overturned), 'overturned account')}."
    )


def simulate(
    logs: Annotated[list[str], typer.Argument(help="Files, folders or patterns, as scan reads them.")],
    policy: Annotated[Path, typer.Option(help="The policy to try.")],
    snapshot: Annotated[Path | None, typer.Option(help="A compiled snapshot; without one nobody is named.")] = None,
    accounts: Annotated[str | None, typer.Option(help="Accounts file: identity level, organisation, payment.")] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="theirs=ours: name a column yourself; repeatable.")
    ] = None,
    key_file: KeyFile = None,
    json_: AsJson = False,
) -> None:
    """Replay logs through a policy: who would be hit, before it is switched on.

    \b
    Examples:
      stillwatch policy simulate logs --policy gate.toml --accounts accounts.parquet
      stillwatch policy simulate logs --policy gate.toml --snapshot gate.snapshot --json
    """
    from stillwatch.cli.scan import mapping_option, progress
    from stillwatch.ingest.source import open_logs
    from stillwatch.policy.named import open_countries
    from stillwatch.policy.reading import load_policy
    from stillwatch.policy.sealed import load_snapshot
    from stillwatch.policy.simulating import COLUMNS, in_order, simulate_policy
    from stillwatch.policy.snapshot import empty_snapshot

    now, rules, mapping = datetime.now(UTC), load_policy(policy), mapping_option(map_ or [])
    standing = load_snapshot(snapshot, _key(key_file), now) if snapshot else empty_snapshot()
    known = _known(accounts, mapping)
    countries = open_countries(policy.parent / rules.mmdb, policy) if rules.mmdb else None
    source = open_logs(logs, mapping=mapping, now=now, has_accounts=accounts is not None)
    with progress() as on_progress:
        calls = in_order(
            source.batches(columns=COLUMNS, on_progress=lambda done, n: on_progress("Reading calls", done, n))
        )
        found = simulate_policy(
            calls, rules, standing, accounts=known, country_of=countries.of if countries else None,
            on_progress=lambda done, n: on_progress("Replaying calls", done, n),
        )  # fmt: skip
    if json_:
        typer.echo(json.dumps(found.to_dict() | {"rejects": source.rejects()}, indent=2, sort_keys=True))
    else:
        _show(found)


def screen(
    organisations: Annotated[Path, typer.Argument(help="CSV with the columns org_id and name.")],
    policy: Annotated[Path, typer.Option(help="The policy that names the lists.")],
    json_: AsJson = False,
) -> None:
    """Queue organisations whose names resemble a listed one, for a person; it denies nobody.

    \b
    Examples:
      stillwatch policy screen organisations.csv --policy gate.toml
    """
    from stillwatch.policy.named import add_list
    from stillwatch.policy.reading import load_policy
    from stillwatch.policy.screening import Listed
    from stillwatch.policy.screening import screen as screen_names

    rules = load_policy(policy).screening
    if rules is None:
        raise SettingsError(f"{policy} screens nobody", do="Write [screening] with lists.")
    listed = Listed()
    for name in rules.lists:
        add_list(listed, name, policy)
    found = screen_names(
        _organisations(organisations), listed, _journal(_key(None)), at_least=rules.similarity, now=datetime.now(UTC)
    )
    if json_:
        rows = [{name: getattr(one, name) for name in ("org_id", "listed", "source", "similarity")} for one in found]
        typer.echo(json.dumps({"queued": rows}, indent=2, sort_keys=True))
        return
    typer.echo(f"{len(found):,} likenesses queued for a person.")
    for one in found[:N_ROWS]:
        typer.echo(f"  {plain_text(one.org_id)} resembles {plain_text(one.listed)} ({one.similarity:.2f})")


def review(
    org: Annotated[str | None, typer.Argument(help="Organisation to answer for; none to list what waits.")] = None,
    outcome: Annotated[str | None, typer.Argument(help="cleared or confirmed.")] = None,
    why: Annotated[str, typer.Option(help="What a person found.")] = "",
    json_: AsJson = False,
) -> None:
    """List what screening queued, or write down what a person found.

    \b
    Examples:
      stillwatch policy review
      stillwatch policy review org_17 cleared --why "Another company of that name."
    """
    from stillwatch.policy.screening import queue
    from stillwatch.policy.screening import review as write_review

    if (org is None) != (outcome is None):
        raise SettingsError("a review names both", expected="an organisation, and cleared or confirmed")
    if org is not None and outcome is not None:
        n = write_review(_journal(_key(None)), org, outcome, why=why, now=datetime.now(UTC))
        typer.echo(json.dumps({"answered": n}) if json_ else f"{n:,} answered.")
        return
    waiting = queue(_journal(_key(None)))
    if json_:
        typer.echo(json.dumps({"waiting": waiting}, indent=2, sort_keys=True))
        return
    typer.echo(f"{len(waiting):,} wait for a person.")
    for one in waiting:
        typer.echo(f"  {plain_text(one['org_id'])} resembles {plain_text(one['listed'])} ({one['similarity']:.2f})")


VERBS: tuple[Callable[..., None], ...] = (check, compile_, simulate, screen, review)


def _key(key_file: Path | None) -> RootKey:
    from stillwatch.home import Home

    return Home.of().root_key(key_file)


def _journal(root: RootKey) -> Journal:
    from stillwatch.home import Home
    from stillwatch.policy.sealed import gate_journal

    return gate_journal(Home.of().folder, root)


def _budget(budget: Budget) -> str:
    units = "" if budget.amount == 1 else "s"
    unit = budget.unit.removesuffix("s") + units
    return f"{budget.amount:,} {unit} per {budget.scope} in {budget.period_s:,} s, {budget.burst:,} at once"


def _described(policy: Policy) -> dict[str, Any]:
    """What a policy says, in plain values."""
    levels = {
        level.name: {
            "models": list(level.models),
            "capabilities": list(level.capabilities),
            "features": sorted(level.features),
            "max_output_tokens": level.max_output_tokens,
            "budgets": [_budget(one) for one in level.budgets],
            "reasoning": policy.reasoning.levels.get(level.name, "keep"),
        }
        for level in policy.levels.values()
    }
    return {
        "version": policy.version,
        "sha256": policy.sha256,
        "mode": policy.mode,
        "on_failure": policy.on_failure,
        "levels": levels,
        "shared_budgets": [f"{one.name}: {_budget(one)}" for one in policy.budgets],
        "verdicts": [
            f"{one.verdict}: {one.step.action}, from membership {one.min_membership:g}"
            for one in policy.verdicts.values()
        ],
        "networks": [
            f"{one.name}: {one.step.action}, {len(one.cidrs):,} networks, {len(one.countries):,} countries"
            for one in policy.network_rules
        ],
        "licensed": [
            f"{one.org_id or one.account_id}, until {one.until or 'further notice'}" for one in policy.licensed
        ],
        "reasoning": policy.reasoning.lines(),
    }


def _remembered(findings: Path, root: RootKey) -> tuple[dict[str, str], set[str]]:
    """The lineages of a folder's campaigns, and those that an analyst dismissed."""
    from stillwatch.dossier.lineage import is_dismissed, of_folder
    from stillwatch.home import Home
    from stillwatch.lineages import REGISTRY, Lineages

    known = of_folder(findings, Lineages(Home.of().folder / REGISTRY, key=root))
    recorded = {campaign: one.lineage_id for campaign, one in known.items()}
    return recorded, {campaign for campaign, one in known.items() if is_dismissed(one)}


def _lineages(path: Path | None) -> dict[str, str] | None:
    if path is None:
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read", got=type(error).__name__, expected="JSON") from error
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise InputError(f"{path} is no map of lineages", expected="an object: campaign id to lineage id")
    return found


def _known(accounts: str | None, mapping: dict[str, str]) -> dict[str, Known]:
    from stillwatch.ingest.accounts import read_accounts
    from stillwatch.policy.simulating import known_of

    return known_of(read_accounts(accounts, mapping=mapping)[0]) if accounts is not None else {}


def _organisations(path: Path) -> dict[str, str]:
    try:
        rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read", got=str(error)[:200], expected="CSV with org_id and name") from error
    except csv.Error as error:
        raise InputError(f"{path} is not CSV", got=str(error)) from error
    if rows and not {"org_id", "name"} <= set(rows[0]):
        raise InputError(f"{path} lacks a column", got=", ".join(map(str, rows[0]))[:200], expected="org_id and name")
    return {row["org_id"]: row["name"] or "" for row in rows if row["org_id"]}


def _show(found: Simulation) -> None:
    """What a policy would have done, for a person."""
    said = found.to_dict()
    typer.echo(f"{found.n_calls:,} calls replayed under policy {found.policy_version}, as though it were enforced.")
    typer.echo(f"\n{'action':<15}{'rule':<28}{'calls':>12}{'accounts':>12}")
    for row in said["rules"]:
        rule = plain_text(row["rule"] or "-")
        typer.echo(f"{row['action']:<15}{rule:<28}{row['n_calls']:>12,}{row['n_accounts']:>12,}")
    typer.echo(f"\n{'accounts':<15}{'all':>12}{'touched':>12}{'refused':>12}{'calls refused':>18}")
    for name, hits in found.groups.items():
        typer.echo(
            f"{name:<15}{hits.n_accounts:>12,}{hits.n_accounts_hit:>12,}{hits.n_accounts_refused:>12,}"
            f"{hits.n_calls_refused:>18,}"
        )
    good = [found.groups[name] for name in ("licensed", "verified", "unnamed")]
    hit, of = sum(one.n_accounts_refused for one in good), sum(one.n_accounts for one in good)
    typer.echo(f"\nKnown good (licensed, verified or in no finding): {hit:,} of {of:,} would be refused something.")
    for row in said["worst"][:N_ROWS]:
        typer.echo(
            f"  {plain_text(row['account_id'])} ({row['group']}): {row['n_calls_refused']:,} of {row['n_calls']:,} "
            f"calls, {plain_text(row['rule'])}"
        )
