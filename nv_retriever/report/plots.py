"""Small plots as SVG text: lines with error bands, points, values with intervals. Readable in light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np
import numpy.typing as npt

_WIDTH, _HEIGHT = 480.0, 300.0
_LEFT, _RIGHT, _BOTTOM = 66.0, 22.0, 44.0
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4")
_STYLE = """<style>
.nv-plot{--ink:#1c2024;--soft:#5b6570;--grid:#e3e7eb;--paper:#fff;--c0:#0b62b5;--c1:#c8500a;--c2:#0a8f62;--c3:#a8327e;--c4:#8a6d00;--c5:#5b4bc4}
@media(prefers-color-scheme:dark){.nv-plot{--ink:#e6e9ec;--soft:#9aa5b1;--grid:#2c3238;--paper:#14171a;
--c0:#63b0f5;--c1:#f5955a;--c2:#4fce9f;--c3:#e58bc5;--c4:#dcbc4a;--c5:#a99cf2}}
.nv-plot text{font:12.5px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--soft)}.nv-plot .t{fill:var(--ink)}
</style>"""
Numbers = Sequence[float] | npt.NDArray[np.floating]


@dataclass(frozen=True)
class Series:
    """One named line, cloud of points or histogram."""

    name: str
    x: Numbers
    y: Numbers = ()
    low: Numbers | None = None
    """Lower and upper ends of the error bars, in the units of y."""
    high: Numbers | None = None


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers that cover [low, high], the first at or below low, the last at or above high.

    >>> ticks(0.03, 0.47)
    [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    """
    if not high - low > 1e-9 * max(abs(low), abs(high)) + 1e-200:
        spread = abs(low) * 0.1 if abs(low) > 1e-200 else 1.0
        low, high = low - spread / 2, high + spread / 2
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if raw <= power * factor * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


class _Axes:
    """A frame, its scales, and the marks drawn so far."""

    def __init__(
        self,
        title: str,
        x: tuple[str, list[float]],
        y: tuple[str, list[float]],
        names: Sequence[str],
        *,
        left: float = _LEFT,
    ) -> None:
        self.marks: list[str] = []
        self.left, self.title, self.names = left, title, [name for name in names if name]
        self.legend, self.top = self._legend(12.0 + (20.0 if title else 0.0))
        self.height = max(_HEIGHT, self.top + 200.0)
        (self.x_label, self.x_ticks), (self.y_label, self.y_ticks) = x, y

    def _legend(self, start: float) -> tuple[list[str], float]:
        if len(self.names) < 2:
            return [], start + 4
        out, x, y = [], self.left, start + 6
        for index, name in enumerate(self.names):
            width = 34 + 7.5 * len(name)
            if x + width > _WIDTH and x > self.left:
                x, y = self.left, y + 17
            out.append(f'<line x1="{x:.1f}" x2="{x + 18:.1f}" y1="{y - 4:.1f}" y2="{y - 4:.1f}" {_stroke(index)}/>')
            out.append(f'<text class="t" x="{x + 23:.1f}" y="{y:.1f}">{escape(name)}</text>')
            x += width
        return out, y + 12

    def x(self, value: float) -> float:
        """Return where a value lies from the left, in pixels."""
        share = (value - self.x_ticks[0]) / (self.x_ticks[-1] - self.x_ticks[0])
        return self.left + share * (_WIDTH - _RIGHT - self.left)

    def y(self, value: float) -> float:
        """Return where a value lies from the top, in pixels."""
        share = (value - self.y_ticks[0]) / (self.y_ticks[-1] - self.y_ticks[0])
        return self.height - _BOTTOM - share * (self.height - _BOTTOM - self.top)

    def add(self, mark: str) -> None:
        """Draw a mark above all others."""
        self.marks.append(mark)

    def svg(self, y_texts: Sequence[str] | None = None) -> str:
        """Return the plot as an <svg>, with these labels instead of the y axis's numbers where they are given."""
        frame: list[str] = []
        bottom = self.height - _BOTTOM
        for value, text in zip(self.x_ticks, _labels(self.x_ticks), strict=True):
            at = self.x(value)
            frame.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{self.top:.1f}" y2="{bottom:.1f}" stroke="var(--grid)"/>')
            centre = min(at, _WIDTH - 3.6 * len(text))  # a long number does not leave the frame
            frame.append(f'<text x="{centre:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{text}</text>')
        for value, text in zip(self.y_ticks, y_texts or _labels(self.y_ticks), strict=True):
            at = self.y(value)
            if y_texts is None:
                frame.append(
                    f'<line x1="{self.left:.1f}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="var(--grid)"/>'
                )
            kind = ' class="t"' if y_texts else ""
            frame.append(f'<text{kind} x="{self.left - 7:.1f}" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>')
        middle = (self.left + _WIDTH - _RIGHT) / 2
        frame.append(f'<text x="{middle:.1f}" y="{self.height - 9:.1f}" text-anchor="middle">{escape(self.x_label)}</text>')
        if self.y_label:
            at = (self.top + bottom) / 2
            frame.append(
                f'<text transform="translate(13 {at:.1f}) rotate(-90)" text-anchor="middle">{escape(self.y_label)}</text>'
            )
        if self.title:
            frame.append(f'<text class="t" x="6" y="17" font-weight="600">{escape(self.title)}</text>')
        name = escape(self.title or f"{self.y_label} by {self.x_label}")
        box = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:.0f} {self.height:.0f}"'
        head = f'<svg class="nv-plot" {box} role="img">'
        return f"{head}<title>{name}</title>{_STYLE}{''.join(frame)}{''.join(self.legend)}{''.join(self.marks)}</svg>"


def line_plot(series: Sequence[Series], x_label: str, y_label: str, title: str = "") -> str:
    """Return lines through (x, y), with error bars where low and high are given, as an <svg>."""
    axes = _series_axes(series, x_label, y_label, title)
    for index, one in enumerate(series):
        points = [(axes.x(x), axes.y(y)) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        axes.add(f'<polyline points="{path}" fill="none" {_stroke(index)}/>')
        _error_bars(axes, one, index)
        if len(points) <= 40:
            axes.marks.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="var(--c{index % 6})"/>' for x, y in points)
    return axes.svg()


def scatter_plot(series: Sequence[Series], x_label: str, y_label: str, title: str = "") -> str:
    """Return clouds of points (x, y), with error bars where low and high are given, as an <svg>."""
    axes = _series_axes(series, x_label, y_label, title)
    for index, one in enumerate(series):
        _error_bars(axes, one, index)
        opacity = 0.85 if len(one.x) <= 200 else 0.35
        for x, y in zip(one.x, one.y, strict=True):
            at = f'cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}"'
            axes.add(f'<circle {at} r="3.2" fill="var(--c{index % 6})" fill-opacity="{opacity}"/>')
    return axes.svg()


def interval_plot(
    names: Sequence[str],
    values: Sequence[float],
    lows: Sequence[float | None],
    highs: Sequence[float | None],
    x_label: str,
    zero: bool = False,
    references: Sequence[float | None] | None = None,
) -> str:
    """Return one value with its interval a line (a forest plot) as an <svg>; `zero` draws the line of no difference.

    `references`, where given, are drawn as hollow diamonds beside the values (the paper's numbers).
    """
    numbers = [*values, *lows, *highs, *(references or ()), *([0.0] if zero else [])]
    finite = [float(number) for number in numbers if number is not None and math.isfinite(number)] or [0.0]
    left = min(max(60.0, 14 + 6.7 * max((len(name) for name in names), default=0)), 0.5 * _WIDTH)
    fits = int((left - 14) / 6.7)
    texts = [name if len(name) <= fits else name[: fits - 1] + "…" for name in names]
    rows = [-float(index) for index in range(len(names))]
    axes = _Axes("", (x_label, ticks(min(finite), max(finite), 4)), ("", rows), [], left=left)
    axes.y_ticks = [-(max(len(names), 1) - 0.5), 0.5]
    axes.height = axes.top + _BOTTOM + 24.0 * max(len(names), 1)
    positions = [axes.y(row) for row in rows]
    if zero:
        at = axes.x(0.0)
        axes.add(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{axes.top:.1f}" y2="{axes.height - _BOTTOM:.1f}" stroke="var(--soft)"/>'
        )
    for index, (y, value, low, high) in enumerate(zip(positions, values, lows, highs, strict=True)):
        axes.add(f'<text class="t" x="{left - 7:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(texts[index])}</text>')
        if low is not None and high is not None:
            axes.add(f'<line x1="{axes.x(low):.1f}" x2="{axes.x(high):.1f}" y1="{y:.1f}" y2="{y:.1f}" {_stroke(0)}/>')
        axes.add(f'<circle cx="{axes.x(value):.1f}" cy="{y:.1f}" r="4" fill="var(--c0)"/>')
        reference = references[index] if references else None
        if reference is not None:
            x = axes.x(reference)
            axes.add(f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5-5z" fill="none" stroke="var(--c1)" stroke-width="1.6"/>')
    return axes.svg(["", ""])


def _series_axes(series: Sequence[Series], x_label: str, y_label: str, title: str) -> _Axes:
    def span(pick: Callable[[Series], Sequence[Numbers | None]]) -> tuple[float, float]:
        """Return the smallest and the largest finite value."""
        found = [float(v) for one in series for part in pick(one) if part is not None for v in part if math.isfinite(v)]
        return (min(found), max(found)) if found else (0.0, 1.0)

    x, y = span(lambda one: [one.x]), span(lambda one: [one.y, one.low, one.high])
    return _Axes(title, (x_label, ticks(*x, 6)), (y_label, ticks(*y)), [one.name for one in series])


def _error_bars(axes: _Axes, one: Series, index: int) -> None:
    if one.low is None or one.high is None:
        return
    for x, low, high in zip(one.x, one.low, one.high, strict=True):
        at = f'x1="{axes.x(x):.1f}" x2="{axes.x(x):.1f}"'
        axes.add(
            f'<line {at} y1="{axes.y(low):.1f}" y2="{axes.y(high):.1f}" stroke="var(--c{index % 6})" stroke-width="1.3"/>'
        )


def _stroke(index: int) -> str:
    dash = _DASHES[index % len(_DASHES)] if index < 6 or index % 6 else "5 5"
    return f'stroke="var(--c{index % 6})" stroke-width="2.0"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _labels(values: Sequence[float]) -> list[str]:
    """Return tick labels with as many decimals as tell the neighbours apart."""
    step = min((b - a for a, b in pairwise(values)), default=1.0)
    if max(abs(value) for value in values) >= 10_000:
        return [f"{value / 1000:g}k" for value in values]
    decimals = next((d for d in range(8) if abs(round(step, d) - step) < 1e-9 * max(step, 1e-9) + 1e-12), 8)
    return [f"{value:.{decimals}f}".replace("-", "−") for value in values]
