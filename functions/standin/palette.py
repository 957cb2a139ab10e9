"""The colours of a landscape: chosen by the words of the prompt, or by chance where they name none."""

import colorsys
import random
from dataclasses import dataclass

Color = tuple[int, int, int]

PALETTES: dict[str, tuple[str, str, str, str, str]] = {
    # name: zenith, horizon, light, far ridge, near ridge
    "dusk": ("#2b2f6b", "#f39c7b", "#fff1d0", "#b5728f", "#221b3d"),
    "dawn": ("#7fb2dd", "#fde2c8", "#fffbe8", "#b7a9cf", "#3d3a63"),
    "day": ("#3f8fd2", "#d8eefa", "#fffdf0", "#9dc0cf", "#1e4f4c"),
    "night": ("#0a1030", "#34507f", "#f4f6ff", "#33466f", "#070b1c"),
    "gold": ("#d9803f", "#fbe3a4", "#fffbe2", "#d69a62", "#4a2418"),
    "forest": ("#86b8a5", "#eef3d6", "#ffffef", "#8fb59b", "#12342b"),
    "rose": ("#8c5f9c", "#ffd3d3", "#fff6ec", "#c48fb1", "#38203f"),
    "winter": ("#7f9fc4", "#f3f7fb", "#ffffff", "#b9cbe0", "#3a516f"),
}
WORDS = {  # which palette a prompt's words call for; a plural counts too
    "dusk": {"dusk", "sunset", "evening", "twilight"},
    "dawn": {"dawn", "sunrise", "morning", "mist", "misty"},
    "night": {"night", "moon", "star", "midnight", "dark", "space"},
    "gold": {"desert", "dune", "autumn", "gold", "golden", "warm"},
    "forest": {"forest", "jungle", "green", "tree", "meadow"},
    "winter": {"snow", "winter", "ice", "frost"},
}
WATER = {"sea", "ocean", "lake", "river", "beach", "harbour", "harbor", "lighthouse", "boat", "ship", "coast", "wave"}


@dataclass(frozen=True, kw_only=True)
class Light:
    """The colours of one picture."""

    zenith: Color
    horizon: Color
    light: Color
    far: Color
    near: Color
    night: bool


def light(words: set[str], chance: random.Random) -> Light:
    """The light of a picture of these words, its hue turned a little by chance."""
    named = [name for name, hints in WORDS.items() if words & hints]
    drawn = chance.choice(sorted(PALETTES))
    name = named[0] if named else drawn
    turn = chance.uniform(-0.035, 0.035)
    colors = [turned(color, turn) for color in PALETTES[name]]
    zenith, horizon, light, far, near = colors
    return Light(zenith=zenith, horizon=horizon, light=light, far=far, near=near, night=name == "night")


def turned(color: str, turn: float) -> Color:
    """A #rrggbb colour with its hue moved by a part of the circle."""
    red, green, blue = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    red, green, blue = colorsys.hls_to_rgb((hue + turn) % 1, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def blend(one: Color, two: Color, part: float) -> Color:
    """A colour between two: part 0 is the first, 1 the second."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, two, strict=True))
    return red, green, blue
