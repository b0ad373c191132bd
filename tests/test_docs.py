from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import typer.main

from docs.refresh import counts, run_demo, trimmed
from stillwatch import records
from stillwatch.allowlist import Licensed
from stillwatch.cli.main import app
from stillwatch.detect.traits import KINDS
from stillwatch.dossier.folder import REPORT, RUN
from stillwatch.evidence.innocent import HYPOTHESES
from stillwatch.ingest import names
from stillwatch.ingest.channels import CHANNELS, N_NAMED, N_PLANTED
from stillwatch.ingest.importer import importers
from stillwatch.settings import Bars, Settings
from stillwatch.sim.scenarios import demo_scenario
from stillwatch.sim.world import write_world
from tests import conversation
from tests.contracts.seams import signals

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCE = ROOT / "src" / "stillwatch"
QUICK = ("stillwatch import ", "stillwatch doctor ")
MAX_PICTURE_BYTES = 300_000


@cache
def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def table(page: str, mark: str) -> list[list[str]]:
    """The rows of the table below `<!-- mark -->`, or below a header line that starts with it, without back quotes."""
    after = text(page).partition(f"<!-- {mark} -->\n")[2] or "| " + text(page).partition(f"\n| {mark}")[2]
    lines = after.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every line of every `sh` block, once."""
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.strip()))


# --- what the pages say against what the code says --------------------------------------------------------


def kind_name(kind: pa.DataType) -> str:
    """A column's type in the words of the pages."""
    plain = {pa.string(): "text", records.TIMESTAMP: "time", pa.uint64(): "hash", pa.bool_(): "yes or no"}
    if kind in plain:
        return plain[kind]
    if kind == pa.list_(records.MESSAGE):
        return "list of role and content"
    if pa.types.is_map(kind):
        return "map of text to number"
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"list of {kind_name(kind.value_type)}"
    return "integer" if pa.types.is_integer(kind) else "number"


