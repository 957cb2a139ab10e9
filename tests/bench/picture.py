"""The simulation's picture: for each load and order, who waits how long. Plain SVG, readable on light and dark."""

from collections.abc import Mapping
from html import escape

WIDTH, LEFT, RIGHT, TOP, ROW, GAP, PANEL_GAP = 860, 118, 28, 74, 17, 14, 62
COLOURS = {"first come": "#8a8f98", "plain priority": "#d08700", "ours": "#1769e0"}
INK, FAINT, BACK, GRID = "#24292f", "#57606a", "#ffffff", "#e3e6ea"
TICKS_MIN = (0, 1, 5, 15, 60, 120, 240, 480)
#: load -> who -> order -> (median, 95th percentile), minutes
Waits = Mapping[float, Mapping[str, Mapping[str, tuple[float, float]]]]


def draw(waits: Waits, *, caption: str) -> str:
    """One panel a load; in it one group a kind of user, with a line from the median to the 95th percentile an order.

    The axis is a root of the wait, so that a minute and six hours are both seen.
    """
    longest = max(p95 for by_who in waits.values() for by_order in by_who.values() for _, p95 in by_order.values())
    scale = (WIDTH - LEFT - RIGHT) / _root(longest * 1.05)
    parts: list[str] = []
    y = float(TOP)
    for load, by_who in waits.items():
        height = sum(len(by_order) * ROW + GAP for by_order in by_who.values())
        parts.append(_text(LEFT, y - 12, f"offered {load:.0%} of what the pool can render", weight=600))
        for minutes in (tick for tick in TICKS_MIN if tick <= longest * 1.05):
            x = LEFT + scale * _root(minutes)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y + height:.1f}" stroke="{GRID}"/>')
            label = f"{minutes} min" if minutes < 60 else f"{minutes // 60} h"
            parts.append(_text(x, y + height + 14, label, anchor="middle", fill=FAINT, size=11))
        for who, by_order in by_who.items():
            middle = y + GAP / 2 + len(by_order) * ROW / 2
            parts.append(_text(LEFT - 12, middle + 4, who, anchor="end"))
            for number, (order, (median, p95)) in enumerate(by_order.items()):
                at = y + GAP / 2 + (number + 0.5) * ROW
                near, far, colour = LEFT + scale * _root(median), LEFT + scale * _root(p95), COLOURS[order]
                parts.append(
                    f'<line x1="{near:.1f}" x2="{far:.1f}" y1="{at:.1f}" y2="{at:.1f}" stroke="{colour}" '
                    f'stroke-width="3" stroke-linecap="round" opacity="0.55"/>'
                    f'<circle cx="{near:.1f}" cy="{at:.1f}" r="4.5" fill="{colour}"/>'
                    f'<circle cx="{far:.1f}" cy="{at:.1f}" r="3.5" fill="{BACK}" stroke="{colour}" stroke-width="2"/>'
                )
            y += len(by_order) * ROW + GAP
        y += PANEL_GAP
    height = y - PANEL_GAP + 30
    x = float(LEFT)
    for order, colour in COLOURS.items():
        parts.append(f'<circle cx="{x + 5:.1f}" cy="34" r="4.5" fill="{colour}"/>' + _text(x + 15, 38, order))
        x += 24 + 7.4 * len(order) + 16
    parts.append(_text(WIDTH - RIGHT, 38, "filled: median, ring: 95th percentile", anchor="end", fill=FAINT, size=12))
    parts.append(_text(LEFT, 16, caption, weight=600, size=14))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">'
        f'<rect width="100%" height="100%" rx="8" fill="{BACK}"/>{"".join(parts)}</svg>\n'
    )


def _root(minutes: float) -> float:
    return float(minutes**0.4)


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", fill: str = INK, size: int = 13, weight: int = 400
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}" '
        f'font-weight="{weight}">{escape(words)}</text>'
    )
