"""The charts of all pages: what each shows, drawn with the axes of `figure`; see there for what they have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup, escape

from doctune.evaluation.schema import WindowWeight
from doctune.report.figure import Axis, Cells, Figure, Key, Mark, short, svg_start, ticks
from doctune.report.numbers import whole

LABEL_LENGTH = 30
MARKS = ("main", "other", "third", "fourth", "fifth", "sixth")
"""Styles of lines, in the order of the rows."""
WINDOWS_WIDTH, WINDOWS_HEIGHT, WIDEST = 560, 44, 40.0


@dataclass(frozen=True)
class Series:
    """One line of a chart: (x, y) points in order, and whether it is the main line or a comparison."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: str = "main"  # "main" or "other": CSS classes


@dataclass(frozen=True)
class Dot:
    """One seed of a seed plot."""

    label: str
    value: float
    collapsed: bool = False


class StepPoint(NamedTuple):
    """One encoder: error in percent with its interval after so many steps of pre-training; a line joins one corpus."""

    name: str
    steps: int
    error: float
    low: float
    high: float
    corpus: str | None = None


class Gap(NamedTuple):
    """A difference from what is compared with, in points, with its interval; `ring` is that of the paper."""

    name: str
    points: float
    low: float
    high: float
    ring: float | None = None


class Point(NamedTuple):
    """A value with its interval at a place."""

    x: float
    y: float
    low: float
    high: float
    label: str


class Line(NamedTuple):
    """The points of one method."""

    name: str
    points: list[Point]


def learning_curve(
    title: str,
    series: Sequence[Series],
    best: float | None,
    say: Callable[[float], str],
    limit: float = math.inf,
    over: str = "epoch",
    say_x: Callable[[float], str] = lambda x: f"{x:g}",
) -> Markup:
    """Lines over epochs, or over what else is counted; nothing without points.

    `best` is the x to mark on the main series, `say` and `say_x` format values, and the y axis ends at `limit`, which
    no value may exceed. Points that are not finite are left out.
    """
    lines = [(one, [(x, y) for x, y in one.points if math.isfinite(x) and math.isfinite(y)]) for one in series]
    every = [point for _, points in lines for point in points]
    if not every:
        return Markup("")
    y_ticks = ticks(min(y for _, y in every), max(y for _, y in every))
    y_ticks = [y for y in y_ticks if y <= limit]  # an accuracy has no room above 100
    x_low, x_high = min(x for x, _ in every), max(x for x, _ in every)
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    whole = x_high - x_low <= 10
    x_ticks = range(math.ceil(x_low), math.floor(x_high) + 1) if whole else ticks(x_low, x_high, 6)
    x_axis = Axis(x_low, x_high, [Mark(x, say_x(x)) for x in x_ticks if x_low <= x <= x_high], over, 14.0)
    legend = [Key(one.kind, one.name) for one, _ in lines]
    figure = Figure(title, "curve", 460, 190, x_axis, Axis.of(y_ticks, say), legend=legend)
    if best is not None and x_low <= best <= x_high:
        figure.stroke("best", figure.at_x(best), figure.top - 6, figure.at_x(best), figure.floor)
    for one, points in lines:
        figure.line(points, one.kind)
        for x, y in points:
            chosen = one.kind == "main" and x == best
            label = f"{one.name}, {over} {say_x(x)}: {say(y)}" + (" (best)" if chosen else "")
            style = f"dot {one.kind} chosen" if chosen else f"dot {one.kind}"
            radius = 6 if chosen else 3 if len(points) < 30 else 1.5
            figure.dot(figure.at_x(x), figure.at_y(y), style, radius, label)
    return figure.svg()


