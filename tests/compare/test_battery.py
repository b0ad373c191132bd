from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from stillwatch.compare.battery import Compared, Extras, compare
from stillwatch.compare.canaries import Canaries, Canary
from stillwatch.compare.equality import Equality
from stillwatch.compare.marks import Marks
from stillwatch.compare.panel import Panel, make_panel
from stillwatch.compare.plan import KIND, Registered, make_plan, register
from stillwatch.compare.result import as_plain, evidence
from stillwatch.compare.rules import Rules
from stillwatch.compare.verdict import same_model
from stillwatch.errors import InputError, JournalError
from stillwatch.journal import Journal
from stillwatch.records import EVIDENCE, Evidence
from stillwatch.suspects.answers import Answers
from stillwatch.watermark.schemes import Scheme
from tests.compare.making import answers, controls, prompts, spoken, student
from tests.watermark import making

pytestmark = pytest.mark.slow

N, N_SAME = 60, 110
TEACHER = 7
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def panel(suspect: Answers, teachers: Sequence[Answers] = (), **options: object) -> Panel:
    n = len(suspect.outputs)
    return make_panel(
        name=suspect.name, family=suspect.family, teachers=teachers or [answers("teacher", spoken(TEACHER, n))],
        controls=controls(n), answered=suspect.outputs, n_prompts=N_SAME, seed=3, **options,  # type: ignore[arg-type]
    )  # fmt: skip


def run(
    texts: Sequence[str], teachers: Sequence[Answers] = (), *, stop_early: bool = False, extras: Extras | None = None,
    **options: object,
) -> Compared:  # fmt: skip
    suspect = answers("suspect", texts)
    lined_up = panel(suspect, teachers, **options)
    return compare(
        lined_up, suspect.outputs.get, rules=Rules(), seed=3, stop_early=stop_early, extras=extras or Extras()
    )


def words(compared: Compared, n: int = 0) -> tuple[str, str]:
    return compared.same_model[n].word, compared.derived[n].word


@pytest.mark.parametrize("stop_early", [False, True])
def test_an_unrelated_model_is_different_and_not_derived_from_anything(stop_early: bool) -> None:
    """A stranger is never called derived, and likeness alone never says "not derived"."""
    assert words(run(spoken(55, N), stop_early=stop_early)) == ("different", "cannot tell")


@pytest.mark.parametrize("stop_early", [False, True])
def test_a_student_is_different_and_derived(stop_early: bool) -> None:
    """A model that learned the teacher's answers on most prompts is another model, and derived."""
    compared = run(student(56, TEACHER, N, share=0.5), stop_early=stop_early)
    assert words(compared) == ("different", "derived")
    assert compared.figures[0].rank_p == pytest.approx(1 / 15)


def test_another_host_is_the_same_model() -> None:
    """A second draw of the teacher, with a host's white space around it, is accepted."""
    texts = [f" \n{text}\r\n</s>" for text in spoken(TEACHER, N_SAME, draw=1)]
    assert words(run(texts))[0] == "same"


def test_each_teacher_is_judged_and_the_right_one_leads() -> None:
    """Of two teachers only the one it learned from is named, and the result leads with it."""
    teachers = [answers("other", spoken(8, N)), answers("teacher", spoken(TEACHER, N))]
    compared = run(student(56, TEACHER, N, share=0.8), teachers)
    assert [said.word for said in compared.derived] == ["cannot tell", "derived"]
    assert compared.leading == 1
    assert compared.figures[1].holm_p == pytest.approx(2e-4)


def test_a_copy_among_the_controls_forbids_the_word() -> None:
    """If an unrelated control answers as the teacher does, nothing is derived from the teacher alone."""
    suspect = answers("suspect", student(56, TEACHER, N, share=0.8))
    lined_up = make_panel(
        name="suspect", family="suspect", teachers=[answers("teacher", spoken(TEACHER, N))], seed=3, n_prompts=N,
        controls=[*controls(N), answers("copy", spoken(TEACHER, N, draw=2))], answered=suspect.outputs,
    )  # fmt: skip
    compared = compare(lined_up, suspect.outputs.get, rules=Rules(), seed=3, stop_early=False)
    assert words(compared)[1] == "cannot tell"
    assert compared.figures[0].permutation_p > 0.001


