"""Pictures worth showing, painted in milliseconds from a description.

A landscape: sky, sun or moon, ridges fading into the distance, water or meadow, and on pictures of 256 px and more the
words and the seed that made it. The same description and index give the same bytes.
"""

import hashlib
import io
import json
import math
import random
import re
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps
from PIL.PngImagePlugin import PngInfo

from functions.standin import palette
from functions.standin.palette import WATER, Color, Light, blend
from functions.standin.values import Pictures, Plain, Scene, Stored

CAPTION_FROM_PX = 256
CANVAS_PX = 1536  # longest side of the drawing before it is fitted to its size: twice over, edges come out smooth
PREVIEW_PX = 512


def png(pictures: Pictures, index: int, *, chunks: dict[str, Any], compress_level: int) -> bytes:
    """One picture of a batch as PNG; each chunk is JSON-encoded text in the file, as SaveImage embeds it."""
    info = PngInfo()
    for name, value in chunks.items():
        info.add_text(name, json.dumps(value))
    buffer = io.BytesIO()
    picture(pictures, index).save(buffer, format="PNG", pnginfo=info, compress_level=compress_level)
    return buffer.getvalue()


def preview(pictures: Pictures, part: float) -> bytes:
    """What a sampler shows on its way: the first picture at up to 512 px, out of focus until `part` is 1, as JPEG."""
    scale = PREVIEW_PX / max(pictures.width_px, pictures.height_px)
    size = {
        "width_px": max(1, round(pictures.width_px * scale)),
        "height_px": max(1, round(pictures.height_px * scale)),
    }
    image = picture(pictures.sized(**size), 0, caption=False)
    image = image.filter(ImageFilter.GaussianBlur(24 * (1 - part)))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def size_px(path: Path) -> tuple[int, int]:
    """Width and height of an image file."""
    with Image.open(path) as image:
        return image.size


def picture(pictures: Pictures, index: int, *, caption: bool = True) -> Image.Image:
    """One picture of a batch, RGB."""
    size = (pictures.width_px, pictures.height_px)
    match pictures.subject:
        case Plain(color=color):
            image = Image.new("RGB", size, f"#{color:06x}")
        case Stored(path=path):
            with Image.open(path) as stored:
                image = stored.convert("RGB").resize(size)
        case Scene() as scene:
            image = _landscape(scene, index, size)
            if caption and min(size) >= CAPTION_FROM_PX:
                _sign(image, scene, index)
    return ImageOps.invert(image) if pictures.inverted else image


def _landscape(scene: Scene, index: int, size: tuple[int, int]) -> Image.Image:
    chance = random.Random(hashlib.sha256(f"{scene.digest}/{index}".encode()).digest())  # noqa: S311 - a picture
    words = {word.removesuffix("s") for word in re.findall(r"\w+", scene.words.lower())}
    light = palette.light(words, chance)
    scale = CANVAS_PX / max(size)
    width, height = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    horizon = round(height * chance.uniform(0.52, 0.64))
    image = _sky(light, width, height, horizon)
    sun = (chance.uniform(0.2, 0.8) * width, horizon - chance.uniform(0.12, 0.36) * height)
    _shine(image, light, sun, radius=min(width, height) * chance.uniform(0.045, 0.075))
    draw = ImageDraw.Draw(image)
    if light.night:
        _stars(draw, chance, width, horizon)
    wet = bool(words & WATER) or chance.random() < 0.3
    _ridges(draw, light, chance, size=(width, height), horizon=horizon, wet=wet)
    if wet:
        _water(image, light, chance, horizon, sun[0])
    else:
        _birds(draw, light, chance, width, horizon)
    return image.resize(size, Image.Resampling.LANCZOS if scale > 1 else Image.Resampling.BICUBIC)


def _column(top: Color, bottom: Color, width: int, height: int, *, bend: float = 1.0) -> Image.Image:
    """A vertical gradient; bend above 1 keeps the top's colour longer."""
    column = Image.new("RGB", (1, max(height, 1)))
    last = max(height - 1, 1)
    column.putdata([blend(top, bottom, (row / last) ** bend) for row in range(max(height, 1))])
    return column.resize((width, max(height, 1)), Image.Resampling.NEAREST)


def _sky(light: Light, width: int, height: int, horizon: int) -> Image.Image:
    image = Image.new("RGB", (width, height), light.horizon)
    image.paste(_column(light.zenith, light.horizon, width, horizon, bend=1.15), (0, 0))
    return image


def _shine(image: Image.Image, light: Light, center: tuple[float, float], *, radius: float) -> None:
    """A disc of light and the glow around it."""
    small = (max(1, image.width // 8), max(1, image.height // 8))
    x, y = center[0] / 8, center[1] / 8
    glow = Image.new("L", small, 0)
    draw = ImageDraw.Draw(glow)
    for ring in range(24, 0, -1):
        reach = radius / 8 * (1 + ring * 0.28)
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=round(150 * (1 - ring / 25) ** 2))
    glow = glow.filter(ImageFilter.GaussianBlur(radius / 20 + 1)).resize(image.size, Image.Resampling.BICUBIC)
    image.paste(light.light, (0, 0), glow)
    x, y = center
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=light.light)


