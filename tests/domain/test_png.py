"""A PNG tells what we have it tell, and shows what it showed."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from functions.domain.png import retold

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=500)


def picture(**said: str) -> bytes:
    """A small PNG that says something already."""
    info = PngImagePlugin.PngInfo()
    for keyword, text in said.items():
        info.add_text(keyword, text, zip=keyword == "zipped")
    file = io.BytesIO()
    Image.linear_gradient("L").resize((32, 24)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def read(png: bytes) -> tuple[dict[str, str], bytes]:
    """The texts and the pixels, as another program reads them."""
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return dict(image.text), image.tobytes()  # type: ignore[attr-defined]


@given(parameters=TEXT, prompt=TEXT)
def test_any_text_is_read_back_as_it_was_said_and_the_picture_stays(parameters: str, prompt: str) -> None:
    png = picture(prompt="of ComfyUI", zipped="more")
    texts, pixels = read(retold(png, {"parameters": parameters, "prompt": prompt}))
    assert texts == {"parameters": parameters, "prompt": prompt}
    assert pixels == read(png)[1]


def test_without_texts_a_picture_says_nothing() -> None:
    assert read(retold(picture(prompt="a secret", zipped="another"), {}))[0] == {}


def test_equal_pictures_that_say_different_things_become_equal_bytes() -> None:
    assert retold(picture(prompt="job-1"), {"parameters": "x"}) == retold(picture(prompt="job-2"), {"parameters": "x"})


@pytest.mark.parametrize("data", [b"", b"GIF89a", picture()[:-4], picture()[:40], picture()[:8]])
def test_what_is_no_whole_png_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="PNG"):
        retold(data, {})
