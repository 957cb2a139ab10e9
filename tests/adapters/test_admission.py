"""Which pool a request goes to, by the tags it asks for."""

import pytest

from functions import config
from functions.adapters import admission
from functions.domain.errors import Rejected


@pytest.mark.parametrize(
    ("tags", "pool"),
    [((), "small"), (("v24",), "v24"), (("sdxl",), "v24"), (("sdxl", "high-vram"), "v24"), (("video", "sdxl"), "v80")],
)
def test_a_job_goes_to_the_first_pool_that_offers_all_its_tags(
    monkeypatch: pytest.MonkeyPatch, tags: tuple[str, ...], pool: str
) -> None:
    found = config.read({"POOLS": "small,v24=high-vram+sdxl,v80=high-vram+sdxl+video"})
    monkeypatch.setattr(admission, "config", lambda: found)
    assert admission._pool(tags) == pool


def test_tags_that_no_pool_offers_together_are_refused_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = config.read({"POOLS": "small=fast,v24=sdxl"})
    monkeypatch.setattr(admission, "config", lambda: found)
    with pytest.raises(Rejected, match=r"no pool offers 'fast', 'sdxl'; there are small: fast, small; v24: sdxl, v24"):
        admission._pool(("fast", "sdxl"))
