"""The package in our ComfyUI image that tells of the GPU, on a server of aiohttp's and a driver that is a few lines."""

import asyncio
import importlib.util
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from functions.standin.behaviour import Gpu

PACKAGE = Path(__file__).parents[1] / "comfy-image" / "custom_nodes" / "visionsuit_gpu" / "__init__.py"


class NVMLError(Exception):
    pass


class Driver(types.ModuleType):
    """As much of pynvml as the package asks; what is in `mute` it does not support."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = NVML_MEMORY_ERROR_TYPE_UNCORRECTED = NVML_VOLATILE_ECC = 0
    nvmlEventTypeXidCriticalError = 8

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.mute: set[str] = set()
        self.xids: list[int] = []
        self.values = {
            "nvmlInit": None,
            "nvmlDeviceGetHandleByIndex": "device",
            "nvmlSystemGetDriverVersion": "580.95.05",
            "nvmlDeviceGetUUID": b"GPU-1",
            "nvmlDeviceGetName": "NVIDIA L4",
            "nvmlDeviceGetUtilizationRates": types.SimpleNamespace(gpu=97),
            "nvmlDeviceGetMemoryInfo": types.SimpleNamespace(total=24 << 30, used=9 << 30),
            "nvmlDeviceGetTemperature": 71,
            "nvmlDeviceGetTotalEccErrors": 0,
            "nvmlEventSetCreate": "events",
            "nvmlDeviceRegisterEvents": None,
        }

    def __getattr__(self, name: str) -> Any:
        def ask(*_: Any) -> Any:
            if name in self.mute:
                raise NVMLError(f"{name} is not supported")
            if name == "nvmlEventSetWait_v2":
                if not self.xids:
                    raise NVMLError("timeout")
                return types.SimpleNamespace(eventData=self.xids.pop(0))
            return self.values[name]

        return ask


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    driver = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    yield driver


@pytest.fixture
def ask(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Ask the package as ComfyUI loads it; gives status and answer."""
    routes = web.RouteTableDef()
    server = types.ModuleType("server")
    server.PromptServer = types.SimpleNamespace(instance=types.SimpleNamespace(routes=routes))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "server", server)
    spec = importlib.util.spec_from_file_location("/opt/comfyui/custom_nodes/visionsuit_gpu", PACKAGE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.NODE_CLASS_MAPPINGS == {}
    [route] = list(routes)
    assert isinstance(route, web.RouteDef)
    assert (route.method, route.path) == ("GET", "/visionsuit/gpu")

    def answer() -> tuple[int, Any]:
        said: Any = asyncio.run(route.handler(None))  # type: ignore[arg-type]
        return said.status, json.loads(said.text)

    yield answer


def test_it_tells_what_the_stand_in_s_does(ask: Any) -> None:
    status, told = ask()
    assert status == 200
    assert Gpu.model_validate(told) == Gpu(uuid="GPU-1", name="NVIDIA L4")


def test_what_a_card_does_not_support_is_null_and_the_rest_is_told(ask: Any, driver: Driver) -> None:
    driver.mute = {"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTotalEccErrors", "nvmlDeviceRegisterEvents"}
    _, told = ask()
    assert [told[name] for name in ("utilisation_percent", "ecc_errors", "xid_errors")] == [None, None, None]
    assert told["temperature_c"] == 71


def test_critical_events_are_kept_from_one_look_to_the_next(ask: Any, driver: Driver) -> None:
    ask()
    driver.xids = [79, 48]
    assert ask()[1]["xid_errors"] == [79, 48]
    driver.xids = [31]
    assert ask()[1]["xid_errors"] == [79, 48, 31]


def test_without_a_driver_it_says_why_and_tries_again(ask: Any, driver: Driver) -> None:
    driver.mute = {"nvmlInit"}
    assert ask() == (503, {"error": "nvmlInit is not supported"})
    driver.mute = set()
    assert ask()[0] == 200
