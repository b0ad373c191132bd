"""pictures: a campaign drawn on the server, without a script; every picture is capped and says what it hides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from markupsafe import Markup

from stillwatch.dossier import words
from stillwatch.dossier.activity import Activity
from stillwatch.dossier.cases import Question
from stillwatch.dossier.svg import BitScale, box, cell, path, picture, point, rule, text

WIDTH = 840
MAX_BINS = 180
N_SHADES = 8
DAYS_WITHOUT_YEAR = 300
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MAX_STEPS = 12
MIN_SHOWN_BITS = 0.05
MAX_SHARES = 12


def waterfall(questions: Sequence[Question]) -> Markup:
    """What each family says on its own, the step from the strongest to the total, and the bar the total must clear."""
    left, span, right = 190, 500, WIDTH
    reached: list[float] = []
    for question in questions:
        reached += [*(step.bits for step in question.steps), question.total, question.bar]
    scale = BitScale(reached, left=left, width=span)
    body, y = [], 8.0
    for question in questions:
        y += 14
        body.append(text(0, y, question.label, kind="head"))
        top = y + 8
        drawn, y = _steps(question, scale, top=top, right=right)
        body += drawn
        body.append(rule(scale(question.bar), top - 4, scale(question.bar), y + 2, kind="bar"))
        body.append(
            text(scale(question.bar), top - 8, f"bar {words.decimal(question.bar)}", kind="note", anchor="middle")
        )
        y += 18
    body.append(rule(left, y, left + span, y))
    for tick in scale.ticks:
        body += [
            rule(scale(tick), y, scale(tick), y + 4),
            text(scale(tick), y + 16, words.decimal(tick), kind="note", anchor="middle"),
        ]
    body.append(text(right, y + 16, "bits", kind="note", anchor="end"))
    if scale.note:
        y += 18
        body.append(text(left, y + 16, scale.note, kind="note", cells=110))
    told = "; ".join(f"{q.label} {words.bits(q.total)} bits, bar {words.decimal(q.bar)}" for q in questions)
    return picture(
        body,
        kind="waterfall",
        title="Bits of evidence",
        desc=f"{told}. {scale.note}",
        width=WIDTH,
        height=round(y + 22),
    )


def _steps(question: Question, scale: BitScale, *, top: float, right: float) -> tuple[list[str], float]:
    body, y = [], top
    shown = question.steps[:MAX_STEPS]
    for step in shown:
        body.append(_bar(words.named(step.label, words.FAMILIES), 0.0, step.bits, scale, y=y, right=right))
        y += 19
    if len(question.steps) > len(shown):
        body.append(text(12, y + 11, f"{len(question.steps) - len(shown)} more not drawn", kind="note"))
        y += 19
    joint = question.joint
    if len(shown) and (math.isinf(joint) or abs(joint) >= MIN_SHOWN_BITS):
        label = "averaging" if joint < 0 else "taken together"
        body.append(_bar(label, shown[0].bits, question.total, scale, y=y, right=right))
        y += 19
    low, high = sorted((scale(0), scale(question.total)))
    short = question.bar - question.total
    body += [
        text(12, y + 11, "total", kind="strong"),
        box(low, y + 1, max(high - low, 1), 13, kind="total" if short <= 0 else "total short"),
        text(right, y + 11, f"{words.bits(question.total)}, {_outcome(short)}", kind="figure strong", anchor="end"),
    ]
    return body, y + 18


def _outcome(short: float) -> str:
    if math.isnan(short):
        return "not weighed"
    if short <= 0:
        return "clears"
    return f"misses by {words.bits(short)}" if short >= MIN_SHOWN_BITS else "just misses"


def _bar(label: str, start: float, end: float, scale: BitScale, *, y: float, right: float) -> str:
    low, high = sorted((scale(start), scale(end)))
    by = end - start
    figure = ("+" if by > 0 and start else "") + words.bits(by)
    return (
        text(12, y + 11, label, cells=24)
        + box(low, y + 2, max(high - low, 1), 11, kind="step down" if by < 0 else "step")
        + text(right, y + 11, figure, kind="figure", anchor="end")
    )


def timeline(activity: Activity) -> Markup:
    """Exchanges per day as columns and, below, the accounts active; long periods are binned, and it says so."""
    title, left, right = "Activity over time", 46, WIDTH
    if not activity.days:
        return _nothing("timeline", title, "No exchanges were counted by day.")
    first, last, size = _bins(activity.days)
    n = (last - first).days // size + 1
    exchanges, accounts = [0] * n, [0] * n
    for day, n_exchanges, n_accounts in zip(
        activity.days, activity.exchanges_per_day, activity.accounts_per_day, strict=True
    ):
        at = (day - first).days // size
        exchanges[at] += n_exchanges
        accounts[at] = max(accounts[at], n_accounts)
    unit = "day" if size == 1 else f"{size} days"
    pitch = min((right - left) / n, 40.0)
    body = _columns(
        exchanges, top=24, height=104, left=left, pitch=pitch, right=right, kind="mark", label=f"exchanges per {unit}"
    )
    label = "accounts active per day" if size == 1 else f"accounts active on the busiest of each {size} days"
    body += _columns(accounts, top=158, height=46, left=left, pitch=pitch, right=right, kind="mark quiet", label=label)
    body += _dates(first, last, n=n, size=size, left=left, pitch=pitch, y=220)
    desc = (
        f"{words.period(first, last)}: {words.counted(sum(exchanges), 'exchange')}, "
        f"at most {words.count(max(exchanges))} per {unit} and {words.counted(max(accounts), 'account')} on one day."
    )
    return picture(body, kind="timeline", title=title, desc=desc, width=WIDTH, height=226)


def _bins(days: Sequence[date]) -> tuple[date, date, int]:
    first, last = min(days), max(days)
    return first, last, math.ceil(((last - first).days + 1) / MAX_BINS)


def _columns(
    values: Sequence[int], *, top: float, height: float, left: float, pitch: float, right: float, kind: str, label: str
) -> list[str]:
    peak = max(1, *values)
    base = top + height
    gap = 1.5 if pitch > 6 else 0.4
    marks = "".join(
        cell(left + pitch * at, base - tall, pitch - gap, tall)
        for at, value in enumerate(values)
        if value > 0
        for tall in (max(height * value / peak, 1.0),)
    )
    return [
        text(left, top - 8, label, kind="note"),
        rule(left, top, right, top, kind="rule faint"),
        text(left - 6, top + 4, _short(max(values)), kind="note", anchor="end"),
        text(left - 6, base, "0", kind="note", anchor="end"),
        path(marks, kind=kind),
        rule(left, base, right, base),
    ]


def _dates(first: date, last: date, *, n: int, size: int, left: float, pitch: float, y: float) -> list[str]:
    every = max(1, math.ceil(n / max(1, int(n * pitch // 96)))) if n > 1 else 1
    marks = []
    for at in range(0, n, every):
        shown = first + timedelta(days=at * size)
        if at and (n - at) * pitch < 40:
            break
        label = words.day(shown, year=at == 0 or (last - first).days > DAYS_WITHOUT_YEAR)
        marks.append(text(left + pitch * at, y, label, kind="note"))
    return marks


def hour_map(activity: Activity) -> Markup:
    """The week of the campaign beside the week of everyone else, in shares of each, on one scale of shade."""
    title = "Hours of the week"
    total, ground = sum(activity.hour_of_week), sum(activity.background_hour_of_week)
    if not total:
        return _nothing("hours", title, "No exchanges were counted by hour.")
    ours = [value / total for value in activity.hour_of_week]
    theirs = [value / ground if ground else 0.0 for value in activity.background_hour_of_week]
    peak = max(ours + theirs)
    body = _week(ours, peak=peak, left=34, kind="shade", label="this campaign")
    body += _week(
        theirs,
        peak=peak,
        left=456,
        kind="shade quiet",
        label="everyone else" if ground else "nobody else in these logs",
    )
    for row, name in enumerate(WEEKDAYS):
        body.append(text(0, 38 + 16 * row, name, kind="note"))
    moved = sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / 2
    apart = f"{words.share(moved)} of this traffic lies in other hours than that of everyone else." if ground else ""
    body.append(
        text(34, 166, f"Darkest: {words.share(peak)} of a week of traffic in one hour. {apart}", kind="note", cells=140)
    )
    desc = f"Two maps of 7 days by 24 hours, in UTC. {apart} The hour itself is never evidence; only a difference is."
    return picture(body, kind="hours", title=title, desc=desc, width=WIDTH, height=174)


def _week(shares: Sequence[float], *, peak: float, left: float, kind: str, label: str) -> list[str]:
    shades: list[list[str]] = [[] for _ in range(N_SHADES + 1)]
    for hour, value in enumerate(shares):
        level = math.ceil(N_SHADES * min(value / peak, 1.0)) if value > 0 else 0
        shades[level].append(f"M{point(left + 16 * (hour % 24))} {33 + 16 * (hour // 24)}h15")
    body = [text(left, 14, label, kind="note")]
    body += [path("".join(cells), kind=f"{kind} s{level}") for level, cells in enumerate(shades)]
    body += [text(left + 16 * hour, 151, f"{hour:02d}", kind="note") for hour in (0, 6, 12, 18)]
    return [*body, text(left + 383, 151, "UTC", kind="note", anchor="end")]


def shares(pairs: Mapping[str, float]) -> Markup:
    """Shares between 0 and 1 as bars, the largest first."""
    ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
    body, y = [], 4.0
    for name, value in ordered[:MAX_SHARES]:
        length = 500 * min(max(value, 0.0), 1.0)
        body += [
            text(0, y + 11, words.named(name, {}), cells=26),
            box(190, y + 2, 500, 11, kind="track"),
            box(190, y + 2, length, 11, kind="step"),
            text(WIDTH, y + 11, words.share(value), kind="figure", anchor="end"),
        ]
        y += 19
    if len(ordered) > MAX_SHARES:
        body.append(
            text(
                0,
                y + 11,
                f"{MAX_SHARES} of {len(ordered)} capabilities shown; the rest are in campaigns.parquet.",
                kind="note",
                cells=90,
            )
        )
        y += 19
    told = "; ".join(f"{words.named(name, {})} {words.share(value)}" for name, value in ordered[:MAX_SHARES])
    return picture(body, kind="shares", title="What was asked for", desc=told, width=WIDTH, height=round(y + 4))


def _nothing(kind: str, title: str, says: str) -> Markup:
    return picture(
        [text(0, 16, says, kind="note", cells=90)], kind=kind, title=title, desc=says, width=WIDTH, height=24
    )


def _short(value: float) -> str:
    for size, unit in ((1e9, "bn"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e3:.0f} k" if value >= 1e4 else words.count(value)