def seed_plot(dots: Sequence[Dot], mean: float, low: float | None, high: float | None, what: str) -> Markup:
    """A dot for each seed on an axis in percent, with the mean and its interval below them."""
    radius = 6
    dots = [dot for dot in dots if math.isfinite(dot.value)]
    values = [dot.value for dot in dots] or [mean]
    if not all(map(math.isfinite, [mean, *values])):
        return Markup("")
    # A wide interval of two or three seeds may leave 0..100, where no error can lie: the drawing stops there.
    ends = [max(0.0, low), min(100.0, high)] if low is not None and high is not None else []
    marks = ticks(min([*values, *ends]), max([*values, *ends]), 6)
    title = f"{what} of {len(dots)} seeds, mean {mean:.2f} %"
    if ends:
        title += f", 95 % interval {low:.2f} to {high:.2f} %"
    axis = Axis.of(marks, lambda x: f"{x:g}", f"{what}, percent")
    ordered = sorted(dots, key=lambda one: one.value)
    rows = _stacked(ordered, Figure(title, "seeds", 480, 0, axis).at_x, 2 * radius + 2)
    tall = max(rows, default=0) * (2 * radius + 2)
    figure = Figure(title, "seeds", 480, 52 + tall, axis, grid="x")
    base, interval = figure.floor - 44, figure.floor - 20
    if ends:
        figure.interval(ends[0], ends[1], interval)
    figure.parts.append(f'<path class="mean" d="M{figure.at_x(mean):.1f} {interval - 8}l6 8l-6 8l-6 -8z"/>')
    for dot, row in zip(ordered, rows, strict=True):
        style = "dot main collapsed" if dot.collapsed else "dot main seed"
        label = f"{dot.label}: {dot.value:.2f} %" + (" (collapsed)" if dot.collapsed else "")
        figure.dot(figure.at_x(dot.value), base - row * (2 * radius + 2), style, radius, label)
    return figure.svg()


def _stacked(dots: Sequence[Dot], at: Callable[[float], float], apart: float) -> list[int]:
    """The row of each dot: equal seeds are stacked, so that each is seen."""
    placed: list[tuple[float, int]] = []
    for dot in dots:
        x, row = at(dot.value), 0
        while any(abs(x - other) < apart and row == taken for other, taken in placed):
            row += 1
        placed.append((x, row))
    return [row for _, row in placed]


def error_by_steps(base: StepPoint, adapted: Sequence[StepPoint], what: str) -> Markup:
    """Error against steps of further pre-training, with interval bars; the base encoder stands at step 0.

    Encoders of one corpus are joined by a line that starts at the base; several such lines have the corpus' name at
    their end. The dashed line is the base encoder's error.
    """
    every = [base, *adapted]
    # A wide interval of two or three seeds may leave 0..100, where no error can lie: the drawing stops there.
    bars = {point: (max(0.0, point.low), min(100.0, point.high)) for point in every}
    y_ticks = ticks(min(low for low, _ in bars.values()), max(high for _, high in bars.values()), 6)
    y_axis = Axis.of([y for y in y_ticks if 0 <= y <= 100], lambda y: f"{y:g} %")
    x_axis = Axis.of(ticks(0, max(point.steps for point in every), 6), _steps, "steps of further pre-training", 14.0)
    legend = [Key("main", f"{what}, adapted encoder"), Key("other", "base encoder")]
    title = f"{what} against steps of further pre-training"
    figure = Figure(title, "steps", 640, 234, x_axis, y_axis, legend=legend)
    level = figure.at_y(base.error)
    figure.stroke("line other", figure.left, level, figure.right, level)
    corpora = list(dict.fromkeys(point.corpus for point in adapted))
    for corpus in corpora:
        line = [base, *sorted((point for point in adapted if point.corpus == corpus), key=lambda point: point.steps)]
        figure.line([(point.steps, point.error) for point in line], "main")
        if len(corpora) > 1:
            end = figure.at_x(line[-1].steps) - 9, figure.at_y(line[-1].error) - 7
            figure.text(*end, short(corpus or "unknown corpus", LABEL_LENGTH), "end", "legend")
    for point in every:
        kind = "other" if point is base else "main"
        label = f"{point.name}, {point.steps:,} steps: {point.error:.2f} % ({point.low:.2f} to {point.high:.2f})"
        figure.whisker(point.steps, *bars[point], kind)
        figure.dot(figure.at_x(point.steps), figure.at_y(point.error), f"dot {kind}", 5, label)
    return figure.svg()