def _stars(draw: ImageDraw.ImageDraw, chance: random.Random, width: int, horizon: int) -> None:
    for _ in range(140):
        x, y, size = chance.uniform(0, width), chance.uniform(0, horizon * 0.85), chance.uniform(0.6, 2.4)
        shade = chance.randint(150, 240)
        draw.ellipse((x - size, y - size, x + size, y + size), fill=(shade, shade, 255))


def _ridges(
    draw: ImageDraw.ImageDraw, light: Light, chance: random.Random, *, size: tuple[int, int], horizon: int, wet: bool
) -> None:
    """Ridges from far to near, each darker, lower and rougher; over water only the far ones stand."""
    width, height = size
    count = 3 if wet else 5
    for ridge in range(count):
        near = ridge / 4
        color = blend(blend(light.horizon, light.far, 0.55), light.near, near**0.9)
        base = horizon - height * 0.05 * (1 - near) if wet else horizon + (height - horizon) * (near**1.25) * 0.8
        rise = height * chance.uniform(0.05, 0.11) * (1.25 - near * 0.5)
        waves = [
            (chance.uniform(0.7, 1.6) * 2**octave, chance.uniform(0, math.tau), rise / 1.9**octave)
            for octave in range(5 if near < 0.7 else 4)
        ]
        line = []
        for x in range(0, width + 8, 6):
            at = x / width * math.tau
            lift = sum(tall * math.sin(at * often + phase) for often, phase, tall in waves)
            line.append((x, min(base - lift * 0.6, horizon if wet else height)))
        floor = horizon if wet else height
        draw.polygon([(0, floor), *line, (width + 8, floor)], fill=color)


def _water(image: Image.Image, light: Light, chance: random.Random, horizon: int, sun_x: float) -> None:
    """Below the horizon the sky comes back darker, rippled, with a path of light under the sun."""
    width, height = image.size
    depth = height - horizon
    mirror = ImageOps.flip(image.crop((0, max(0, horizon - depth), width, horizon))).resize((width, depth))
    mirror = mirror.filter(ImageFilter.BoxBlur(6))
    tint = _column(blend(light.horizon, light.far, 0.5), light.near, width, depth, bend=0.8)
    image.paste(Image.blend(mirror, tint, 0.55), (0, horizon))
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(170):
        part = chance.random() ** 1.4
        y = horizon + 4 + part * (depth - 6)
        path = chance.random() < 0.55
        reach = width * (0.012 + 0.05 * part) * chance.uniform(0.5, 1.4)
        x = chance.gauss(sun_x, width * (0.02 + 0.06 * part)) if path else chance.uniform(0, width)
        thick = 1 + 3.2 * part
        color = light.light if path else blend(light.horizon, light.light, 0.3)
        draw.rounded_rectangle(
            (x - reach, y - thick / 2, x + reach, y + thick / 2), thick / 2, (*color, 120 if path else 46)
        )


def _birds(draw: ImageDraw.ImageDraw, light: Light, chance: random.Random, width: int, horizon: int) -> None:
    x, y = chance.uniform(0.15, 0.75) * width, chance.uniform(0.25, 0.55) * horizon
    color = blend(light.near, light.zenith, 0.25)
    for _ in range(chance.randint(3, 6)):
        span = chance.uniform(0.008, 0.014) * width
        for side in (-1, 1):
            box = sorted((x, x + side * span))
            draw.arc((box[0], y - span / 4, box[1], y + span / 2), 190, 350, fill=color, width=3)
        x, y = x + chance.uniform(-0.05, 0.07) * width, y + chance.uniform(-0.03, 0.035) * horizon


def _sign(image: Image.Image, scene: Scene, index: int) -> None:
    """The words and the seed on a shade at the foot of the picture."""
    width, height = image.size
    margin = round(min(width, height) * 0.045)
    size = max(13, round(min(width, height) * 0.042))
    font, small = ImageFont.load_default(size), ImageFont.load_default(max(11, round(size * 0.68)))
    lines = _wrapped(" ".join(scene.words.split()), font, width - 2 * margin)
    step = round(size * 1.25)
    foot = f"seed {scene.seed}" + (f"  ·  {index + 1}" if index else "")
    tall = step * len(lines) + round(size * 1.1)
    shade_height = min(height, tall + 3 * margin)
    shade = _column((0, 0, 0), (170, 170, 170), width, shade_height, bend=1.0).convert("L")
    image.paste((8, 8, 16), (0, height - shade_height), shade)
    draw = ImageDraw.Draw(image)
    y = height - margin - tall
    for line in lines:
        draw.text((margin, y), line, font=font, fill=(255, 255, 255))
        y += step
    draw.text((margin, y + round(size * 0.2)), foot, font=small, fill=(214, 218, 230))


def _wrapped(text: str, font: Any, width_px: int, *, most: int = 3) -> list[str]:
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width_px:
            lines.append(line)
            line = word
        else:
            line = longer
    lines.append(line)
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1] + " …"]
    return [_shortened(line, font, width_px) for line in lines if line]


def _shortened(line: str, font: Any, width_px: int) -> str:
    while len(line) > 2 and font.getlength(line) > width_px:
        line = line[:-2].rstrip() + "…"
    return line
