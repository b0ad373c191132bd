"""tables: what the trials of a section add up to, as lines of Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.yardstick.figures import exact, mean_interval, paragraph, rate, short, table
from benchmarks.yardstick.trial import EDGES

Result = Mapping[str, Any]
Rows = Sequence[tuple[tuple[str, ...], Result]]

RECALL_HEAD = (
    "worlds", "planted", "named", "recall, %", "ordinary named", "of", "campaigns found", "fragments", "merges",
    "spurious",
)  # fmt: skip


def grouped(rows: Rows) -> dict[tuple[str, ...], list[Result]]:
    """Results by row of the table, in the order they came."""
    by_row: dict[tuple[str, ...], list[Result]] = defaultdict(list)
    for row, result in rows:
        by_row[row].append(result)
    return dict(by_row)


def score_cells(results: Iterable[Result]) -> list[object]:
    """The cells of `RECALL_HEAD` for the results of several worlds."""
    some = list(results)
    planted, named = (sum(sum(one[key].values()) for one in some) for key in ("planted", "named"))
    ordinary, flagged = (sum(counts[at] for one in some for counts in one["populations"].values()) for at in (0, 1))
    n_campaigns, n_found = sum(len(one["found"]) for one in some), sum(sum(one["found"].values()) for one in some)
    rest = [sum(one[key] for one in some) for key in ("fragments", "merges", "spurious")]
    return [
        len(some), planted, named, rate(named, planted), flagged, ordinary, f"{n_found} of {n_campaigns}", *rest,
    ]  # fmt: skip


def recall(rows: Rows) -> list[str]:
    """Recall by kind and tier, and ordinary accounts named beside it."""
    lines = table(("kind", "tier", *RECALL_HEAD), ([*row, *score_cells(some)] for row, some in grouped(rows).items()))
    return [
        "## 1. Campaigns found, by kind and tier of isolation",
        "",
        "Tier: what each account has of its own: 0 nothing, 1 a card, 2 an exit too, 3 a client and hours too; own: as",
        "the kind is described. Planted: accounts that sent anything. An interval over accounts is too short where a",
        "campaign is found whole or not at all: the column of campaigns found has the number of independent cases.",
        "A finding is spurious where most of its members are no single campaign's.",
        "",
        *lines,
    ]


def ordinary(rows: Rows, others: Rows) -> list[str]:
    """Ordinary accounts named, by population, without a campaign and beside one."""
    parts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for place, results in ((0, rows), (2, others)):
        for _, result in results:
            for name, (n, flagged) in result["populations"].items():
                parts[name][place] += n
                parts[name][place + 1] += flagged
    total = [sum(each[at] for each in parts.values()) for at in range(4)]
    worlds, findings = len(rows), sum(bool(one["findings"]) for _, one in rows)
    leads = sum(group["verdict"] == "lead" for _, one in rows for group in one["groups"])
    weighed = sum(len(one["groups"]) for _, one in rows)
    return [
        "## 2. Ordinary accounts named, by population",
        "",
        f"Worlds without a campaign: {worlds}; with a finding: {findings}, {rate(findings, worlds)} %. Groups weighed",
        f"in them: {weighed}; leads: {leads}.",
        "",
        *table(
            ("population", "alone: seen", "named", "%", "beside campaigns: seen", "named", "%", "above 1 in 1,000"),
            (_population_row(name, *counts) for name, counts in [*sorted(parts.items()), ("all", total)]),
        ),
        "",
        "The last column says whether the exact interval of all worlds together lies above 1 in 1,000. "
        + _overall(total),
    ]


def _overall(total: list[int]) -> str:
    said = []
    for label, (n, flagged) in (("alone", total[:2]), ("beside campaigns", total[2:])):
        low, high = exact(flagged, n)
        said.append(
            f"{label} {flagged} of {n:,}, interval {1e4 * low:.3f} to {1e4 * high:.3f} in 10,000 "
            f"({'at most' if high <= 1e-4 else 'not shown to be at most' if low <= 1e-4 else 'above'} 1 in 10,000)"
        )
    return "Overall: " + "; ".join(said) + "."


def _population_row(name: str, seen: int, named: int, seen_beside: int, named_beside: int) -> list[object]:
    low, high = exact(named + named_beside, seen + seen_beside)
    said = "yes" if low > 1e-3 else "no" if high <= 1e-3 else "too few to tell"
    return [name, seen, named, rate(named, seen), seen_beside, named_beside, rate(named_beside, seen_beside), said]


def parity(rows: Rows) -> list[str]:
    """Flag rates by language, script, time zone and card country."""
    lines = ["## 3. Languages, scripts, time zones, card countries", ""]
    lines += [
        "Ordinary accounts of all worlds of tables 1 and 2. Grouped: member of any group that was weighed, found",
        "guilty or not. Apart: values whose 95 % intervals do not overlap, of all pairs; some are expected among so",
        "many, and the look-alikes live where the simulator puts them, so the rows of consumers alone are fairer.",
    ]
    for scope, title in (("attributes", "everybody"), ("attributes_of_consumers", "consumers alone")):
        sums: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0, 0]))
        for _, result in rows:
            for kind, values in result[scope].items():
                for value, counts in values.items():
                    sums[kind][value] = [a + b for a, b in zip(sums[kind][value], counts, strict=True)]
        body = [
            [kind, value, n, *(cell for k in counts for cell in (k, rate(k, n)))]
            for kind, values in sums.items()
            for value, (n, *counts) in sorted(values.items())
        ]
        lines += ["", f"### {title}", ""]
        lines += table(("of", "value", "seen", "grouped", "%", "named", "%"), body)
        said = ", ".join(f"{kind}: named {_apart(v, 2)}, grouped {_apart(v, 1)}" for kind, v in sums.items())
        lines += ["", f"Pairs apart: {said}."]
    return lines


def _apart(values: Mapping[str, list[int]], place: int) -> str:
    spans = [exact(counts[place], counts[0]) for counts in values.values()]
    pairs = [(a, b) for at, a in enumerate(spans) for b in spans[at + 1 :]]
    return f"{sum(a[1] < b[0] or b[1] < a[0] for a, b in pairs)} of {len(pairs)}"


def reliability(rows: Rows) -> list[str]:
    """Membership against the share that are truly members."""
    lines = [
        "## 7. Membership: said and true",
        "",
        "Every account of the worlds of table 1 against every group weighed there. A true member is of the campaign",
        "that most of the group is of. Below the bar of 0.9 nobody is named.",
    ]
    for verdict, title in (("campaign", "groups found to be campaigns"), ("other", "all other groups weighed")):
        bins = np.zeros((len(EDGES) - 1, 5))
        for _, result in rows:
            if verdict in result["reliability"]:
                bins += np.array(result["reliability"][verdict])
        n, true, said, brier, cost = bins.T
        body = [
            [f"{EDGES[at]:g} to {EDGES[at + 1]:g}", int(n[at]), short(said[at] / n[at]), int(true[at]),
             f"{true[at] / n[at]:.4f}", "{:.4f} to {:.4f}".format(*exact(int(true[at]), int(n[at])))]
            for at in range(len(n))
            if n[at]
        ]  # fmt: skip
        lines += ["", f"### {title}", ""]
        lines += table(("membership", "accounts", "mean said", "members", "share", "interval"), body)
        if n.sum():
            base = true.sum() / n.sum()
            skill = 1 - brier.sum() / n.sum() / max(base * (1 - base), 1e-12)
            lines += ["", f"Brier score {brier.sum() / n.sum():.5f} (skill against the base rate {skill:.3f}); "
                      f"logarithmic score {cost.sum() / n.sum():.5f} bits an account."]  # fmt: skip
            lines += [f"Of accounts said to be members (0.9 or more): {_at_bar(n, true, said)}."]
    return lines


def _at_bar(n: Any, true: Any, said: Any) -> str:
    bar = np.array(EDGES[:-1]) >= 0.9
    total, members = int(n[bar].sum()), int(true[bar].sum())
    return f"{members} of {total} are, {rate(members, total)} %; said {short(float(said[bar].sum() / max(total, 1)))}"


VERDICTS = ("operator", "harvest", "margin", "all")
CAP_BITS = 900.0
TRIMMED = 0.05


def evalues(rows: Rows, shares: Mapping[str, str]) -> list[str]:
    """Mean e-values of groups that are innocent by the truth."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    best: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    guilty: dict[str, int] = defaultdict(int)
    for _, result in rows:
        for name, found in zip(result["innocents"], result["groups"], strict=True):
            group = found | {"all": min(found["e_log2"], found["margin"])}
            best[name][group["best"]] += 1
            guilty[name] += group["verdict"] == "campaign"
            for key in VERDICTS:
                values[name][key].append(float(np.exp2(min(group[key], CAP_BITS))))
            for signal, bits in group["signals"].items():
                values[name][signal].append(float(np.exp2(min(bits, CAP_BITS))))
    signals = sorted({key for of in values.values() for key in of} - set(VERDICTS))
    names = [name for name in shares if name in values]
    return [
        "## 8. Mean e-value of innocent groups",
        "",
        *paragraph(
            f"Groups that the truth says are innocent, put in place of those a scan finds, in {len(rows)}",
            "worlds; a number is the mean of e = 2^bits with its bootstrap interval (2,000 draws). An e-value's",
            "mean must be at most 1 where its null is true. It is false by construction where the population",
            "shares what the signal looks at; a column says what is shared. What no innocent group may exceed",
            "in the mean is the column `all`: the smallest of both questions and of the margin of the best",
            "explanation, which is what a verdict rests on. A heavy tail cannot be handled away: a mean rests",
            f"on its largest value, which is shown. The trimmed mean (largest {100 * TRIMMED:g} % left out) is no",
            "e-value's mean; it stands beside it as a guide. An interval is too short where the largest values",
            "have not been seen yet.",
        ),
        "",
        "### The verdict's numbers",
        "",
        *table(
            ("population", "groups", "called a campaign", "shares by construction", "operator", "harvest",
             "margin", "all", "best explanation"),
            (
                [name, len(values[name]["all"]), guilty[name], shares[name],
                 *(_mean_cell(values[name][key]) for key in VERDICTS),
                 ", ".join(f"{n} {hypothesis}" for hypothesis, n in sorted(best[name].items(), key=lambda x: -x[1]))]
                for name in names
            ),
        ),
        "",
        "### Signal by signal: mean, and the largest",
        "",
        *table(
            ("population", *signals),
            ([name, *(_brief_cell(values[name].get(signal, [])) for signal in signals)] for name in names),
        ),
        "",
        "### Every cell whose mean is above 1",
        "",
        *table(
            ("population", "of", "n", "mean", "interval", "trimmed", "median", "largest"),
            (
                [name, key, len(found), *_long_cells(found)]
                for name in names
                for key in (*VERDICTS, *signals)
                if (found := values[name].get(key)) and np.mean(found) > 1
            ),
        ),
    ]  # fmt: skip