def differences(
    gaps: Sequence[Gap], what: str, minus: str = "adapted minus base", base: str = "the base encoder"
) -> Markup:
    """A row for each adapted encoder: its difference from the base with its interval, beside a line at zero.

    `minus` and `base` say what is compared, where it is something else.
    """
    under = f"← fewer errors than {base} · points of {what} · more →"
    return gap_rows(gaps, f"difference in {what}, {minus}", under)


def gap_rows(gaps: Sequence[Gap], title: str, under: str) -> Markup:
    """A row for each difference with its interval, a ring for the paper's, and a line at zero; `under` the axis."""
    gaps = [gap for gap in gaps if all(map(math.isfinite, gap[1:4]))]
    if not gaps:
        return Markup("")
    every = [0.0, *(v for gap in gaps for v in (*gap[1:4], gap.ring) if v is not None)]
    axis = Axis.of(ticks(min(every), max(every), 7), _signed, under)
    rows = Axis.rows([short(gap.name, LABEL_LENGTH) for gap in gaps])
    figure = Figure(title, "steps", 660, 34 * len(gaps), axis, rows, grid="x", zero=True)
    for number, gap in enumerate(gaps):
        y = figure.at_y(number + 0.5)
        figure.interval(gap.low, gap.high, y)
        tip = f"{gap.name}: {gap.points:+.2f} points ({gap.low:+.2f} to {gap.high:+.2f})"
        figure.dot(figure.at_x(gap.points), y, "dot main", 5, tip)
        if gap.ring is not None:
            figure.dot(figure.at_x(gap.ring), y, "ring", 6, f"the paper: {gap.ring:+.2f} points")
    return figure.svg()


def error_lines(lines: Sequence[Line], what: str, over: str, stretched: bool) -> Markup:
    """Lines with whiskers; `stretched`: the places are evenly spaced, as their values grow by factors."""
    lines = [line for line in lines if line.points]
    if not lines:
        return Markup("")
    every = [point for line in lines for point in line.points]
    xs = sorted({point.x for point in every})
    y_axis = Axis.of(ticks(min(p.low for p in every), max(p.high for p in every), 6), lambda y: f"{y:g}")
    places = {x: float(xs.index(x)) if stretched else x for x in xs}
    shown = xs if stretched else [x for x in ticks(xs[0], xs[-1], 7) if xs[0] <= x <= xs[-1]]
    marks = [Mark(places[x] if stretched else x, f"{x:,.10g}") for x in shown]
    low, high = places[xs[0]], places[xs[-1]]
    x_axis = Axis(low, high, marks if low < high else [Mark(low, f"{xs[0]:,.10g}")], over, 14.0 + 4 * len(lines))
    legend = [Key("", what), *(Key(MARKS[i % len(MARKS)], short(line.name, 60)) for i, line in enumerate(lines))]
    figure = Figure(f"{what} over {over}", "steps", 680, 250, x_axis, y_axis, legend=legend, upright=True)
    apart = 8 if stretched else 0
    for number, line in enumerate(lines):
        kind = MARKS[number % len(MARKS)]
        aside = apart * (number - (len(lines) - 1) / 2)  # so that no line's whisker hides another's
        figure.line([(places[p.x], p.y) for p in line.points], kind, aside)
        for p in line.points:
            if p.high > p.low:
                figure.whisker(places[p.x], p.low, p.high, kind, aside)
            tip = f"{p.label}: {p.x:,.10g}, {p.y:.4g}"
            figure.dot(figure.at_x(places[p.x]) + aside, figure.at_y(p.y), f"dot {kind}", 4, tip)
    return figure.svg()


