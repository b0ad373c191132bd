"""reading: one TOML file to one Policy, or an error that says which key of which table is wrong and what it may be."""

from __future__ import annotations

import hashlib
import ipaddress
import math
from pathlib import Path
from typing import Any

from stillwatch.allowlist import Licensed, read_licence
from stillwatch.errors import BudgetsError, InputError, PolicyError
from stillwatch.policy.budgets import LARGEST_BURST_UNITS, MOST_CHARGES, Limit
from stillwatch.policy.model import (
    FAILURES,
    FEATURES,
    LEVELS,
    SCOPES,
    SWITCHABLE,
    Budget,
    Disclosure,
    Level,
    NetworkRule,
    Policy,
    Screening,
    Step,
    VerdictRule,
)
from stillwatch.policy.networks import UNKNOWN_COUNTRY, NetworkTable
from stillwatch.policy.showing import read_reasoning
from stillwatch.policy.tables import MAX_BYTES, Table, parse_toml
from stillwatch.records import ACTIONS, VERDICTS

FORMAT = 1
"""Version of the file's grammar; a file names it."""

_TOP = (
    *("format", "version", "mode", "on_failure", "mark_epoch", "levels", "budgets", "verdicts"),
    *("networks", "licensed", "screening", "disclosure", "reasoning"),
)
_NAME = r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,63}"
_PATTERN = r"[^*\[\]\x00-\x20]*(?:\*[^*\[\]\x00-\x20]*){0,4}"
_PATTERNS = "names or patterns with at most four *, without [ ] and spaces"
_COUNTRY = rf"[A-Z]{{2}}|{UNKNOWN_COUNTRY}"


