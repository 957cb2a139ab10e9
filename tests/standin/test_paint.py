"""The pictures: the same wish, the same bytes; another wish, another picture; fast enough to be no bother."""

import io
from dataclasses import replace

import pytest
from PIL import Image, ImageChops, ImageStat

from functions.standin import paint
from functions.standin.values import Pictures, Plain, Scene

DUSK = Pictures(subject=Scene(words="a lighthouse at dusk", seed=1, digest="d1"), width_px=320, height_px=256)


def wish(**changes: object) -> Pictures:
    return replace(DUSK, subject=replace(DUSK.subject, **changes))  # type: ignore[type-var]


def bytes_of(pictures: Pictures, index: int = 0) -> bytes:
    return paint.png(pictures, index, chunks={"prompt": {"1": "x"}}, compress_level=4)


def test_the_same_wish_gives_the_same_bytes() -> None:
    assert bytes_of(DUSK) == bytes_of(DUSK)


@pytest.mark.parametrize("changes", [{"seed": 2}, {"words": "a lighthouse at dawn"}, {"digest": "d2"}])
def test_another_wish_gives_another_picture(changes: dict[str, object]) -> None:
    assert bytes_of(wish(**changes)) != bytes_of(DUSK)


def test_each_picture_of_a_batch_is_its_own() -> None:
    assert len({bytes_of(DUSK, index) for index in range(4)}) == 4


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (16, 512), (512, 16), (1216, 832)])
def test_a_picture_has_the_size_asked_for(size: tuple[int, int]) -> None:
    picture = paint.picture(DUSK.sized(width_px=size[0], height_px=size[1]), 0)
    assert (picture.size, picture.mode) == (size, "RGB")


def test_large_pictures_are_signed_and_small_ones_are_not() -> None:
    for side, signed in ((256, True), (255, False)):
        pictures = DUSK.sized(width_px=side, height_px=side)
        bare = paint.picture(pictures, 0, caption=False)
        written = ImageChops.difference(paint.picture(pictures, 0), bare).getbbox() is not None
        assert written is signed


def test_long_prompts_odd_scripts_and_no_words_are_painted_too() -> None:
    for words in ("word " * 300, "x" * 500, "灯台 маяк 🌅", "", "\n\t"):
        assert paint.picture(wish(words=words), 0).size == (320, 256)


def test_the_embedded_text_is_json_per_chunk() -> None:
    with Image.open(io.BytesIO(bytes_of(DUSK))) as image:
        assert image.info == {"prompt": '{"1": "x"}'}


def test_a_plain_picture_is_one_colour_and_its_inverse_the_opposite() -> None:
    plain = Pictures(subject=Plain(color=0x102030), width_px=8, height_px=8)
    assert paint.picture(plain, 0).getcolors() == [(64, (0x10, 0x20, 0x30))]
    assert paint.picture(replace(plain, inverted=True), 0).getcolors() == [(64, (0xEF, 0xDF, 0xCF))]


def test_previews_come_into_focus() -> None:
    sharpness = []
    for part in (0.1, 0.5, 1.0):
        with Image.open(io.BytesIO(paint.preview(DUSK, part))) as image:
            assert max(image.size) == 512
            grey = image.convert("L")
            sharpness.append(ImageStat.Stat(ImageChops.difference(grey, ImageChops.offset(grey, 1))).mean[0])
    assert sharpness == sorted(sharpness)
