"""bonds: the picture of accounts and the traits that tie them, small enough to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from stillwatch.dossier import words
from stillwatch.dossier.pictures import WIDTH
from stillwatch.dossier.svg import path, picture, point, text
from stillwatch.records import Trait

MAX_ACCOUNTS = 40
MAX_TRAITS = 20
MAX_EDGES = 400
ROW = 15

Edge = tuple[str, str, float]


def bipartite(edges: Sequence[Edge], *, traits: Sequence[Trait], n_accounts: int, max_edges: int = MAX_EDGES) -> Markup:
    """Accounts on the left, the traits they share on the right, a line where an account shows a trait.

    The layout is a function of the edges alone: traits that the provider observed first, then by the number of
    accounts they tie; accounts by the mean place of their traits. At most 40 accounts, 20 traits and `max_edges`
    lines are drawn; the last line says what is hidden.
    """
    title = "Accounts and the traits they share"
    known = {trait.trait_key: trait for trait in traits}
    drawn, left, right = _chosen(edges, known, max_edges=max_edges)
    n_traits = len({edge[1] for edge in edges} | set(known))
    if not drawn:
        says = "No account of this campaign was recorded with a trait that others share."
        note = [text(0, 16, says, kind="note", cells=90)]
        return picture(note, kind="bonds", title=title, desc=says, width=WIDTH, height=24)
    rows = max(len(left), len(right))
    places = {account: 30 + ROW * (at + 0.5) * rows / len(left) for at, account in enumerate(left)}
    hubs = {key: 30 + ROW * (at + 0.5) * rows / len(right) for at, key in enumerate(right)}
    body = [text(150, 14, "accounts", kind="note", anchor="end"), text(438, 14, "traits", kind="note")]
    body += _lines(drawn, places, hubs, known)
    body += [text(150, y + 4, account, kind="id", anchor="end", cells=22) for account, y in places.items()]
    body += [_hub(key, y, known.get(key)) for key, y in hubs.items()]
    n_links = _among(edges, left, right)
    hidden = "; ".join(
        [
            f"{words.count(len(left))} of {words.counted(max(n_accounts, len(left)), 'account')} shown",
            f"{words.count(len(right))} of {words.counted(n_traits, 'trait')}",
            f"the {words.count(len(drawn))} strongest of {words.counted(n_links, 'link')}",
        ][: 3 if len(drawn) < n_links else 2]
    )
    foot = 30 + ROW * rows + 22
    body.append(text(0, foot, hidden, kind="note", cells=150))
    return picture(body, kind="bonds", title=title, desc=hidden, width=WIDTH, height=foot + 8)


def _chosen(
    edges: Sequence[Edge], known: Mapping[str, Trait], *, max_edges: int
) -> tuple[list[Edge], list[str], list[str]]:
    """The edges to draw, strongest first, and the accounts and traits they join, in the order of their places."""
    reach: dict[str, set[str]] = {}
    for account, key, _ in edges:
        reach.setdefault(key, set()).add(account)
    right = sorted(reach, key=lambda key: (_origin(key, known) != "provider", -len(reach[key]), key))[:MAX_TRAITS]
    held: dict[str, list[int]] = {}
    for account, key, _ in edges:
        if key in right:
            held.setdefault(account, []).append(right.index(key))
    left = sorted(held, key=lambda account: (-len(set(held[account])), account))[:MAX_ACCOUNTS]
    left.sort(key=lambda account: (sum(held[account]) / len(held[account]), account))
    kept, wanted = set(left), set(right)
    inside = [edge for edge in edges if edge[0] in kept and edge[1] in wanted]
    return sorted(inside, key=lambda edge: (-edge[2], edge[0], edge[1]))[:max_edges], left, right


def _among(edges: Sequence[Edge], left: Sequence[str], right: Sequence[str]) -> int:
    kept, wanted = set(left), set(right)
    return sum(edge[0] in kept and edge[1] in wanted for edge in edges)


def _lines(
    drawn: Sequence[Edge], places: Mapping[str, float], hubs: Mapping[str, float], known: Mapping[str, Trait]
) -> list[str]:
    """One path for each origin and strength, so that hundreds of lines stay small."""
    grouped: dict[str, list[str]] = {}
    for account, key, share in drawn:
        strength = "strong" if share >= 0.5 else "some" if share >= 0.1 else "slight"
        a, b = places[account], hubs[key]
        grouped.setdefault(f"bond {_origin(key, known)} {strength}", []).append(
            f"M156 {point(a)}c110 0 164 {point(b - a)} 274 {point(b - a)}"
        )
    return [path("".join(steps), kind=kind) for kind, steps in sorted(grouped.items())]


def _origin(key: str, known: Mapping[str, Trait]) -> str:
    return "provider" if key in known and known[key].origin == "provider" else "client"


def _hub(key: str, y: float, trait: Trait | None) -> str:
    label = words.named(trait.kind, words.KINDS) if trait else "trait"
    reach = f" · {words.count(trait.n_inside)} in, {words.count(trait.n_outside)} out" if trait else ""
    return text(438, y + 4, f"{label} {words.plain(key, cells=17)}{reach}", kind="id", cells=60)
