"""showing: the policy's `[reasoning]`: whose replies show their reasoning, in merged steps, summarised, or not at all.

    [reasoning]
    levels = { none = "withhold", email = "summarise" }
    actions = { allow_limited = "summarise", mark = "merge" }
    verdicts = { campaign = "withhold" }
    opened_by_prompt = ["deepseek-r1*"]
    [[reasoning.accounts]]
    account_id = "partner-7"
    show = "keep"

An entry that names the account, or its organisation, decides alone. Else the strictest acts of what the level, the
decision and the snapshot's verdict say. Where nothing is said, everything is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from re import Pattern, compile  # noqa: A004
from typing import Literal, get_args

from stillwatch.errors import PolicyError
from stillwatch.policy.tables import Table
from stillwatch.reasoning.filters import Filter

WAYS: tuple[Filter, ...] = get_args(Filter)
"""From showing all to showing nothing: of two, the later is the stricter."""

PASSING = ("allow", "allow_limited", "slow", "mark")
"""Actions under which there is a reply."""


@dataclass(frozen=True, slots=True)
class Shows:
    """What is done with the reasoning of one call's reply."""

    how: Filter
    rule: str
    """What said so, such as `level:none`, `account:ann`, `verdict:campaign`."""
    opens: bool
    """Replies of this model begin inside their reasoning, since the prompt opened it."""
    shadow: bool
    """It is counted and journaled, and the reply leaves as it came."""
    on_failure: Literal["deny", "allow_limited", "allow"]
    """What becomes of a reply that cannot be read."""


@dataclass(frozen=True, slots=True)
class Named:
    """An account, or all accounts of an organisation, that are shown what this entry says."""

    account_id: str | None
    org_id: str | None
    show: Filter


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The table, read and checked. Without one everything is shown."""

    levels: Mapping[str, Filter] = field(default_factory=dict)
    """Every identity level, or none where none is written."""
    actions: Mapping[str, Filter] = field(default_factory=dict)
    verdicts: Mapping[str, Filter] = field(default_factory=dict)
    accounts: tuple[Named, ...] = ()
    opened_by_prompt: tuple[str, ...] = ()
    """Patterns of models whose replies begin inside their reasoning."""
    _opens: Pattern[str] = field(init=False, repr=False, compare=False)
    _named: Mapping[str, Filter] = field(init=False, repr=False, compare=False)
    says_nothing: bool = field(init=False, repr=False, compare=False)
    """Whether every reply leaves as it came."""

    def __post_init__(self) -> None:
        patterns = "|".join(translate(pattern) for pattern in self.opened_by_prompt) or r"(?!)"
        named = {f"o:{one.org_id}": one.show for one in self.accounts if one.org_id is not None}
        named |= {f"a:{one.account_id}": one.show for one in self.accounts if one.account_id is not None}
        object.__setattr__(self, "_opens", compile(patterns))
        object.__setattr__(self, "_named", named)
        ways = {*self.levels.values(), *self.actions.values(), *self.verdicts.values(), *named.values()}
        object.__setattr__(self, "says_nothing", ways <= {"keep"})

    def opens(self, model: str | None) -> bool:
        """Whether replies of a model begin inside their reasoning."""
        return self._opens.match(model or "") is not None

    def lines(self) -> list[str]:
        """What it says beside the levels, in words, a line each."""
        ways = [
            *(("action", *one) for one in self.actions.items()),
            *(("verdict", *one) for one in self.verdicts.items()),
        ]
        said = [f"{kind} {name}: {how}" for kind, name, how in ways]
        said += [f"{one.account_id or f'organisation {one.org_id}'}: {one.show}" for one in self.accounts]
        opened = ", ".join(self.opened_by_prompt)
        return [*said, f"opened by the prompt: {opened}"] if opened else said

    def show(
        self, *, account_id: str, org_id: str | None, level: str, action: str, verdict: str | None
    ) -> tuple[Filter, str]:
        """What is shown to a caller, and the rule that says so.

        Args:
            action: what the policy decides. verdict: of the snapshot, where its rule holds for the caller, else None.

        >>> Reasoning(levels={"none": "merge"}, verdicts={"campaign": "withhold"}).show(
        ...     account_id="ann", org_id=None, level="none", action="slow", verdict="campaign")
        ('withhold', 'verdict:campaign')
        """
        for kind, name in (("account", account_id), ("organisation", org_id)):
            if name is not None and (found := self._named.get(f"{kind[0]}:{name}")) is not None:
                return found, f"{kind}:{name}"
        said = (
            (self.levels.get(level), f"level:{level}"),
            (self.actions.get(action), f"action:{action}"),
            (self.verdicts.get(verdict or ""), f"verdict:{verdict}"),
        )
        return max(
            ((how, rule) for how, rule in said if how is not None), key=lambda one: WAYS.index(one[0]),
            default=("keep", ""),
        )  # fmt: skip


def read_reasoning(
    table: Table | None, *, levels: Sequence[str], verdicts: Collection[str], pattern: str, expected: str
) -> Reasoning:
    """Check the table `[reasoning]`; None is a table that is not there.

    Args:
        levels: of identity, lowest first; one that is not written is shown what the one below it is. verdicts: that
            the policy has rules for. pattern, expected: of a model's name.

    Raises:
        PolicyError: something in it makes no sense; the message names table and key.
    """
    if table is None:
        return Reasoning()
    by_level, below = _ways(table, "levels", levels), "keep"
    ladder: dict[str, Filter] = {}
    for level in levels if by_level else ():
        below = by_level.get(level, below)
        ladder[level] = below  # type: ignore[assignment]
    actions, by_verdict = _ways(table, "actions", PASSING), _ways(table, "verdicts", None)
    for verdict in by_verdict:
        if verdict not in verdicts:
            known = ", ".join(verdicts) or "none"
            table.wrong(
                "verdicts", verdict, f"a verdict with a rule of its own, [verdicts.{verdict}]; there is {known}"
            )
    opened = table.texts("opened_by_prompt", pattern=pattern, expected=expected, required=False)
    named = tuple(_named(one) for one in table.tables("accounts"))
    table.done()
    seen: set[tuple[str | None, str | None]] = set()
    for one in named:
        if (one.account_id, one.org_id) in seen:
            table.wrong("accounts", one.account_id or one.org_id, "every account and organisation once")
        seen.add((one.account_id, one.org_id))
    return Reasoning(ladder, actions, by_verdict, named, opened)


def _ways(table: Table, key: str, names: Sequence[str] | None) -> dict[str, Filter]:
    """A table of names and filters."""
    one = table.table(key)
    if one is None:
        return {}
    keys = one.keys()
    if names is not None:
        one.only(names)
    found: dict[str, Filter] = {name: one.word(name, WAYS) for name in keys}  # type: ignore[misc]
    if not found:
        raise PolicyError(one.place("says nothing"), expected="a name and one of " + ", ".join(WAYS))
    return found


def _named(table: Table) -> Named:
    account_id = table.text("account_id", expected="an account id", required=False)
    org_id = table.text("org_id", expected="an organisation's id", required=False)
    show = table.word("show", WAYS)
    table.done()
    if (account_id is None) == (org_id is None):
        both = "both" if account_id is not None else "neither"
        raise PolicyError(table.place("account_id or org_id"), got=both, expected="one of the two")
    return Named(account_id, org_id, show)  # type: ignore[arg-type]