def _trimmed(found: Sequence[float]) -> float:
    ordered = np.sort(found)
    return float(ordered[: max(1, int(len(ordered) * (1 - TRIMMED)))].mean())


def _mean_cell(found: Sequence[float]) -> str:
    mean, low, high = mean_interval(found)
    return f"{short(mean)} [{short(low)}, {short(high)}], max {short(max(found))}"


def _brief_cell(found: Sequence[float]) -> str:
    return f"{short(float(np.mean(found)))} ({short(max(found))})" if found else "-"


def _long_cells(found: Sequence[float]) -> list[str]:
    mean, low, high = mean_interval(found)
    rest = (short(_trimmed(found)), short(float(np.median(found))), short(max(found)))
    return [short(mean), f"{short(low)} to {short(high)}", *rest]


def plain(title: str, head: Sequence[str], said: Sequence[str]) -> Callable[[Rows], list[str]]:
    """A table of recall with rows of its own."""

    def lines(rows: Rows) -> list[str]:
        body = ([*row, *score_cells(some)] for row, some in grouped(rows).items())
        return [f"## {title}", "", *said, "", *table((*head, *RECALL_HEAD), body)]

    return lines


def variants(key: str, title: str, first: str, said: Sequence[str]) -> Callable[[Rows], list[str]]:
    """A table of scores of the same groups judged in several ways."""

    def lines(rows: Rows) -> list[str]:
        by_way: dict[tuple[str, str], list[Result]] = defaultdict(list)
        for (name, *_), result in rows:
            for way, score in {"as shipped": result, **result.get(key, {})}.items():
                if not way.endswith(" x 1"):
                    by_way[way, name].append(score)
        ways = list(dict.fromkeys(way for way, _ in by_way))
        names = list(dict.fromkeys(row[0] for row, _ in rows))
        body = ([way, name, *score_cells(by_way[way, name])] for way in ways for name in names if (way, name) in by_way)
        return [f"## {title}", "", *said, "", *table((first, "worlds of", *RECALL_HEAD), body)]

    return lines