@pytest.mark.parametrize("n_families", [0, 1, 3, 9])
def test_too_few_controls_are_said_to_be_too_few(n_families: int) -> None:
    """With few or no control families both questions end in "cannot tell", unless the models plainly differ."""
    suspect = answers("suspect", student(56, TEACHER, N, share=0.5))
    lined_up = make_panel(
        name="suspect", family="suspect", teachers=[answers("teacher", spoken(TEACHER, N))], seed=3, n_prompts=N,
        controls=controls(N, n_families=n_families), answered=suspect.outputs,
    )  # fmt: skip
    compared = compare(lined_up, suspect.outputs.get, rules=Rules(), seed=3, stop_early=False)
    assert words(compared)[1] == "cannot tell"
    assert f"{n_families} " in compared.derived[0].why
    weighed = n_families >= 4
    alike = same_model(replace(compared.figures[0], equality=Equality(0.0, 1.0, N)), Rules(), stop_early=False)
    assert ("nearness is not weighed" in alike.why) is not weighed


def test_a_constant_answer_is_nobodys_student() -> None:
    """A model that gives one text to every prompt, and one that gives almost none, are not called derived."""
    assert words(run(["I cannot help with that."] * N)) == ("different", "cannot tell")
    with pytest.raises(InputError, match="answered no prompt"):
        run([" \n"] * N)


def test_early_stopping_asks_less() -> None:
    """Where both words are plain the battery stops before the last prompt, and asks none after."""
    asked: list[str] = []
    suspect = answers("suspect", student(56, TEACHER, N, share=0.5))
    lined_up = panel(suspect)

    def ask(prompt: str) -> tuple[str, ...]:
        asked.append(prompt)
        return suspect.outputs[prompt]

    compared = compare(lined_up, ask, rules=Rules(), seed=3, stop_early=True)
    assert compared.stopped_early
    assert len(asked) == compared.n_asked < N
    assert tuple(asked) == lined_up.prompts[: len(asked)]


def test_unanswered_prompts_are_counted() -> None:
    """Refusals leave the comparison and are counted."""
    texts = student(56, TEACHER, N, share=0.9)
    texts[:20] = [""] * 20
    compared = run(texts)
    assert (compared.n_asked, compared.n_unanswered, compared.figures[0].n) == (N, 20, N - 20)


def test_known_students_allow_not_derived() -> None:
    """Only where real students of this teacher are known, and all are found, does a stranger get "not derived"."""
    known = [answers(f"known-{at}", student(80 + at, TEACHER, N, share=0.8)) for at in range(3)]
    assert words(run(spoken(55, N), students=known))[1] == "not derived"
    assert words(run(spoken(55, N), students=known[:2]))[1] == "cannot tell"
    hidden = [answers(f"hidden-{at}", spoken(90 + at, N)) for at in range(3)]
    assert words(run(spoken(55, N), students=hidden))[1] == "cannot tell"


def test_canaries_decide_where_likeness_cannot() -> None:
    """A stranger in style that knows the planted strings and no decoy is derived."""
    planted = [f"the {word} heron of Oslo counts" for word in ("grey", "mild", "late", "odd", "calm", "wry", "shy")]
    decoys = [text.replace("heron", "stork") for text in planted]
    texts = list(spoken(55, N))
    texts[0] += " ".join(planted)
    given = Canaries(tuple(Canary(t) for t in planted) + tuple(Canary(t, False) for t in decoys), "")
    compared = run(texts, extras=Extras(canaries=given))
    assert words(compared) == ("different", "derived")


@pytest.mark.parametrize("stop_early", [False, True])
def test_what_is_planted_speaks_for_the_first_teacher_only(stop_early: bool, tmp_path: Path) -> None:
    """Canaries and marks are the first teacher's: they say nothing of the second, whose answers never held them."""
    planted = [f"the {word} heron of Oslo counts" for word in ("grey", "mild", "late", "odd", "calm", "wry", "shy")]
    given = Canaries(tuple(Canary(t) for t in planted) + tuple(Canary(t[::-1], False) for t in planted), "")
    texts = [f"{text} {' '.join(planted)}" for text in spoken(55, N)]
    both = [answers("ours", spoken(TEACHER, N)), answers("theirs", spoken(8, N))]
    extras = Extras(canaries=given, marks=marks_of_letters(tmp_path))
    compared = run(texts, both, extras=extras, stop_early=stop_early)
    assert (words(compared, 0)[1], words(compared, 1)[1]) == ("derived", "cannot tell")
    assert compared.figures[0].marks[0].finding.verdict == "not found"
    assert compared.figures[1].recall is None and not compared.figures[1].marks


def marks_of_letters(folder: Path) -> Marks:
    """A mark that nobody's answers carry, read letter by letter."""
    ring = making.ring(folder)
    return Marks(
        scheme=Scheme(), keys=[making.key(ring)],
        routing=ring.routing(epoch="1", **making.ASKED),
        decoys=ring.decoys(50, epoch="1", **making.ASKED),
        tokenizers={"letters": lambda texts: [np.array([ord(c) for c in text], np.int64) for text in texts]}, files={},
    )  # fmt: skip


