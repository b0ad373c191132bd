"""pictures: drawn right at the edges: one point, none, negative, and ten thousand bits."""

from __future__ import annotations

import math
import re
from datetime import date, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatch.dossier.activity import Activity
from stillwatch.dossier.bonds import bipartite
from stillwatch.dossier.cases import Question, Step
from stillwatch.dossier.pictures import hour_map, shares, timeline, waterfall
from stillwatch.dossier.svg import BitScale
from stillwatch.errors import FindingsError
from stillwatch.records import Trait

FLAT = [1 / 168] * 168


def question(*bits: float, bar: float = 10.0, total: float | None = None) -> Question:
    """A question whose total is by default the sum of its steps."""
    steps = tuple(Step(f"family {at}", value) for at, value in enumerate(bits))
    return Question("One operator?", steps, sum(bits) if total is None else total, bar)


def acted(
    days: list[date], exchanges: list[int], *, hours: list[int] | None = None, ground: list[float] = FLAT
) -> Activity:
    """A campaign over some days."""
    return Activity(
        days=days,
        exchanges_per_day=exchanges,
        accounts_per_day=exchanges,
        hour_of_week=hours or [0] * 168,
        background_hour_of_week=ground,
        edges=[],
    )


def drawn(picture: str) -> ElementTree.Element:
    """The picture as XML, all of its boxes with sizes that are numbers and not negative."""
    root = ElementTree.fromstring(picture)  # noqa: S314 - our own picture
    assert root.get("role") == "img"
    assert root.find("title") is not None and root.find("desc") is not None
    assert "nan" not in picture and "inf" not in picture
    width = float(root.attrib["width"])
    for box in root.iter("rect"):
        x, wide = float(box.attrib["x"]), float(box.attrib["width"])
        assert wide >= 0 and -0.1 <= x <= width and x + wide <= width + 0.1
    return root


def said(picture: str) -> str:
    """Every word in a picture."""
    return " ".join(ElementTree.fromstring(picture).itertext())  # noqa: S314 - our own picture


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ((), "0.0, misses by 10.0"),
        ((0.0,), "0.0, misses by 10.0"),
        ((-3.2, -0.4), "\N{MINUS SIGN}3.6, misses by 13.6"),
        ((27.0, 12.0, -9.5), "29.5, clears"),
        ((9_000.0, 1_000.0), "10,000.0, clears"),
        ((9.99,), "10.0, just misses"),
    ],
)
def test_a_waterfall_is_right_at_every_size(bits: tuple[float, ...], words: str) -> None:
    """Nothing, zero, negative, ordinary and enormous bits are drawn within the frame and read out right."""
    picture = waterfall([question(*bits)])
    drawn(picture)
    assert words in said(picture)


def test_a_scale_that_is_not_linear_says_so() -> None:
    """Small bits are on a linear scale; large ones are squeezed; beyond 100,000 they are cut; each is told."""
    assert "squeezed" not in said(waterfall([question(40.0)]))
    assert "Scale squeezed beyond 10 bits" in said(waterfall([question(10_000.0)]))
    assert "cut at 100,000 bits" in said(waterfall([question(math.inf)]))


def test_the_step_from_the_strongest_family_to_the_total_is_drawn() -> None:
    """Averaging takes bits off, multiplying adds some, and neither is drawn where there is none."""
    assert "averaging \N{MINUS SIGN}1.6" in said(waterfall([question(20.0, 12.0, 3.0, total=18.4)]))
    assert "taken together +15.0" in said(waterfall([question(20.0, 15.0)]))
    assert "averaging" not in said(waterfall([question(20.0)]))


def test_what_is_no_number_is_not_weighed() -> None:
    """A total that is not a number neither clears nor misses."""
    assert "not weighed" in said(waterfall([question(math.nan)]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=9))
def test_a_bit_scale_keeps_order_and_stays_in_its_frame(values: list[float]) -> None:
    """More bits never lie further left, and no value leaves the frame."""
    scale = BitScale(values, left=100, width=300)
    placed = [scale(value) for value in sorted(value for value in values if not math.isnan(value))]
    assert placed == sorted(placed)
    assert all(99.9 <= x <= 400.1 for x in placed)
    assert all(99.9 <= scale(tick) <= 400.1 for tick in scale.ticks)


@pytest.mark.parametrize("n_days", [1, 2, 45, 180, 181, 2_600])
def test_a_timeline_of_any_length_has_few_columns(n_days: int) -> None:
    """One day and seven years fit; binned days say how many there are in one column."""
    days = [date(2019, 1, 1) + timedelta(days=at) for at in range(n_days)]
    picture = timeline(acted(days, [3] * n_days))
    drawn(picture)
    assert picture.count("z") <= 2 * 180 + 2
    assert ("exchanges per day" in said(picture)) == (n_days <= 180)