SCHEMAS = {
    "EXCHANGES": "logs",
    "ACCOUNTS": "logs",
    "FACTS": "exchange",
    "PROFILES": "profile",
    "TRAITS": "trait",
    "CAMPAIGNS": "campaign",
    "LEADS": "campaign",
    "MEMBERS": "campaign",
    "MEMBER_TRAITS": "campaign",
    "EXPLANATIONS": "campaign",
    "EVIDENCE": "evidence",
    "EVIDENCE_ROWS": "evidence",
    "DECISIONS": "decision",
    "DOSSIERS": "dossier",
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_column_tables_are_the_schemas(schema: str) -> None:
    """Each noun's page lists the columns of its schema, in order, with their types, and says what each holds."""
    listed = table(f"docs/{SCHEMAS[schema]}.md", f"schema: {schema}")
    columns = [(field.name, kind_name(field.type)) for field in getattr(records, schema)]
    if schema == "LEADS":
        columns = columns[len(records.CAMPAIGNS) :]
    assert [(name, kind) for name, kind, _ in listed] == columns
    assert all(says for _, _, says in listed)


def test_every_schema_has_a_page() -> None:
    """No schema of records.py is left out."""
    assert set(SCHEMAS) == {name for name, value in vars(records).items() if isinstance(value, pa.Schema)}


def test_the_short_table_names_real_columns() -> None:
    """The README's table of columns names canonical columns, the required ones among them."""
    named = {name for row in table("README.md", "column | what it is") for name in re.findall(r"\w+_\w+|ts|ip", row[0])}
    assert set(records.REQUIRED_EXCHANGE_COLUMNS) <= named
    assert named <= {*records.EXCHANGES.names, *records.ACCOUNTS.names}


@pytest.mark.parametrize("which", ["EXCHANGE_ALIASES", "ACCOUNT_ALIASES"])
def test_guessed_names_are_those_of_the_code(which: str) -> None:
    """The tables of guessed names hold every guess, in its order."""
    listed = {ours: tuple(tiers.split("; ")) for ours, tiers in table("docs/logs.md", f"aliases: {which}")}
    assert listed == dict(getattr(names, which))


def test_rejects_and_notes_are_those_of_the_code() -> None:
    """Every reason under which a row is rejected or noted is listed, and no other."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted((SOURCE / "ingest").rglob("*.py")))
    counted = re.findall(
        r'claim\("(\w+)"|rejects\["(\w+)"\]|rejects=\{"(\w+)"|Counter\((\w+)=|Counter\(\{"(\w+)"|None, "(\w+)"', code
    )
    reasons = {name for found in counted for name in found if name} - {"outside"}
    reasons |= set(re.findall(r'"(line_\w+)"', code))
    reasons |= {f"COLUMN{ending}" for ending in re.findall(r'\{(?:field\.)?name\}(_\w+)"', code)}
    listed = {row[0] for mark in ("rejects", "notes") for row in table("docs/logs.md", mark)}
    assert reasons == listed


def test_formats_are_those_of_the_code() -> None:
    """The table of formats names every ending that is read."""
    from stillwatch.ingest.discover import FORMATS, PACKINGS

    listed = {ending for row in table("docs/logs.md", "format | names") for ending in re.findall(r"\.\w+", row[1])}
    assert listed == {*FORMATS, *PACKINGS}


def test_importers_are_those_of_the_code() -> None:
    """Every importer of ours is listed with what it reads."""
    assert table("docs/import.md", "importers") == [[found.name, found.title] for found in importers().values()]


def test_the_worth_of_channels_is_the_benchmarks() -> None:
    """What the doctor says a channel is worth is what the benchmark's table says."""
    measured = {row[0]: [int(cell) for cell in row[1:]] for row in table("benchmarks/channels.md", "without |")}
    assert measured.pop("nothing")[:2] == [N_PLANTED, N_NAMED]
    assert {name: row[1] for name, row in measured.items()} == {
        channel.name: channel.n_named for channel in CHANNELS if channel.n_named is not None
    }
    assert f"{N_NAMED} of the {N_PLANTED} planted accounts" in text("docs/doctor.md")


def verbs() -> dict[str, Any]:
    found: dict[str, Any] = vars(typer.main.get_command(app))["commands"]
    return found


VERBS_WITH_TABLES = (
    *("scan", "explain", "review", "import", "doctor", "bench", "receive", "serve", "compare", "demo", "simulate"),
    "appeal",
)


@pytest.mark.parametrize("verb", VERBS_WITH_TABLES)
def test_option_tables_are_the_options(verb: str) -> None:
    """Each verb's page lists its options with their defaults, in the order of --help."""
    options = [
        (found.opts[0], "" if found.default in (None, False, ()) or found.multiple else str(found.default))
        for found in verbs()[verb].params
        if found.param_type_name == "option" and found.opts[0] != "--help"
    ]
    assert [(option, default) for option, default, _ in table(f"docs/{verb}.md", f"options: {verb}")] == options


def test_every_verb_has_a_page() -> None:
    """There is a page for each verb, and the index leads to it."""
    for verb in verbs():
        assert f"]({verb}.md)" in text("docs/index.md")


def test_every_page_is_in_the_index() -> None:
    """The index leads to every page."""
    for page in PAGES[1:]:
        assert page.name == "index.md" or f"]({page.name})" in text("docs/index.md")


def test_settings_table_is_the_settings() -> None:
    """Every setting is listed with its default."""
    defaults = {
        f"{section}.{option}": str(value)
        for section, options in Settings().to_dict().items()
        for option, value in options.items()
    }
    assert {name: default for name, default, _ in table("docs/scan.md", "settings")} == defaults


def test_the_bars_are_those_of_the_settings() -> None:
    """Where prose names the four bars, it names the numbers of settings.Bars."""
    bars = Bars()
    assert bars.operator_bits_min == bars.harvest_bits_min
    prose = (
        f"q at most {bars.q_max:g}, {bars.operator_bits_min:g} bits for each question, "
        f"{bars.innocent_margin_bits_min:g} bits beyond the best innocent explanation"
    )
    assert prose in text("README.md")
    assert f"membership of {bars.membership_min:g} or more" in text("README.md")
    for line in (
        f"`q_value` at most {bars.q_max:g},",
        f"`operator_bits` at least {bars.operator_bits_min:g},",
        f"`harvest_bits` at least {bars.harvest_bits_min:g},",
        f"`innocent_margin_bits` at least {bars.innocent_margin_bits_min:g},",
    ):
        assert line in text("docs/campaign.md")


@pytest.mark.parametrize(("page", "mark"), [("README.md", "file | what it holds"), ("docs/scan.md", "findings")])
def test_file_tables_are_the_findings_folder(page: str, mark: str) -> None:
    """The files of a findings folder are listed, each once."""
    listed = [row[0] for row in table(page, mark)]
    assert sorted(listed) == sorted([*(f"{stem}.parquet" for stem in records.FINDINGS), REPORT, RUN])


def test_trait_kinds_are_those_of_the_code() -> None:
    """The table of kinds says of each what the code says."""
    coded = [[kind.name, kind.family, kind.origin, "yes" if kind.forms_groups else "no", kind.column] for kind in KINDS]
    assert table("docs/trait.md", "kinds") == coded


def test_signals_are_those_of_the_code() -> None:
    """Every signal is listed with its family and its question."""
    coded = [[said.name, said.family, said.question] for said in signals()]
    assert [row[:3] for row in table("docs/evidence.md", "signals")] == coded


def test_hypotheses_are_those_of_the_code() -> None:
    """Every innocent hypothesis is listed with the signals it leaves open, wholly or in part."""
    coded = [[each.name, ", ".join(each.leaves), ", ".join(each.partly)] for each in HYPOTHESES]
    assert table("docs/theory.md", "hypotheses") == coded


def test_verdicts_are_those_of_the_code() -> None:
    """Every verdict is listed, and said to be given only where the judge knows it."""
    judge = "".join((SOURCE / place).read_text("utf-8") for place in ("evidence/judge.py", "dossier/assemble.py"))
    coded = [[name, "yes" if f'"{name}"' in judge else "no"] for name in records.VERDICTS]
    assert [[row[0], row[2]] for row in table("docs/campaign.md", "verdicts")] == coded


def test_actions_and_licence_keys_are_those_of_the_code() -> None:
    """The actions of a Decision and the keys of a licence are listed in full."""
    said = text("docs/decision.md").partition("<!-- actions -->")[2].splitlines()[1]
    assert tuple(re.findall(r"`(\w+)`", said)) == records.ACTIONS
    assert [row[0] for row in table("docs/scan.md", "licence")] == [field.name for field in fields(Licensed)]


# --- links, hosts, picture --------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link is relative, its target is in the clone, and its anchor is a heading there."""
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_host(page: Path) -> None:
    """Where packages come from is the installer's business, and no page leads off the clone."""
    assert not re.search(r"https?://|pypi|anaconda", page.read_text(encoding="utf-8"), re.I)


def test_the_picture_is_a_small_picture() -> None:
    """The picture of the report is a PNG of less than 300 KB."""
    picture = (ROOT / "docs" / "report.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) < MAX_PICTURE_BYTES


# --- commands, run as written -----------------------------------------------------------------------------


def test_chores_of_the_readme_exist() -> None:
    """Each make target and each ./do chore that a page names is there; both lists print without setting anything up."""
    listed = subprocess.run([ROOT / "do", "--help"], capture_output=True, text=True, check=True).stdout
    chores = set(re.findall(r"^  (\w+) ", listed, re.MULTILINE))
    targets = set(re.findall(r"^(\w+):.*## ", text("Makefile"), re.MULTILINE))
    named = [line.split() for line in commands() if not line.startswith("stillwatch ")]
    assert named[:2] == [["make", "demo"], ["make", "test"]]
    for program, chore in named:
        assert chore in {"make": targets, "./do": chores}[program]


@dataclass(frozen=True)
class Place:
    """A folder in which the commands can be run, and the environment to run them in."""

    folder: Path
    environ: dict[str, str]

    def run(self, words: list[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=cwd, env=self.environ, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Logs, accounts, a licence and traces under the names the pages use, and `stillwatch` on the PATH."""
    folder = tmp_path_factory.mktemp("docs")
    programs, work = folder / "bin", folder / "work"
    programs.mkdir()
    script = programs / "stillwatch"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m stillwatch "$@"\n', "utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    world = write_world(demo_scenario(n_consumers=150), work, seed=1)
    world.truth.unlink()
    world.exchanges.rename(work / "logs")
    (work / "licensed.toml").write_text(blocks(ROOT / "README.md", "toml")[0], "utf-8")
    write_traces(work)
    write_gateway(work)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environ = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "STILLWATCH_HOME": str(folder / "home")}
    return Place(work, environ)


def write_traces(work: Path) -> None:
    """Agent traces: a few columns, and a session where an account would be."""
    rows = pq.read_table(work / "logs", columns=["account_id", "ts", "prompt"]).slice(0, 500)
    rows = rows.set_column(1, "ts", pc.strftime(rows["ts"], format="%Y-%m-%dT%H:%M:%SZ"))
    lines = rows.rename_columns(["session_id", "timestamp", "prompt"]).to_pylist()
    (work / "traces.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")


def write_gateway(work: Path) -> None:
    """The logs of a gateway and of the proxy before it, of one conversation."""
    for name, record in (("gateway.jsonl", conversation.litellm()), ("access.jsonl", conversation.access_log())):
        (work / name).write_text(json.dumps(record) + "\n", "utf-8")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """One run of `stillwatch demo`, as docs/refresh.py makes it: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    yield folder, run_demo(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("stillwatch scan ")])
def test_scan_commands_run_as_written(command: str, place: Place, tmp_path: Path) -> None:
    """Every scan command on a page exits with 0 and leaves a whole findings folder."""
    here = shutil.copytree(place.folder, tmp_path / "here")
    words = shlex.split(command)
    done = place.run(["sh", "-c", command], cwd=here)
    assert done.returncode == 0, done.stderr
    out = here / (words[words.index("--out") + 1] if "--out" in words else "findings")
    assert {path.name for path in out.iterdir()} == {row[0] for row in table("docs/scan.md", "findings")}
    assert stat.S_IMODE(out.stat().st_mode) == 0o700


@pytest.mark.slow
@pytest.mark.parametrize("command", [line for line in commands() if line.startswith(QUICK)])
def test_quick_commands_run_as_written(command: str, place: Place, tmp_path: Path) -> None:
    """Every import and every doctor's visit on a page exits with 0 and says something."""
    done = place.run(["sh", "-c", command], cwd=shutil.copytree(place.folder, tmp_path / "here"))
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_no_other_command_is_on_a_page() -> None:
    """What is neither a chore nor one of these is the demo, so that every command is tested somewhere."""
    elsewhere = tuple(
        f"stillwatch {verb} "
        for verb in ("scan", "bench", "simulate", "audit", "registry", "canary", "compare", "policy", "appeal")
    )
    others = [line for line in commands() if not line.startswith(("make ", "./do ", *elsewhere, *QUICK))]
    assert others == ["stillwatch demo"]


@pytest.mark.slow
def test_the_python_of_the_readme_runs(demo: tuple[Path, str], place: Place) -> None:
    """The example that reads the findings works on a findings folder."""
    for example in blocks(ROOT / "README.md", "python"):
        done = place.run([sys.executable, "-c", example], cwd=demo[0] / "demo")
        assert done.returncode == 0, done.stderr
        assert "membership" in done.stdout


HEADING = re.compile(
    r"^(?:│ )?(Made |\$ stillwatch scan|\d+ campaigns? among|╭─  Campaign 1|members |exchanges |tokens |one operator\?|"
    r"a harvest\?|innocent\?|they share|not examined|Bits: |Leads, |Not examined|Rows |Report |Done in)",
    re.MULTILINE,
)


@pytest.mark.slow
def test_the_capture_has_the_shape_of_a_run(demo: tuple[Path, str]) -> None:
    """The README's capture has the headings of a fresh run, in their order, and fits 80 columns."""
    shown = text("README.md").partition("<!-- capture: stillwatch demo -->\n```text\n")[2].partition("\n```")[0]
    assert shown.startswith("$ stillwatch demo\n")
    fresh = trimmed(demo[1])
    headings = [re.sub(r"\d+", "1", found) for found in HEADING.findall(shown)]
    assert headings == [re.sub(r"\d+", "1", found) for found in HEADING.findall(fresh)]
    assert len(headings) > 10
    assert max(len(line) for line in shown.splitlines() if line.startswith(("│", "╭", "╰", "  "))) <= 80


@pytest.mark.slow
def test_the_readme_says_who_was_named(demo: tuple[Path, str]) -> None:
    """How many planted and how many ordinary accounts the demo names is what the README says, on the same key."""
    assert counts(demo[0] / "demo") in text("README.md")
