"""What the runner sees of its GPU, through a ComfyUI that tells of it, or does not."""

import socket

import pytest
from live import Stack, eventually

from functions.adapters import comfyui_gpu
from functions.adapters.comfyui_gpu import Gpu, GpuWatch


def test_a_comfyui_without_our_package_tells_nothing_and_nothing_fails(stack: Stack) -> None:
    with GpuWatch(stack.house.comfyui_url) as watch:
        pass
    assert watch.seen() == Gpu()


def test_a_comfyui_that_is_gone_tells_nothing_and_nothing_fails() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with GpuWatch(f"http://127.0.0.1:{bound.getsockname()[1]}") as watch:
            pass
    assert watch.seen() == Gpu()


def test_one_look_is_had_however_short_the_render(stack: Stack) -> None:
    stack.behave(gpu={"uuid": "GPU-1", "utilisation_percent": 97, "temperature_c": 71})
    with GpuWatch(stack.house.comfyui_url) as watch:
        pass
    assert watch.seen() == Gpu(uuid="GPU-1", utilisation_percent=97, temperature_c=71, errors=0)


def test_utilisation_is_the_mean_temperature_the_highest_and_errors_what_is_known_at_last(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfyui_gpu, "EVERY_S", 0.01)
    stack.behave(gpu={"uuid": "GPU-1", "utilisation_percent": 0, "temperature_c": 90})
    with GpuWatch(stack.house.comfyui_url) as watch:
        eventually(lambda: watch.seen().uuid)
        stack.behave(
            gpu={"uuid": "GPU-1", "utilisation_percent": 100, "temperature_c": 60, "ecc_errors": 2, "xid_errors": [79]}
        )
        eventually(lambda: watch.seen().errors == 3)
    seen = watch.seen()
    assert seen.temperature_c == 90
    assert 0 < (seen.utilisation_percent or 0) < 100


def test_what_a_card_does_not_tell_is_not_made_up(stack: Stack) -> None:
    stack.behave(gpu={"utilisation_percent": None, "temperature_c": None, "ecc_errors": None, "xid_errors": None})
    with GpuWatch(stack.house.comfyui_url) as watch:
        pass
    seen = watch.seen()
    assert (seen.utilisation_percent, seen.temperature_c, seen.errors) == (None, None, None)
