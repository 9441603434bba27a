"""Small charts as inline SVG: lines over epochs, and bars. They take the page's colours, and can be printed.

Not for: figures as files (`vaekit.plot`).
"""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 10, 30


@dataclass(frozen=True)
class ChartLine:
    """One line of a chart.

    Arguments:
        name: Name in the legend.
        points: (x, y), by ascending x.
        style: Number of its colour, from 0.
        dashed: Whether to dash it, as for validation.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: int = 0
    dashed: bool = False


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from low to high, with at most `most` equal steps between them.

    >>> ticks(0, 97)
    [0.0, 20.0, 40.0, 60.0, 80.0]
    """
    span = high - low
    if not span > 0:
        return [low]
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10, 20) if span / (power * m) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(title: str, drawn: Sequence[ChartLine], *, x_name: str = "epoch") -> str:
    """A chart of lines, with a legend below, and a description for screen readers."""
    finite_lines = [ChartLine(line.name, _finite(line.points), line.style, line.dashed) for line in drawn]
    finite_lines = [line for line in finite_lines if line.points]
    if not finite_lines:
        return ""
    xs = [x for line in finite_lines for x, _ in line.points]
    # The first epochs are often far above all others: the axis ends three spreads above the later half.
    late = sorted(y for line in finite_lines for _, y in line.points[len(line.points) // 2 :])
    all_y = [y for line in finite_lines for _, y in line.points]
    low, high = min(all_y), max(all_y)
    reach = late[-1] + 3 * (late[-1] - min(late[0], low))
    high = min(high, reach) if reach > late[-1] else high
    low, high = (low - 0.5, high + 0.5) if high <= low else (low, high + 0.04 * (high - low))
    left, right = min(xs), max(max(xs), min(xs) + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        return across, TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)

    drawing = []
    for line in finite_lines:
        places = [place(*point) for point in line.points]
        dashes = ' stroke-dasharray="5 3"' if line.dashed else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawing.append(f'<polyline points="{path}" class="line s{line.style % 6}"{dashes}/>')
        if len(places) <= 30:
            drawing += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" class="dot s{line.style % 6}"/>' for x, y in places]
    top, height = TOP - 6, HEIGHT - BOTTOM - TOP + 10
    inside = (
        f'<svg y="{top}" width="{WIDTH}" height="{height}" viewBox="0 {top} {WIDTH} {height}">{"".join(drawing)}</svg>'
    )
    below = f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" class="end">{html.escape(x_name)}</text>'
    if max(all_y) > high:
        title = f"{title}; the part above {high:.3g} is cut off"
    description = "; ".join(
        f"{line.name}: {line.points[0][1]:.4g} to {line.points[-1][1]:.4g}" for line in finite_lines
    )
    content = _grid(left, right, low, high, place) + inside + below
    return _figure(title, description, content, _legend(finite_lines) if len(finite_lines) > 1 else "")


def _legend(drawn: Sequence[ChartLine]) -> str:
    return "".join(
        f'<span class="key s{line.style % 6}{" dashed" if line.dashed else ""}">{html.escape(line.name)}</span>'
        for line in drawn
    )


def bars(title: str, values: Sequence[tuple[str, float]], unit: str) -> str:
    """A chart of bars, one beside the other, each with its name."""
    if not values:
        return ""
    high = max(max(value for _, value in values), 1e-9) * 1.05
    width = (WIDTH - LEFT - RIGHT) / len(values)

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + x * width, TOP + (high - max(y, 0)) / high * (HEIGHT - TOP - BOTTOM)

    parts = [_grid(0, 0, 0, high, place)]
    every = max(1, math.ceil(len(values) * 22 / (WIDTH - LEFT - RIGHT)))
    for i, (name, value) in enumerate(values):
        x, y = place(i, value)
        bar = f'x="{x + 0.12 * width:.1f}" y="{y:.1f}" width="{0.76 * width:.1f}" height="{HEIGHT - BOTTOM - y:.1f}"'
        parts.append(
            f'<rect {bar} class="bar"><title>{html.escape(name)}: {value:.3g} {html.escape(unit)}</title></rect>'
        )
        if i % every == 0:
            parts.append(
                f'<text x="{x + width / 2:.1f}" y="{HEIGHT - BOTTOM + 14}" class="mid">{html.escape(name)}</text>'
            )
    description = ", ".join(f"{name} {value:.3g}" for name, value in values)
    return _figure(f"{title}, {unit}" if unit else title, description, "".join(parts), "")


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _grid(
    left: float, right: float, low: float, high: float, place: Callable[[float, float], tuple[float, float]]
) -> str:
    """Horizontal lines at round numbers; below, whole numbers, unless the axis has no length."""
    parts = []
    for y in ticks(low, high):
        _, down = place(left, y)
        parts.append(f'<path d="M{LEFT} {down:.1f}H{WIDTH - RIGHT}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down + 4:.1f}" class="end">{y:g}</text>')
    for x in ticks(left, right) if right > left else []:
        if x == round(x):
            across, _ = place(x, low)
            parts.append(f'<text x="{across:.1f}" y="{HEIGHT - BOTTOM + 14}" class="mid">{x:g}</text>')
    return "".join(parts)


def _figure(title: str, summary: str, content: str, legend: str) -> str:
    name = html.escape(title)
    label = html.escape(f"{title}. {summary}", quote=True)
    return (
        f"<figure class=chart><figcaption>{name}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{content}</svg>'
        f"{f'<p class=legend>{legend}</p>' if legend else ''}</figure>"
    )
