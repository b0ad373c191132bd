"""detection: what a scan finds and whom it names wrongly, in worlds with known truth, and how it compares.

    python -m benchmarks.detection [--quick] [--only recall ...] [--write benchmarks/detection.md]

Every world, scan and count is kept by the hash of the world, its seed and the source, so a run that was stopped goes
on where it was, and a change of the source runs everything again. `--only` runs some sections; their tables alone are
printed, and `--write` replaces those tables in the page and leaves the others, each with the source it was made with.
"""

from __future__ import annotations

import argparse
import platform
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.yardstick import sections, tables
from benchmarks.yardstick.casting import WEIGHED_AS_GROUPS
from benchmarks.yardstick.innocents import ANYBODY
from benchmarks.yardstick.runs import Kept, play_all, source_hash
from benchmarks.yardstick.sections import Labelled
from stillwatch.sim.scenarios import ordinary

Play = Callable[[str, Sequence[Labelled]], tables.Rows]
Maker = Callable[[Play, bool, bool], list[str]]


def _recall(play: Play, quick: bool, large: bool) -> list[str]:
    return tables.recall(play("recall", sections.recall(quick)))


def _ordinary(play: Play, quick: bool, large: bool) -> list[str]:
    return tables.ordinary(play("ordinary", sections.ordinary(quick)), play("recall", sections.recall(quick)))


def _parity(play: Play, quick: bool, large: bool) -> list[str]:
    return tables.parity([*play("ordinary", sections.ordinary(quick)), *play("recall", sections.recall(quick))])


def _channels(play: Play, quick: bool, large: bool) -> list[str]:
    said = ("The same worlds with a channel taken out of the logs. Beside `empty` nothing may be found.",)
    make = tables.plain("4. Without a channel", ("without", "kind"), said)
    return make(play("channels", sections.channels(quick)))


def _ablations(play: Play, quick: bool, large: bool) -> list[str]:
    said = (
        "The same groups weighed without one signal; what an innocent explanation leaves open it weighs itself, so a",
        "signal that only it uses is not taken away here.",
    )
    make = tables.variants("ablations", "5. Without a signal", "without", said)
    return make(play("ablations", sections.ablations(quick)))


def _sizes(play: Play, quick: bool, large: bool) -> list[str]:
    said = ("A cloud campaign; the crowd is scaled to the prevalence, and its networks with it.",)
    sizes = tables.plain("6a. Size and prevalence", ("accounts", "of all"), said)
    covers = tables.plain("6b. Share of traffic that is customers'", ("kind", "cover"), ("A hundred accounts.",))
    return [
        *sizes(play("sizes", sections.sizes(quick, large=large))),
        "",
        *covers(play("covers", sections.covers(quick))),
    ]


def _reliability(play: Play, quick: bool, large: bool) -> list[str]:
    return tables.reliability(play("recall", sections.recall(quick)))


def _evalues(play: Play, quick: bool, large: bool) -> list[str]:
    return tables.evalues(play("evalues", sections.evalues(quick)), {name: _shares(name) for name in WEIGHED_AS_GROUPS})


def _peers(play: Play, quick: bool, large: bool) -> list[str]:
    return tables.peers(play("peers", sections.peers(quick)))


def _bars(play: Play, quick: bool, large: bool) -> list[str]:
    said = (
        "Each bar at half and at double, the others as shipped; the worlds of tables 1 (all tiers) and 2. The bits of",
        "the groups are those of the shipped bars, so what is set aside by the first peeling does not change.",
    )
    make = tables.variants("bars", "10. The four bars", "bar", said)
    rows = [*play("recall", sections.recall(quick)), *play("ordinary", sections.ordinary(quick))]
    return make(rows)


def _calibration(play: Play, quick: bool, large: bool) -> list[str]:
    return tables.calibration(play("calibration", sections.calibration(quick)))


def _shares(name: str) -> str:
    """What the accounts of a population have in common by construction, in words."""
    if name == ANYBODY:
        return "nothing"
    population = ordinary(name)
    frames = ("system", "head", "tail")
    texts = [place for place in frames if (frame := getattr(population, place)) and frame.scope != "account"]
    shared = [*sorted(population.shares), *texts, *(f"set {symbol}" for symbol in population.public)]
    few = [pool for pool in population.exits if pool in ("carrier", "campus", "officevpn", "hall", "lecture", "relay")]
    return ", ".join([*shared, *(f"{pool} networks" for pool in few)]) or "nothing"


SECTIONS: dict[str, Maker] = {
    "recall": _recall, "ordinary": _ordinary, "parity": _parity, "channels": _channels, "ablations": _ablations,
    "sizes": _sizes, "reliability": _reliability, "evalues": _evalues, "peers": _peers, "bars": _bars,
    "calibration": _calibration,
}  # fmt: skip


def head() -> list[str]:
    """What the page is and how it was made."""
    return [
        "# Detection: what is found, who is named wrongly, and by how much",
        "",
        "Command: `python -m benchmarks.detection --write benchmarks/detection.md`; a table called quick was made with",
        "`--quick`, and one that is not whole says how many of its worlds it rests on (`--partial`).",
        f"Machine: {platform.machine()}, Python {platform.python_version()}. No figure here is a time.",
        "Every interval of a rate is exact (Clopper and Pearson 1934), 95 %. Worlds are the simulator's, made by the",
        "people who wrote the detector: read recall as what these disguises cost, not as what a stranger's would.",
        "Each table says which source it was measured with: the first digits of the hash of everything that moves it.",
    ]


def merged(page: str, made: dict[str, list[str]], quick: bool) -> str:
    """The page with some sections made anew."""
    old = dict(re.findall(r"<!-- section: (\w+) -->\n(.*?)\n<!-- end -->", page, re.DOTALL))
    stamp = f"Source `{source_hash()[:12]}`" + (", quick." if quick else ".")
    new = {name: "\n".join([*lines, "", stamp]) for name, lines in made.items()}
    blocks = [
        f"<!-- section: {name} -->\n{text}\n<!-- end -->" for name in SECTIONS if (text := new.get(name, old.get(name)))
    ]
    return "\n\n".join(["\n".join(head()), *blocks]) + "\n"


def main() -> None:
    """Measure and print; `--write` also writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer seeds and worlds: some minutes")
    parser.add_argument("--only", nargs="+", choices=[*SECTIONS], metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--large", action="store_true", help="a campaign of 25,000 accounts as well")
    parser.add_argument("--partial", action="store_true", help="run nothing: tables of what is kept, saying what lacks")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "stillwatch-yardstick")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    kept = Kept(options.kept)

    def play(label: str, wanted: Sequence[Labelled]) -> tables.Rows:
        trials = [one.trial for one in wanted]
        run = not options.partial
        results = play_all(trials, kept=kept, processes=options.processes, label=label, run=run)
        rows = [(one.row, result) for one, result in zip(wanted, results, strict=True) if result is not None]
        if len(rows) < len(wanted):
            missing.append(f"{label}: {len(rows)} of {len(wanted)} worlds")
        return rows

    made: dict[str, list[str]] = {}
    missing: list[str] = []
    for name in options.only or SECTIONS:
        missing.clear()
        made[name] = SECTIONS[name](play, options.quick, options.large)
        made[name] += ["", f"Not whole: {', '.join(missing)}."] if missing else []
        print("\n".join(made[name]), flush=True)
        print()
        if options.write:
            page = options.write.read_text("utf-8") if options.write.is_file() else ""
            options.write.write_text(merged(page, made, options.quick), "utf-8")


if __name__ == "__main__":
    main()