def confusion_matrix(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> Markup:
    """A heat map with the counts: rows are the true classes, columns the predicted ones.

    A cell's shade is its share of its row, correct answers in one colour and confusions in another. The drawing has
    a fixed size, so that counts stay readable; the page lets it scroll.
    """
    size = len(names)
    cell = max(18, min(72, 560 // max(size, 1)))
    font = 13.0 if cell >= 34 else 8.0
    label_font, cut = (12.0, 26) if cell >= 30 else (10.0, 22)
    right_answers = sum(confusion[i][i] for i in range(size))
    total = sum(sum(row) for row in confusion)
    title = f"Confusion matrix of {size} classes: {right_answers} of {total} documents are right"
    field = Cells(title, names, names, (cell, cell), label_font, "true class", "predicted class", cut)
    left, top, end = field.left, field.top, size * cell
    field.parts.append(f'<rect class="field" x="{left}" y="{top}" width="{end}" height="{end}"/>')
    for i in range(5, size, 5) if size > 20 else ():  # the eye needs a guide from a cell to its labels
        x, y = left + i * cell, top + i * cell
        field.parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{top + end}"/>')
        field.parts.append(f'<line class="grid" x1="{left}" x2="{left + end}" y1="{y}" y2="{y}"/>')
    for i, row in enumerate(confusion):
        for j, count in enumerate(row):
            if count:
                share = count / sum(row)
                tip = f"{names[i]} → {names[j]}: {count:,} ({100 * share:.1f} %)"
                # A root keeps rare confusions visible beside a diagonal near 1.
                shade, style = 0.08 + 0.92 * math.sqrt(share), "right" if i == j else "wrong"
                field.cell(i, j, _brief(count, cell, font), shade, tip, style, font)
    return field.svg()


def deciding(windows: Sequence[WindowWeight]) -> int:
    """The place of the window of the highest weight, the first of equals."""
    return max(range(len(windows)), key=lambda place: windows[place]["weight"])


def window_bars(windows: Sequence[WindowWeight]) -> Markup:
    """What each window of a document added to its answer, in the order of the text: up for it, down against it."""
    weights = [window["weight"] for window in windows]
    if not weights or not all(map(math.isfinite, weights)):
        return Markup("")
    highest, lowest = max(0.0, *weights), min(0.0, *weights)
    scale = WINDOWS_HEIGHT / ((highest - lowest) or 1.0)
    step = min(WINDOWS_WIDTH / len(windows), WIDEST)
    gap = min(1.5, step / 4)
    zero = highest * scale
    best = deciding(windows)
    title = "What each window adds, in the order of the text"
    parts = [svg_start(math.ceil(step * len(windows)), WINDOWS_HEIGHT, title, "windows", True)]
    for place, (window, weight) in enumerate(zip(windows, weights, strict=True)):
        top, height = (zero - weight * scale, weight * scale) if weight >= 0 else (zero, -weight * scale)
        kind = "against" if weight < 0 else "decided" if place == best else "for"
        tip = f"tokens {whole(window['start'])} to {whole(window['start'] + window['tokens'])}: {weight:+.3f}"
        parts.append(
            f'<rect class="{kind}" x="{place * step:.1f}" y="{top:.1f}" width="{step - gap:.1f}" '
            f'height="{max(height, 1.0):.1f}"><title>{escape(tip)}</title></rect>'
        )
    parts.append(f'<line class="axis" x1="0" x2="{step * len(windows):.1f}" y1="{zero:.1f}" y2="{zero:.1f}"/></svg>')
    return Markup("".join(parts))


def _brief(count: int, cell: int, font: float) -> str:
    """The count, or thousands of it where it would not fit its cell."""
    text = str(count)
    if len(text) * font * 0.58 <= cell - 1:
        return text
    return f"{count / 1e6:.0f}M" if count >= 1e6 else f"{count / 1000:.0f}k"


def _steps(x: float) -> str:
    return f"{x / 1000:g}k" if x >= 1000 else f"{x:g}"


def _signed(value: float) -> str:
    return f"{'' if value == 0 else '+' if value > 0 else '−'}{abs(value):g}"