def load_policy(path: Path) -> Policy:
    """Read and check a policy file.

    Raises:
        PolicyError: it cannot be read, or something in it makes no sense; the message names table and key.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"the policy {path} cannot be read", got=error.strerror) from error
    return parse_policy(content, file=str(path))


def parse_policy(content: bytes, *, file: str = "policy") -> Policy:
    """Check the bytes of a policy; `file` is its name in messages. Raises PolicyError as `load_policy`."""
    top = parse_toml(content, file)
    top.only(_TOP)
    if top.whole("format", FORMAT, FORMAT) is None:
        raise PolicyError(f"{file}: format is missing", expected=str(FORMAT), do=f"Begin with: format = {FORMAT}")
    version = top.text("version", pattern=_NAME, expected="a name of at most 64 letters, digits and ._:+-")
    mode = top.word("mode", ("shadow", "enforce"))
    on_failure = top.word("on_failure", FAILURES)
    epoch = top.text("mark_epoch", pattern=_NAME, expected="a name such as 2026-11", required=False)
    levels = _levels(top)
    shared = tuple(_budget(table, default=f"all-{n}") for n, table in enumerate(top.tables("budgets"), start=1))
    verdicts = _verdicts(top, marks=epoch is not None)
    table, rules, mmdb = _networks(top)
    _check_budgets(file, levels, shared, lineages=bool(verdicts))
    licensed, screening, disclosure = _licences(top), _screening(top), _disclosure(top)
    reasoning = read_reasoning(
        top.table("reasoning"), levels=LEVELS, verdicts=verdicts, pattern=_PATTERN, expected=_PATTERNS
    )
    return Policy(
        version=version or "",
        sha256=hashlib.sha256(content).hexdigest(),
        mode=mode,  # type: ignore[arg-type]
        on_failure=on_failure,  # type: ignore[arg-type]
        levels=levels,
        budgets=shared,
        verdicts=verdicts,
        networks=table,
        network_rules=rules,
        mmdb=mmdb,
        licensed=licensed,
        screening=screening,
        disclosure=disclosure,
        mark_epoch=epoch,
        reasoning=reasoning,
    )


def _levels(top: Table) -> dict[str, Level]:
    """Every level in ladder order; one that is not written has what the one below it has."""
    written = top.table("levels", required=True)
    assert written is not None
    tables = written.named_tables(LEVELS)
    if "none" not in tables:
        raise PolicyError(
            written.place("none is missing"), do="Write [levels.none]: what callers may use of whom nothing is known."
        )
    levels: dict[str, Level] = {}
    below: Level | None = None
    for name in LEVELS:
        if name in tables:
            below = _level(name, tables[name])
        assert below is not None
        levels[name] = Level(
            name, below.models, below.capabilities, below.features, below.max_output_tokens, below.budgets
        )
    return levels


def _level(name: str, table: Table) -> Level:
    level = Level(
        name=name,
        models=table.texts("models", pattern=_PATTERN, expected=_PATTERNS),
        capabilities=table.texts("capabilities", pattern=_PATTERN, expected=_PATTERNS),
        features=frozenset(table.words("features", FEATURES)),
        max_output_tokens=table.whole("max_output_tokens", 1),
        budgets=tuple(_budget(one, default=f"{name}-{n}") for n, one in enumerate(table.tables("budgets"), start=1)),
    )
    table.done()
    return level


def _budget(table: Table, *, default: str) -> Budget:
    name = table.text("name", pattern=_NAME, expected="a name of letters, digits and ._:+-", required=False) or default
    scope = table.word("per", [scope for scope in SCOPES if scope != "licence"])
    amounts = {unit: table.whole(unit, 1) for unit in ("tokens", "requests")}
    given = {unit: amount for unit, amount in amounts.items() if amount is not None}
    if len(given) != 1:
        both = " and ".join(given) or "neither"
        raise PolicyError(table.place("tokens or requests"), got=both, expected="one of the two: how much a period")
    ((unit, amount),) = given.items()
    period, burst = table.seconds("period"), table.whole("burst", 1)
    if burst is None:
        raise PolicyError(table.place("burst is missing"), expected=f"the most {unit} that may be spent at once")
    table.done()
    try:
        Limit(amount, period * 1000, burst)
    except BudgetsError as error:
        raise PolicyError(table.place(unit), got=str(error)) from None
    return Budget(name, scope, unit, amount, period, burst)  # type: ignore[arg-type]


def _check_budgets(file: str, levels: dict[str, Level], shared: tuple[Budget, ...], *, lineages: bool) -> None:
    # What no store takes at once would fail at every call. A licence and a slowed pace are charged beside budgets.
    most = MOST_CHARGES - 2
    for level in levels.values():
        if (n := len(level.budgets) + len(shared)) > most:
            raise PolicyError(
                f"{file}: too many budgets hold for the level {level.name!r}", got=str(n),
                expected=f"{most} at most, shared ones counted",
            )  # fmt: skip
    owners: dict[str, Budget] = {}
    for budget in [*(one for level in levels.values() for one in level.budgets), *shared]:
        if owners.setdefault(budget.name, budget) is not budget:
            raise PolicyError(f"{file}: two budgets are called {budget.name!r}", do="Give each its own name.")
        if budget.name == "licence":
            raise PolicyError(f"{file}: a budget is called 'licence'", do="That name is kept for licences' volumes.")
        if budget.scope == "lineage" and not lineages:
            raise PolicyError(
                f"{file}: the budget {budget.name!r} is per lineage, and no verdict is named",
                do='Write [verdicts.campaign] with an action, such as "allow", whose members share the budget.',
            )


def _step(table: Table, *, marks: bool, kind: str) -> Step:
    action = table.word("action", ACTIONS) or ""
    if action == "mark" and not marks:
        table.wrong("action", action, "mark_epoch at the top of the file" if kind == "verdict" else "another action")
    wait = table.seconds("wait", required=action == "slow", default=-1) if action in ("slow", "deny") else -1
    asked = table.word("step_up", LEVELS[1:]) if action == "step_up" else None
    off: tuple[str, ...] = ()
    if action in ("allow_limited", "slow", "mark"):
        off = table.words("features_off", SWITCHABLE, required=action == "allow_limited")
    return Step(action, None if wait < 0 else wait * 1000, asked, frozenset(off))


def _verdicts(top: Table, *, marks: bool) -> dict[str, VerdictRule]:
    written = top.table("verdicts")
    rules = {}
    for verdict, table in (written.named_tables(VERDICTS) if written else {}).items():
        step = _step(table, marks=marks, kind="verdict")
        least, lifted = table.share("min_membership", default=0.9), table.word("lifted_by", LEVELS[1:], required=False)
        rules[verdict] = VerdictRule(verdict, step, least, lifted)
        table.done()
    return rules


def _networks(top: Table) -> tuple[NetworkTable, tuple[NetworkRule, ...], str | None]:
    table = top.table("networks")
    if table is None:
        return NetworkTable(), (), None
    v4, v6 = table.whole("v4_prefix", 8, 32, default=24), table.whole("v6_prefix", 16, 128, default=48)
    mmdb = table.text("mmdb", expected="the path of an .mmdb file", required=False)
    rules: list[NetworkRule] = []
    for number, one in enumerate(table.tables("rules"), start=1):
        name = one.text("name", pattern=_NAME, expected="a name", required=False) or str(number)
        step = _step(one, marks=False, kind="network")
        cidrs = one.texts("cidrs", expected="networks such as 192.0.2.0/24", required=False)
        countries = one.texts("countries", pattern=_COUNTRY, expected='"unknown" or codes such as "XX"', required=False)
        for text in cidrs:
            _check_network(one, text)
        if not cidrs and not countries:
            raise PolicyError(one.place("matches nothing"), expected="cidrs or countries")
        if countries and mmdb is None:
            one.wrong("countries", countries, "mmdb in [networks], without which no country is known")
        if any(earlier.name == name for earlier in rules):
            one.wrong("name", name, "a name no other rule has")
        one.done()
        rules.append(NetworkRule(name, step, cidrs, countries))
    table.done()
    flat = NetworkTable(v4 or 24, v6 or 48, tuple(r.cidrs for r in rules), tuple(r.countries for r in rules))
    return flat, tuple(rules), mmdb


def _check_network(table: Table, text: str) -> None:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        table.wrong("cidrs", text, "a network such as 192.0.2.0/24", f"Python says: {error}.")
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        table.wrong("cidrs", text, "an IPv4 network: such addresses are read as IPv4")


def _licences(top: Table) -> tuple[Licensed, ...]:
    found = []
    for table in top.tables("licensed"):
        values: dict[str, Any] = table.rest()
        try:
            entry = read_licence(values, where=table.place("").rstrip())
            if entry.max_tokens is not None and entry.max_tokens > LARGEST_BURST_UNITS:
                table.wrong("max_tokens", entry.max_tokens, f"at most {LARGEST_BURST_UNITS:,}, or none")
            found.append(entry)
        except InputError as error:
            raise PolicyError(error.wrong, got=error.got, expected=error.expected, do=error.do) from None
    return tuple(found)


def _screening(top: Table) -> Screening | None:
    table = top.table("screening")
    if table is None:
        return None
    lists = table.texts("lists", expected="paths of lists, one name a line")
    similarity = table.share("similarity", default=0.8)
    if not lists or similarity < LEAST_SIMILARITY or math.isnan(similarity):
        table.wrong(
            "lists" if not lists else "similarity", lists or similarity, f"a list, and {LEAST_SIMILARITY} or more"
        )
    table.done()
    return Screening(lists, similarity)


LEAST_SIMILARITY = 0.5
"""Below this, names resemble each other by chance and nobody could read the queue."""


def _disclosure(top: Table) -> Disclosure:
    table = top.table("disclosure")
    if table is None:
        return Disclosure()
    delay = table.seconds("delay", low=0, required=False)
    batch = table.seconds("batch", low=0, required=False)
    table.done()
    return Disclosure(delay, batch)