def calibration(rows: Rows) -> list[str]:
    """The largest statistic of worlds in which nobody acts as one with anybody."""
    body = []
    for (kind, *_), some in grouped(rows).items():
        most = [
            max((min(g["operator"], g["harvest"], g["margin"] + 3.0) for g in result["groups"]), default=0.0)
            for result in some
        ]
        n = sum(result["findings"] > 0 for result in some)
        groups = sum(len(result["groups"]) for result in some)
        body.append([kind, str(len(some)), str(groups), rate(n, len(some)), *(f"{q:.1f}" for q in _quartiles(most))])
    said = (
        "The worlds of table 5 with the facets of accounts dealt out anew within cohorts: each account keeps what it",
        "asks for; payment, telephone, e-mail, sign-up, and networks with clients are shuffled, each on its own.",
        "Templates stay shared, so groups still form, and no two facets agree but by chance. The statistic of a world",
        "is the largest over its groups of the smallest of operator bits, harvest bits and margin + 3: 10 is the bar.",
    )
    head = ("worlds of", "worlds", "groups weighed", "worlds with a finding", "median", "90 %", "largest")
    return ["## 11. The whole pipeline where nobody acts as one", "", *said, "", *table(head, body)]


def _quartiles(values: Sequence[float]) -> list[float]:
    return [float(each) for each in np.quantile(values, [0.5, 0.9, 1.0])]