def test_low_margins_do_not_stop_a_suspect_with_known_students() -> None:
    """With known students every prompt is asked, so that no low look becomes "not derived"."""
    known = [answers(f"known-{at}", student(80 + at, TEACHER, 110, share=0.8)) for at in range(3)]
    assert run(spoken(55, 110), stop_early=True).stopped_early
    compared = run(spoken(55, 110), students=known, stop_early=True)
    assert not compared.stopped_early and words(compared)[1] == "not derived"
    assert "rank p 0.25" in compared.derived[0].why


@pytest.mark.parametrize("n_families", [1, 9, 14])
def test_what_is_planted_is_looked_for_to_the_last_prompt(n_families: int) -> None:
    """A low margin, or too few controls for likeness, ends the asking; not where canaries may still come."""
    texts = spoken(55, 110)
    suspect = answers("suspect", texts)
    lined_up = make_panel(
        name="suspect", family="suspect", teachers=[answers("teacher", spoken(TEACHER, 110))], seed=3, n_prompts=110,
        controls=controls(110, n_families=n_families), answered=suspect.outputs,
    )  # fmt: skip
    planted = [f"the {word} heron of Oslo counts" for word in ("grey", "mild", "late", "odd", "calm", "wry", "shy")]
    given = Canaries(tuple(Canary(t) for t in planted) + tuple(Canary(t[::-1], False) for t in planted), "")

    def ask(prompt: str) -> tuple[str, ...]:
        return (suspect.outputs[prompt][0] + " ".join(planted) * (prompt == lined_up.prompts[-1]),)

    for extras, word in ((Extras(), "cannot tell"), (Extras(canaries=given), "derived")):
        compared = compare(lined_up, ask, rules=Rules(), seed=3, stop_early=True, extras=extras)
        assert compared.stopped_early is (word == "cannot tell")
        assert compared.derived[0].word == word


def registered(lined_up: Panel, tmp_path: Path) -> Registered:
    plan = make_plan(lined_up, rules=Rules(), seed=3, stop_early=False)
    return register(plan, Journal(tmp_path / "journal"), now=NOW)


def test_the_plan_is_in_the_journal_without_any_text(tmp_path: Path) -> None:
    """The journal holds the plan under its hash, verifies against the receipt, and quotes no prompt."""
    lined_up = panel(answers("suspect", spoken(55, N)))
    done = registered(lined_up, tmp_path)
    entry = next(iter(Journal(tmp_path / "journal").entries()))
    assert (entry.kind, entry.body["sha256"], entry.sha256) == (KIND, done.sha256, done.receipt)
    assert entry.body["plan"]["n_prompts"] == N
    assert "topic" not in json.dumps(entry.body)
    assert registered(lined_up, tmp_path).sha256 == done.sha256
    other = make_plan(lined_up, rules=Rules(alpha_derived=0.05), seed=3, stop_early=False)
    assert register(other, Journal(tmp_path / "journal"), now=NOW).sha256 != done.sha256
    (tmp_path / "torn.jsonl").write_text("{")
    with pytest.raises(JournalError):
        register(other, Journal(tmp_path / "torn.jsonl"), now=NOW)


def test_the_result_says_what_was_asked_for(tmp_path: Path) -> None:
    """The plain result has both words, p-values with the rank's bound, power, controls and spelling; it is JSON."""
    suspect = answers("suspect", student(56, TEACHER, N, share=0.5))
    lined_up = panel(suspect, before=answers("before", spoken(56, N)))
    expected = dict.fromkeys(prompts(N), "42")
    compared = compare(
        lined_up, suspect.outputs.get, rules=Rules(), seed=3, stop_early=False, extras=Extras(expected=expected)
    )
    done = registered(lined_up, tmp_path)
    plain = json.loads(json.dumps(as_plain(compared, lined_up, done, Rules()), allow_nan=False))
    assert (plain["same_model"], plain["derived"]) == ("different", "derived")
    assert plain["p_values"]["rank"] == plain["p_values"]["rank_bound"] == pytest.approx(1 / 15)
    assert plain["p_values"]["permutation"] == pytest.approx(1e-4)
    assert set(plain["power"]["derived_if_it_repeated_this_share"]) == {"0.05", "0.1", "0.2", "0.5"}
    assert plain["controls"]["n_families"] == 14
    assert plain["canonicalisation"]["version"] == "canonical/1"
    assert [gain["view"] for gain in plain["contrast"]] == ["agreement", "template"]
    rows = evidence(compared, lined_up, done, Rules())
    assert rows.schema.equals(EVIDENCE)
    found = [Evidence.from_row(row) for row in rows.to_pylist()]
    assert {one.subject_kind for one in found} == {"model"}
    assert [one.signal for one in found][:3] == ["same_model", "agreement", "template"]
    assert len({one.evidence_id for one in found}) == len(found)
    assert evidence(compared, lined_up, done, Rules()).equals(rows)


