"""vsgen preflight and vsgen baseline, on a host with a stand-in for ComfyUI and one for the GPU's driver."""

import json
from pathlib import Path

import pytest
from live import Stack
from typer.testing import CliRunner

from functions.adapters import hardware
from functions.config import config
from functions.ctl import app
from functions.stack.seed import tiny_model

#: What nvidia-smi 580 answers for the fields asked for, on a card without ECC and on one with it.
SAYS = ["NVIDIA L4, 23034, 512, 580.95.05, 47, 0", "NVIDIA GeForce RTX 3060, 12288, 300, 580.95.05, 38, [N/A]"]


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An nvidia-smi that says what `says` holds."""
    says, program = tmp_path / "says", tmp_path / "bin" / "nvidia-smi"
    says.write_text("\n".join(SAYS) + "\n")
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat {says}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return says


def findings(*arguments: str, exit_code: int) -> dict[str, list[dict[str, object]]]:
    done = CliRunner().invoke(app, ["preflight", "--json", *arguments])
    assert done.exit_code == exit_code, done.output
    found: dict[str, list[dict[str, object]]] = {}
    for one in json.loads(done.stdout)["findings"]:
        found.setdefault(one["subject"], []).append(one)
    return found


def test_a_host_is_told_what_it_has_and_which_pools_it_fits(
    stack: Stack, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOLS", "v12:12=sdxl,v24:24=high-vram")
    config.cache_clear()
    found = findings(exit_code=0)
    assert [one["words"] for one in found["gpu"]] == [
        "NVIDIA L4, 22 GiB, driver 580.95.05",
        "NVIDIA GeForce RTX 3060, 12 GiB, driver 580.95.05",
    ]
    assert found["pools"][0]["figures"] == {"pools": ["v12"], "tags": ["sdxl", "v12"]}
    assert found["comfyui"][0]["ok"]
    assert {one["ok"] for one in found["workflow"]} == {True}
    for subject, figure in (("disk", "write_mib_per_s"), ("s3", "write_mib_per_s"), ("s3", "read_mib_per_s")):
        assert found[subject][0]["figures"][figure] > 0  # type: ignore[index]
    monkeypatch.undo()
    config.cache_clear()


def test_a_sick_gpu_and_a_comfyui_that_is_gone_are_named_and_the_other_looks_go_on(
    stack: Stack, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.write_text("NVIDIA L4, 23034, 512, 580.95.05, 93, 4\n")
    monkeypatch.setenv("COMFYUI_URL", "http://127.0.0.1:9")
    config.cache_clear()
    found = findings(exit_code=1)
    assert "4 uncorrected memory errors" in str(found["gpu"][0]["words"])
    assert "93 °C" in str(found["gpu"][0]["words"])
    assert found["comfyui"][0]["ok"] is False
    assert found["postgres"][0]["ok"]
    monkeypatch.undo()
    config.cache_clear()


def test_a_host_without_a_gpu_may_be_fit(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hardware.gpus() == []
    assert findings(exit_code=0)["gpu"][0]["ok"] is None


def test_a_baseline_tells_cold_from_warm_and_is_kept_with_the_host_it_was_measured_on(
    stack: Stack, tmp_path: Path
) -> None:
    kept, model = tmp_path / "baseline.jsonl", "baseline.safetensors"
    folder = Path(stack.house.env["COMFYUI_MODELS_DIR"]) / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / model).write_bytes(tiny_model(model))
    asked = ["baseline", "--model", model, "--size", "64x64", "--steps", "2", "--runs", "2", "--keep", str(kept)]
    for _ in range(2):
        done = CliRunner().invoke(app, [*asked, "--json"])
        assert done.exit_code == 0, done.output
    first, second = (json.loads(line) for line in kept.read_text().splitlines())
    assert first["host"] == second["host"]
    assert first["host"]["cores"]
    [size] = first["sizes"]
    assert (size["width_px"], size["steps"], len(size["warm_s"])) == (64, 2, 2)
    assert size["cold_s"] > 0


def test_a_size_that_is_none_is_refused() -> None:
    done = CliRunner().invoke(app, ["baseline", "--model", "m", "--size", "huge"])
    assert done.exit_code != 0
    assert "'huge' is no size" in str(done.exception)