def peers(rows: Rows) -> list[str]:
    """What each peer names, kind by kind."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for (kind, *_), result in rows:
        ordinary_seen = sum(counts[0] for counts in result["populations"].values())
        for name, (planted, caught, named) in result["peers"].items():
            each = (planted, caught, named, ordinary_seen)
            sums[kind, name] = [a + b for a, b in zip(sums[kind, name], each, strict=True)]
    kinds = list(dict.fromkeys(row[0] for row, _ in rows))
    names = sorted({name for _, name in sums}, key=lambda name: (name != "stillwatch", name))
    return [
        "## 9. Peers on the same accounts",
        "",
        *paragraph(
            "FRAUDAR and D-Cube see the traits that the scan sees (cards, networks, system prompts, openings",
            "and endings of prompts), which is more than their papers give them; neither has a threshold, so",
            "the first block and the first three are shown. D-Cube's tuples are account x template x card or",
            "network, its density geometric. IsolationForest sees volume, token counts and hours. Precision is",
            "over the named accounts of all worlds together.",
        ),
        "",
        *table(
            ("kind", "method", "planted", "named of them", "recall, %", "named", "precision, %", "ordinary named, %"),
            (
                [kind, name, planted, caught, rate(caught, planted), named, rate(caught, named),
                 rate(named - caught, others)]
                for kind in kinds
                for name in names
                for planted, caught, named, others in [sums[kind, name]]
            ),
        ),
    ]  # fmt: skip