def test_a_timeline_leaves_quiet_days_empty() -> None:
    """Days are placed by date, not by their order in the list."""
    picture = timeline(acted([date(2026, 1, 1), date(2026, 1, 31)], [5, 7]))
    assert picture.count("z") == 4
    assert "1 to 31 Jan 2026" in said(picture) or "1 Jan to 31 Jan 2026" in said(picture)


@pytest.mark.parametrize("days", [[], [date(2026, 1, 1)]])
def test_nothing_done_is_said_and_not_drawn_wrong(days: list[date]) -> None:
    """No day, or a day of no exchanges, gives a picture all the same."""
    drawn(timeline(acted(days, [0] * len(days))))
    assert "No exchanges were counted by hour." in said(hour_map(acted(days, [0] * len(days))))


def test_an_hour_map_of_one_hour_has_one_dark_cell() -> None:
    """A single hour is the darkest shade; everybody else keeps the same scale."""
    hours = [0] * 168
    hours[30] = 7
    root = drawn(hour_map(acted([], [], hours=hours)))
    darkest = [path for path in root.iter("path") if path.get("class") == "shade s8"]
    assert [path.get("d", "").count("M") for path in darkest] == [1]
    assert re.match(r"M130 49h", darkest[0].get("d", ""))
    assert "99 % of this traffic lies in other hours" in said(hour_map(acted([], [], hours=hours)))


def test_an_hour_map_without_anybody_else_says_so() -> None:
    """An empty background is named, not compared with."""
    picture = hour_map(acted([], [], hours=[1] * 168, ground=[0.0] * 168))
    assert "nobody else in these logs" in said(picture) and "other hours" not in said(picture)


def test_shares_beyond_their_range_stay_in_their_track() -> None:
    """A share of two hundred per cent, or a negative one, does not leave the picture."""
    drawn(shares({"a": 2.0, "b": -1.0, "c": 0.5}))
    assert "12 of 20 capabilities shown" in said(shares({f"c{at}": 0.05 for at in range(20)}))


def hub(key: str, origin: str = "client") -> Trait:
    """A trait that some accounts share."""
    return Trait("c", key, "network", origin, 9, 1, 0.5)


def test_a_large_net_of_accounts_is_cut_and_says_what_is_hidden() -> None:
    """Forty accounts, twenty traits and four hundred lines at most; the rest is counted."""
    edges = [(f"a{a:03d}", f"t{t:02d}", 0.5) for a in range(210) for t in range(30)]
    picture = bipartite(edges, traits=[hub(f"t{t:02d}") for t in range(30)], n_accounts=210)
    drawn(picture)
    assert "40 of 210 accounts shown" in said(picture)
    assert "20 of 30 traits" in said(picture)
    assert "the 400 strongest of 800 links" in said(picture)
    assert picture.count("M") == 400


def test_a_net_does_not_depend_on_the_order_of_its_edges() -> None:
    """The layout is a function of the set of edges."""
    edges = [(f"a{a}", f"t{t}", (a * 7 + t) % 5 / 5) for a in range(9) for t in range(4)]
    traits = [hub("t1", "provider"), hub("t2")]
    assert bipartite(edges, traits=traits, n_accounts=9) == bipartite(edges[::-1], traits=traits[::-1], n_accounts=9)


def test_one_edge_and_no_edge_are_drawn() -> None:
    """The smallest nets are pictures too."""
    drawn(bipartite([("a", "t", 1.0)], traits=[], n_accounts=1))
    assert "No account of this campaign" in said(bipartite([], traits=[], n_accounts=3))


def test_hostile_names_are_text_in_every_picture() -> None:
    """An account or a family that holds markup is escaped where it is drawn."""
    bad = "</text><script>x</script>\x1b"
    for picture in (
        waterfall([Question(bad, (Step(bad, 1.0),), 1.0, 10.0)]),
        shares({bad: 0.5}),
        bipartite([(bad, bad, 0.5)], traits=[hub(bad)], n_accounts=1),
    ):
        drawn(picture)
        assert "<script" not in picture and "\x1b" not in picture


def test_an_activity_with_uneven_lists_is_refused() -> None:
    """Lists that do not fit together are an error at once, not a wrong picture later."""
    with pytest.raises(FindingsError, match="differ in length"):
        acted([date(2026, 1, 1)], [1, 2])
    with pytest.raises(FindingsError, match="week"):
        acted([], [], hours=[1] * 24)
