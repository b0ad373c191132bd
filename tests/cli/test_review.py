"""review and explain: a campaign found, explained, dismissed, and remembered by the next scan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stillwatch.journal import Journal
from stillwatch.records import FINDINGS
from stillwatch.sim.world import Played, World
from tests.cli.running import Ran
from tests.worlds import written

Run = Callable[..., Ran]


pytestmark = pytest.mark.usefixtures("known_key")


@pytest.fixture
def campaign(loud_folder: Path) -> str:
    """The one campaign of the loud world."""
    return str(pq.read_table(loud_folder / "campaigns.parquet")["campaign_id"][0].as_py())


def refused(ran: Ran) -> str:
    """The one line of a refusal."""
    assert ran.code == 2 and ran.out == "" and "Traceback" not in ran.err
    line, _, rest = ran.err.partition("\n")
    assert rest == "" and line.isprintable()
    return line


def test_a_dismissed_campaign_no_longer_fails(run: Run, loud_world: World, own_home: Path, tmp_path: Path) -> None:
    """Scan, dismiss, scan again: still listed with the reason, exit 0; confirmed: exit 3 again. All of it journaled."""
    asked = ["scan", loud_world.exchanges, "--accounts", loud_world.accounts, "--fail-on", "campaign"]
    first = run(*asked)
    assert first.code == 3 and "new: no earlier scan holds it" in " ".join(first.out.replace("│", "").split())
    (found,) = pq.read_table(tmp_path / "findings" / "campaigns.parquet")["campaign_id"].to_pylist()
    tables = {stem: (tmp_path / f"findings/{stem}.parquet").read_bytes() for stem in FINDINGS}
    said = run("review", found[:6], "dismiss", "--why", "a class \x1b[31m<b>we know</b>")
    assert said.code == 0 and "\x1b" not in said.out and found in said.out
    second = run(*asked)
    text = " ".join(second.out.replace("│", "").split())
    assert second.code == 0 and "1 campaign among" in text and "1 of 1 dismissed by review" in text
    assert "dismissed by review on" in text and "a class \\x1b[31m<b>we know</b>" in text
    page = (tmp_path / "findings" / "report.html").read_text("utf-8")
    assert "a class \\x1b[31m&lt;b&gt;we know&lt;/b&gt;" in page
    assert tables == {stem: (tmp_path / f"findings/{stem}.parquet").read_bytes() for stem in FINDINGS}
    assert "dismissed by review" in " ".join(run("explain", found).out.split())
    assert run("review", found, "confirm", "--why", "cards traced", "--json").code == 0
    n_members = pq.read_metadata(tmp_path / "findings" / "members.parquet").num_rows
    entries = list(Journal(own_home / "journal").entries())
    assert [(one.kind, one.body["verdict"], one.body["n_accounts"]) for one in entries] == [
        ("review", "dismiss", n_members),
        ("review", "confirm", n_members),
    ]
    assert run(*asked, "--json").code == 3


def test_a_dismissed_campaign_is_not_compiled(run: Run, loud_folder: Path, campaign: str, tmp_path: Path) -> None:
    """Whenever it was dismissed; confirmed or watched it is compiled like any other. The message counts it."""

    def compiled() -> tuple[int, int]:
        said = json.loads(run("policy", "compile", loud_folder, "--out", tmp_path / "gate.snapshot", "--json").out)
        return said["n_accounts"], said["n_dismissed"]

    whole = compiled()
    assert whole[0] > 0 and whole[1] == 0
    for verdict, expected in (("dismiss", (0, 1)), ("watch", whole), ("dismiss", (0, 1)), ("confirm", whole)):
        assert run("review", campaign, verdict, "--why", "x", "--findings", loud_folder).code == 0
        assert compiled() == expected
    run("review", campaign, "dismiss", "--why", "x", "--findings", loud_folder)
    ran = run("policy", "compile", loud_folder, "--out", tmp_path / "gate.snapshot")
    assert "0 accounts in 0 lineages" in ran.out and "Left out: 1 dismissed campaign, 0 overturned accounts." in ran.out


def test_a_registry_that_cannot_be_used_compiles_nothing(run: Run, loud_folder: Path, own_home: Path) -> None:
    """Whom an analyst dismissed would be accused otherwise."""
    (own_home / "registry.sqlite").write_bytes(b"noise" * 999)
    (own_home / "registry.sqlite").chmod(0o600)
    assert "registry" in refused(run("policy", "compile", loud_folder))


def test_the_receipt_is_the_journals(run: Run, loud_folder: Path, campaign: str, own_home: Path) -> None:
    """--json gives a receipt that the journal still holds."""
    ran = run("review", campaign, "watch", "--why", "wait", "--findings", loud_folder, "--json")
    said = json.loads(ran.out)
    assert said["campaign_id"] == campaign and said["verdict"] == "watch"
    assert Journal(own_home / "journal").verify(receipts=[said["receipt"]]) == 1


def test_an_unknown_campaign_lists_what_there_is(run: Run, loud_folder: Path, campaign: str, own_home: Path) -> None:
    """The error names the campaigns of the folder; nothing is recorded."""
    line = refused(run("review", "c000", "dismiss", "--why", "x", "--findings", loud_folder))
    assert "holds no campaign c000" in line and campaign in line
    assert campaign in refused(run("explain", "c00000000000000a", "--findings", loud_folder))
    assert not (own_home / "journal").exists() and not (own_home / "registry.sqlite").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["flee", "--why", "x"], "confirm, dismiss, watch"),
        (["dismiss", "--why", " "], "a review needs a reason"),
        (["dismiss", "--why", "x", "--findings", "nowhere"], "nowhere is not a findings folder"),
    ],
)
def test_a_bad_review_is_one_line(
    run: Run, loud_folder: Path, campaign: str, own_home: Path, words: list[str], says: str
) -> None:
    """Another word, no reason or no folder is refused, and no review is journaled."""
    folder = [] if "--findings" in words else ["--findings", loud_folder]
    assert says in refused(run("review", campaign, *words, *folder))
    assert not (own_home / "journal").exists()


def test_another_key_reviews_nothing(
    run: Run, loud_folder: Path, campaign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Findings of another key are refused: their lineages would be nobody's."""
    monkeypatch.setenv("STILLWATCH_KEY", "07" * 32)
    line = refused(run("review", campaign, "dismiss", "--why", "x", "--findings", loud_folder))
    assert "under another key" in line


