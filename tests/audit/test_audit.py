from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stillwatch.audit.audit import Audit, AuditRequest, audit
from stillwatch.audit.canary import commit, issue
from stillwatch.audit.croissant import merge_patch
from stillwatch.audit.findings import VERDICTS, Finding
from stillwatch.errors import InputError
from stillwatch.journal import Journal
from stillwatch.records import EVIDENCE
from tests.audit.making import ROOT, answers, pairs, registry_of, write_rows
from tests.audit.test_canary import NOW

THEIRS = answers(300, seed=1)
OWN = answers(990, seed=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registered set under a licence of its own, and a data set with one percent of its rows."""
    folder = tmp_path_factory.mktemp("audit")
    write_rows(folder / "theirs.jsonl", pairs(THEIRS, start=5000))
    entry = '[[dataset]]\nname = "theirs"\nlicence = "cc-by-nc-4.0"\nteacher = "T"\nfiles = ["theirs.jsonl"]\n'
    (folder / "register.toml").write_text(entry, "utf-8")
    (folder / "set").mkdir()
    write_rows(folder / "set" / "train.jsonl", pairs(OWN + THEIRS[:10]))
    metadata = {"@context": {}, "name": "our set", "license": "MIT"}
    (folder / "set" / "croissant.json").write_text(json.dumps(metadata), "utf-8")
    registry_of(THEIRS).save(folder / "theirs.registry")
    return folder


def audited(place: Path, *data: Path, **options: Any) -> Audit:
    request = AuditRequest(data=data or [place / "set"], **options)
    return audit(request, key=ROOT, journal=Journal(place / "journal"))


def of(found: Audit, check: str) -> list[Finding]:
    return [one for one in found.findings if one.check == check]


def test_copies_of_a_registered_set_are_named_with_both_licences(place: Path) -> None:
    """A hundredth of the rows is found, and the finding names both licences and what the other one asks."""
    found = audited(place, registers=[place / "register.toml"])
    (overlap,) = of(found, "overlap")
    assert overlap.verdict == "finding"
    assert abs(overlap.detail["share"] - 0.01) <= 0.002
    assert "MIT" in overlap.says and "CC-BY-NC-4.0" in overlap.says and "non-commercial" in overlap.says
    assert [row for _, row in found.places["theirs"]] == list(range(990, 1000))


def test_rows_with_short_answers_are_compared_whole(place: Path, tmp_path: Path) -> None:
    """Where the answer is one word, prompt and answer together are the row; for a provider's registry they are not."""
    asked = [text[:150] for text in answers(200, seed=7)]
    rows = [{"prompt": text, "completion": "Yes."} for text in asked]
    data = write_rows(tmp_path / "data.jsonl", pairs(OWN) + rows[:10])
    registry_of(["Yes."] * 200, prompts=asked).save(tmp_path / "r.registry")
    found = audited(
        place, data, registers=[write_rows(tmp_path / "theirs.jsonl", rows)], registries=[tmp_path / "r.registry"]
    )
    assert of(found, "overlap")[0].verdict == "finding" and of(found, "overlap")[0].detail["n_copied"] == 10
    assert of(found, "registry")[0].detail["n_copied"] == 0


def test_a_registered_set_may_be_a_data_file(place: Path) -> None:
    """`--register rows.jsonl` registers the rows themselves, under the name of the file."""
    (overlap,) = of(audited(place, registers=[place / "theirs.jsonl"]), "overlap")
    assert overlap.verdict == "finding" and overlap.detail["registry"] == "theirs"
    assert overlap.detail["licence"] == "not stated"


def test_clean_data_have_no_finding(place: Path) -> None:
    """Rows that copy nothing give no finding of any kind, and say which share would have been found."""
    clean = write_rows(place / "clean.jsonl", pairs(OWN))
    found = audited(place, clean, registers=[place / "register.toml"], registries=[place / "theirs.registry"])
    assert not [one for one in found.findings if one.verdict in ("finding", "lead")]
    assert "would have been found" in of(found, "overlap")[0].says
    assert not found.places


def test_a_registry_match_is_evidence_with_its_null(place: Path) -> None:
    """A provider's registry finds its answers; the Evidence fits the common schema and is about a data set."""
    found = audited(place, registries=[place / "theirs.registry"])
    assert of(found, "registry")[0].verdict == "finding"
    assert found.evidence.schema.equals(EVIDENCE)
    rows = {row["signal"]: row for row in found.evidence.to_pylist()}
    assert {row["subject_kind"] for row in rows.values()} == {"dataset"}
    row = rows["registry"]
    assert row["subject_id"] == "our set" and row["p_log10"] < -3 and row["lo"] <= row["effect"] <= row["hi"]
    assert json.loads(row["detail"])["version"] == 1 and row["null_id"] and row["e_log2"] is None


def test_what_has_nothing_to_compare_with_is_said(place: Path) -> None:
    """Without registers, registries and controls the checks are named as not examined, or not to be told."""
    found = audited(place)
    verdicts = {one.check: one.verdict for one in found.findings}
    assert verdicts["overlap"] == verdicts["registry"] == "not_examined"
    assert verdicts["written"] == "cannot_tell"
    assert {one.verdict for one in found.findings} <= set(VERDICTS)


def test_the_metadata_patch_names_the_source_and_keeps_the_licence(place: Path) -> None:
    """The Croissant patch lists the copied set with its licence and leaves the declared licence alone."""
    found = audited(place, registers=[place / "register.toml"])
    after = merge_patch(found.declared.croissant, found.croissant)
    assert after["license"] == "MIT" and after["name"] == "our set"
    assert after["isBasedOn"] == [{"@type": "Dataset", "name": "theirs", "license": "CC-BY-NC-4.0"}]
    assert any("copies of theirs" in says for says in after["rai:dataLimitations"])


def test_a_known_set_brings_its_teacher_and_terms(place: Path) -> None:
    """A set known by its file name is reported with teacher, terms, and a licence that is not the declared one."""
    data = write_rows(place / "alpaca_data.jsonl", pairs(OWN[:20]))
    (known,) = of(audited(place, data, licence="apache-2.0"), "licence")
    assert known.verdict == "finding"
    for word in ("tatsu-lab/alpaca", "text-davinci-003", "OpenAI", "Apache-2.0", "CC-BY-NC-4.0"):
        assert word in known.says


def test_a_set_made_from_another_brings_the_others_licence(place: Path) -> None:
    """A cleaned copy under a wider licence than its source is a finding that names both."""
    data = write_rows(place / "alpaca_data_cleaned.json", pairs(OWN[:20]))
    (known,) = of(audited(place, data), "licence")
    assert known.verdict == "finding"
    assert "CC-BY-4.0" in known.says and "CC-BY-NC-4.0" in known.says and "made from tatsu-lab/alpaca" in known.says


def test_canaries_count_only_when_they_were_committed_to(place: Path, tmp_path: Path) -> None:
    """The same canaries are a lead without the journal's line and a finding with it."""
    batch = issue("spring", n=5, n_decoys=95, key=ROOT)
    (tmp_path / "c.json").write_text(batch.to_json(), "utf-8")
    data = write_rows(tmp_path / "d.jsonl", pairs(OWN[:50] + list(batch.canaries[:3])))

    def verdict() -> str:
        found = audit(
            AuditRequest(data=[data], canaries=[tmp_path / "c.json"]), key=ROOT, journal=Journal(tmp_path / "journal")
        )
        (one,) = of(found, "canary")
        assert "3 of 5 canaries" in one.says
        return one.verdict

    assert verdict() == "lead"
    commit(batch, Journal(tmp_path / "journal"), ts=NOW)
    assert verdict() == "finding"


def test_the_same_rows_give_the_same_result_however_they_are_split(place: Path, tmp_path: Path) -> None:
    """Two files of half the rows each give the findings of one file."""
    rows = pairs(OWN + THEIRS[:10])
    (tmp_path / "our set").mkdir()
    for at in range(2):
        write_rows(tmp_path / "our set" / f"{at}.jsonl", rows[at::2])
    whole = write_rows(tmp_path / "whole.jsonl", rows)
    results = [audited(place, one, registers=[place / "register.toml"]) for one in (tmp_path / "our set", whole)]
    says = [[one.says for one in found.findings if one.check != "licence"] for found in results]
    assert says[0] == says[1]


def test_a_control_is_read_with_the_columns_of_the_set(place: Path, tmp_path: Path) -> None:
    """Columns named with --map are those of the controls too."""
    rows = [{"q": one["prompt"], "a": one["completion"]} for one in pairs(OWN + THEIRS[:10])]
    data, control = (write_rows(tmp_path / f"{name}.jsonl", rows) for name in ("data", "control"))
    found = audited(
        place, data, registries=[place / "theirs.registry"], control=[control], mapping={"q": "prompt", "a": "answer"}
    )
    (match,) = of(found, "registry")
    assert match.detail["null"] == "control: 10 of 1000 distinct answers" and match.verdict == "nothing"


def test_a_registry_of_another_key_is_refused(place: Path, tmp_path: Path) -> None:
    """A registry built under another key finds nothing, so it is an error and not a clean result."""
    data = (place / "theirs.registry").read_bytes()
    (tmp_path / "other.registry").write_bytes(data.replace(ROOT.key_id("match").encode(), b"0" * 16))
    with pytest.raises(InputError, match="another key"):
        audited(place, registries=[tmp_path / "other.registry"])
    with pytest.raises(InputError, match="no such file"):
        audited(place, registers=[tmp_path / "absent.jsonl"])