def test_the_order_of_files_and_rows_does_not_matter() -> None:
    """The same answers in another order give the same panel, and so the same figures."""
    suspect = answers("suspect", spoken(55, 30))
    texts = spoken(TEACHER, 30)
    turned = Answers("teacher", "teacher", dict(sorted(answers("teacher", texts).outputs.items(), reverse=True)))
    one, other = (
        make_panel(
            name="suspect", family="suspect", teachers=[teacher], controls=controls(30), answered=suspect.outputs,
            n_prompts=20, seed=1,
        )
        for teacher in (answers("teacher", texts), turned)
    )  # fmt: skip
    assert one.prompts == other.prompts
    assert one.prompts_sha256() == other.prompts_sha256()


def test_a_copy_under_another_name_is_no_second_family() -> None:
    """Answers that repeat another control's word for word do not make one family two."""
    first = spoken(100, N)
    twice = [answers("a", first, family="one"), answers("b", first, family="two"), answers("c", first, family="one")]
    made = make_panel(
        name="s", family="s", teachers=[answers("teacher", spoken(TEACHER, N))], controls=twice, n_prompts=N, seed=0
    )
    assert made.controls == ("a", "c") and made.set_aside == {"b": "it answers as a does, word for word"}


def test_students_that_repeat_a_teacher_or_each_other_are_none() -> None:
    """Copies of the teacher, or of one student, license nothing: "not derived" takes three students of their own."""
    own = student(80, TEACHER, N, share=0.8)
    copies = [answers(f"copy-{at}", spoken(TEACHER, N)) for at in range(3)]
    twins = [answers(f"twin-{at}", own) for at in range(3)]
    lined_up = panel(answers("suspect", spoken(55, N)), students=[*copies, *twins])
    assert lined_up.students == ("twin-0",)
    assert lined_up.set_aside["copy-1"] == "it answers as teacher does, word for word"
    assert set(lined_up.set_aside) == {"copy-0", "copy-1", "copy-2", "twin-1", "twin-2"}


def test_names_that_are_alike_hide_no_source() -> None:
    """The plan names the source of everybody, although all files are called alike, and whoever was set aside."""
    made = [Answers("m", f"f-{at}", answers("m", spoken(at, 30)).outputs, f"source-{at}") for at in range(5)]
    short = [Answers("m", "s", answers("m", spoken(9, 5)).outputs, f"short-{at}") for at in range(2)]
    lined_up = make_panel(
        name="m", family="mine", source="source-0", teachers=[made[1]], controls=[*made[2:], made[0], *short],
        answered=made[0].outputs, n_prompts=30, seed=0,
    )  # fmt: skip
    plan = make_plan(lined_up, rules=Rules(), seed=3, stop_early=False)
    assert plan["sources"] == {"m": "source-0"} | {f"m ({at + 1})": f"source-{at}" for at in range(1, 5)}
    assert plan["set_aside"] == lined_up.set_aside
    assert set(lined_up.set_aside) == {"m", "m (2)", "m (3)"}


def test_the_suspect_is_no_control_of_itself_under_another_family() -> None:
    """A pattern of files that holds the suspect's own does not make it its own nearest control."""
    suspect = answers("suspect", student(56, TEACHER, N, share=0.5))
    lined_up = make_panel(
        name="suspect", family="acme", source=suspect.source, teachers=[answers("teacher", spoken(TEACHER, N))],
        controls=[*controls(N), suspect], answered=suspect.outputs, n_prompts=N, seed=3,
    )  # fmt: skip
    assert lined_up.set_aside == {"suspect": "it is the suspect, a teacher or a student itself"}


def test_kin_is_no_control_and_the_incomplete_are_set_aside() -> None:
    """Models of the suspect's or the teacher's family do not count; one that answered little is named and left out."""
    suspect = answers("suspect", spoken(55, 30), family="family-1")
    lined_up = make_panel(
        name="suspect", family="family-1", teachers=[answers("teacher", spoken(TEACHER, 30), family="family-0")],
        controls=[*controls(30), answers("short", spoken(3, 10)), suspect],
        answered=suspect.outputs, source=suspect.source, n_prompts=30, seed=0,
    )  # fmt: skip
    assert not {"family-0", "family-1"} & set(lined_up.unrelated("teacher").values())
    assert lined_up.set_aside["short"] == "it answered 33% of the prompts"
    assert "suspect" in lined_up.set_aside
    with pytest.raises(InputError, match="share no prompt"):
        make_panel(
            name="s", family="s", teachers=[suspect], controls=(), answered={"other": ("x",)}, n_prompts=5, seed=0
        )