def test_a_damaged_registry_is_one_line(run: Run, loud_folder: Path, campaign: str, own_home: Path) -> None:
    """Review says what is wrong with it."""
    (own_home / "registry.sqlite").write_bytes(b"noise" * 999)
    (own_home / "registry.sqlite").chmod(0o600)
    line = refused(run("review", campaign, "dismiss", "--why", "x", "--findings", loud_folder))
    assert "damaged" in line and "journal keeps every review" in line


def test_a_scan_does_not_hang_on_its_memory(run: Run, loud: Played, own_home: Path, tmp_path: Path) -> None:
    """With a damaged registry the findings are written all the same, and say that reviews were not looked at."""
    (own_home / "registry.sqlite").write_bytes(b"noise" * 999)
    (own_home / "registry.sqlite").chmod(0o600)
    ran = run("scan", written(loud.exchanges.slice(0, 200), tmp_path / "log.parquet"))
    assert ran.code == 0 and "reviews and earlier scans were not looked at" in " ".join(ran.out.split())
    said = json.loads((tmp_path / "findings" / "run.json").read_text("utf-8"))["lineages"]
    assert set(said) == {"problem"} and "damaged" in said["problem"]


def test_explain_speaks_of_campaigns_and_accounts(run: Run, loud_folder: Path, campaign: str) -> None:
    """A campaign by its beginning, a member, and an account that nothing is known of; all as JSON too."""
    member = pq.read_table(loud_folder / "members.parquet")["account_id"][0].as_py()
    assert "Why not an innocent explanation" in run("explain", campaign[:5], "--findings", loud_folder).out
    assert "with a membership of" in run("explain", member, "--findings", loud_folder).out
    nobody = run("explain", "no such account", "--findings", loud_folder)
    assert nobody.code == 0 and nobody.out.split("\n")[1].strip() == "nothing was found on this account"
    for named, kind in ((campaign, "campaign"), (member, "account"), ("nobody", "account")):
        assert json.loads(run("explain", named, "--findings", loud_folder, "--json").out)["kind"] == kind


def test_an_accounts_name_cannot_steer_the_terminal(run: Run, loud_folder: Path) -> None:
    """Control characters of the argument are shown as escapes."""
    said = run("explain", "a\x1b[2Jb\u202e", "--findings", loud_folder)
    assert "\x1b" not in said.out and "\u202e" not in said.out and "a\\x1b[2Jb" in said.out
