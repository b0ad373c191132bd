"""svg: the few marks that server-made pictures are drawn with.

Colours and fonts come from the page (`templates/pictures.css`), so that a picture follows light, dark and print, and
a strict content policy can forbid every inline style.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from stillwatch.dossier.words import plain


def picture(body: Sequence[str], *, kind: str, title: str, desc: str, width: int, height: int) -> Markup:
    """One inline picture with a name and a description for those who do not see it; sizes in pixels."""
    head = (
        f'<svg class="picture {kind}" role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<title>{safe(title)}</title><desc>{safe(desc, cells=900)}</desc>"
    )
    return Markup(head + "".join(body) + "</svg>")  # noqa: S704 - whatever came from outside passed `safe`


def safe(value: object, *, cells: int = 120) -> str:
    """Any value as escaped text, cut at `cells` columns."""
    return str(escape(plain(value, cells=cells)))


def text(x: float, y: float, value: object, *, kind: str = "", anchor: str = "start", cells: int = 60) -> str:
    """One line of text whose baseline starts (or ends, or is centred) at x, y."""
    aligned = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{point(x)}" y="{point(y)}"{_named(kind)}{aligned}>{safe(value, cells=cells)}</text>'


def box(x: float, y: float, width: float, height: float, *, kind: str) -> str:
    """A filled rectangle."""
    return f'<rect x="{point(x)}" y="{point(y)}" width="{point(width)}" height="{point(height)}"{_named(kind)}/>'


def rule(x1: float, y1: float, x2: float, y2: float, *, kind: str = "rule") -> str:
    """A straight line."""
    return f'<path d="M{point(x1)} {point(y1)}L{point(x2)} {point(y2)}"{_named(kind)}/>'


def path(steps: str, *, kind: str) -> str:
    """Many marks in one path, which keeps a page of pictures small."""
    return f'<path d="{steps}"{_named(kind)}/>' if steps else ""


def cell(x: float, y: float, width: float, height: float) -> str:
    """One rectangle as a part of a path."""
    w, h = point(width), point(height)
    return f"M{point(x)} {point(y)}h{w}v{h}h-{w}z"


def point(value: float) -> str:
    """A coordinate with at most one decimal."""
    shown = f"{value:.1f}"
    return shown[:-2] if shown.endswith(".0") else shown


class BitScale:
    """Bits to pixels: linear where all bits fit, otherwise squeezed above 10 bits (asinh), and cut at 100,000.

    `note` says which of these holds; a scale that is not linear must show it.
    """

    LINEAR_UP_TO = 90.0
    CUT = 100_000.0
    KNEE = 10.0

    def __init__(self, values: Sequence[float], *, left: float, width: float) -> None:
        held = [self._held(value) for value in values] or [0.0]
        low, high = min([0.0, *held]), max([1.0, *held])
        self.squeezed = high - low > self.LINEAR_UP_TO
        self.cut = any(self._held(value) != value for value in values)
        self._left, self._width = left, width
        self._low, self._high = self._bend(low), self._bend(high * 1.04)

    def __call__(self, value: float) -> float:
        """The x of `value` in pixels."""
        return self._left + self._width * (self._bend(self._held(value)) - self._low) / (self._high - self._low)

    @property
    def ticks(self) -> list[float]:
        """Round values for an axis, within the scale."""
        if self.squeezed:
            wanted = [sign * 10.0**power for power in range(1, 6) for sign in (-1, 1)] + [0.0]
        else:
            span = self._high - self._low
            step = next(step for step in (1, 2, 5, 10, 20, 50) if span / step <= 8)
            wanted = [step * n for n in range(math.ceil(self._low / step), math.floor(self._high / step) + 1)]
        return sorted(value for value in wanted if self._low <= self._bend(value) <= self._high)

    @property
    def note(self) -> str:
        """What a reader must know about the scale."""
        squeezed = "Scale squeezed beyond 10 bits: lengths compare only against the axis." if self.squeezed else ""
        cut = " Bars are cut at 100,000 bits." if self.cut else ""
        return (squeezed + cut).strip()

    def _held(self, value: float) -> float:
        return 0.0 if math.isnan(value) else min(max(value, -self.CUT), self.CUT)

    def _bend(self, value: float) -> float:
        return math.asinh(value / self.KNEE) if self.squeezed else value


def _named(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
