"""The stand-in's switches: each fault happens when told, as often as told, and leaves what it should."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from comfy_server import Comfy
from replay import Socket

Start = Callable[..., Comfy]


def graph(*, seed: int = 1, steps: int = 3, prefix: str = "s/img", batch: int = 1, size: int = 64) -> dict[str, Any]:
    def node(class_type: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": class_type, "inputs": inputs}

    sampler = {"steps": steps, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="random_sd15.safetensors"),
        "2": node("CLIPTextEncode", clip=["1", 1], text="a lighthouse at dusk"),
        "3": node("CLIPTextEncode", clip=["1", 1], text="blurry"),
        "4": node("EmptyLatentImage", width=size, height=size, batch_size=batch),
        "5": node("KSampler", seed=seed, **sampler, **links),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", images=["6", 0], filename_prefix=prefix),
    }


def submit(comfy: Comfy, prompt_id: str, **wishes: Any) -> requests.Response:
    return comfy.post("/prompt", {"prompt": graph(**wishes), "prompt_id": prompt_id, "client_id": "me"})


def outcome(comfy: Comfy, prompt_id: str) -> dict[str, Any]:
    """The history entry, once there is one."""
    while not (found := comfy.get(f"/history/{prompt_id}").json()):
        time.sleep(0.01)
    entry: dict[str, Any] = found[prompt_id]
    return entry


def error_of(entry: dict[str, Any]) -> dict[str, Any]:
    kind, data = entry["status"]["messages"][-1]
    assert kind == "execution_error"
    told: dict[str, Any] = data
    return told


def image_of(comfy: Comfy, entry: dict[str, Any]) -> requests.Response:
    where = entry["outputs"]["7"]["images"][0]
    return requests.get(f"{comfy.url}/view", params=where, timeout=10)


@pytest.mark.parametrize(
    ("fault", "exception_type", "words"),
    [
        ("node_error", "RuntimeError", "told to fail"),
        ("out_of_memory", "torch.OutOfMemoryError", "TIPS"),
        ("out_of_memory_cpu", "RuntimeError", "DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_failing_node_ends_the_prompt_after_its_steps_and_the_next_one_runs(
    standin: Start, fault: str, exception_type: str, words: str
) -> None:
    comfy = standin()
    socket = Socket(comfy.url, "/ws?clientId=me")
    comfy.switch(fault=fault, after_steps=2)
    submit(comfy, "fails")
    entry = outcome(comfy, "fails")
    assert entry["status"]["status_str"] == "error"
    assert socket.until(lambda frames: frames[-1] == ended("fails"))
    error = error_of(entry)
    assert (error["node_id"], error["exception_type"]) == ("5", exception_type)
    assert words in error["exception_message"]
    steps = [
        frame["data"]["value"] for frame in socket.frames if isinstance(frame, dict) and frame["type"] == "progress"
    ]
    assert steps == [1, 2]
    submit(comfy, "works")
    assert image_of(comfy, outcome(comfy, "works")).ok
    socket.close()


def test_a_fault_strikes_as_often_as_it_was_armed(standin: Start) -> None:
    comfy = standin("--fault", '{"fault": "out_of_memory", "times": 2}')
    results = []
    for place in range(3):
        submit(comfy, str(place))
        results.append(outcome(comfy, str(place))["status"]["status_str"])
    assert results == ["error", "error", "success"]
    assert comfy.get("/standin/behaviour").json()["faults"] == []


def test_a_server_told_to_die_is_gone_mid_prompt(standin: Start) -> None:
    comfy = standin()
    socket = Socket(comfy.url, "/ws?clientId=me")
    comfy.switch(fault="die", after_steps=1)
    submit(comfy, "lost")
    assert socket.wait_lost()
    assert comfy.process is not None
    assert comfy.process.wait(10) == -9
    assert isinstance(socket.frames[-1], bytes), "the preview of the first step was the last that was heard"


def test_a_dead_worker_answers_and_prompts_pile_up(standin: Start) -> None:
    comfy = standin("--fault", "worker_dead")
    assert [submit(comfy, name).status_code for name in ("one", "two")] == [200, 200]
    queue = comfy.get("/queue").json()
    assert queue["queue_running"] == []
    assert [item[1] for item in queue["queue_pending"]] == ["one", "two"]
    assert comfy.get("/system_stats").ok


def test_a_worker_that_dies_in_a_node_leaves_its_prompt_running(standin: Start) -> None:
    comfy = standin("--fault", '{"fault": "worker_dead", "after_steps": 1}')
    socket = Socket(comfy.url, "/ws?clientId=me")
    submit(comfy, "one", steps=1)
    assert socket.until(lambda frames: any(isinstance(f, dict) and f["type"] == "progress" for f in frames))
    submit(comfy, "two")
    assert [item[1] for item in comfy.get("/queue").json()["queue_running"]] == ["one"]
    assert comfy.get("/history/one").json() == {}
    socket.close()


def test_a_stalled_prompt_stays_running_without_a_frame_until_it_is_released(standin: Start) -> None:
    comfy = standin()
    socket = Socket(comfy.url, "/ws?clientId=me")
    comfy.switch(fault="stall", after_steps=1)
    submit(comfy, "stalls")
    assert socket.until(lambda frames: any(isinstance(f, bytes) for f in frames))
    told = len(socket.frames)
    assert comfy.get("/standin/behaviour").json()["faults"] == []
    assert [item[1] for item in comfy.get("/queue").json()["queue_running"]] == ["stalls"]
    assert len(socket.frames) == told
    comfy.switch(clear=True)
    assert outcome(comfy, "stalls")["status"]["completed"] is True
    socket.close()


def test_deaf_sockets_hear_nothing_while_history_tells_all(standin: Start) -> None:
    comfy = standin("--fault", "deaf")
    socket = Socket(comfy.url, "/ws?clientId=me")
    assert socket.wait(1)
    submit(comfy, "unheard")
    assert outcome(comfy, "unheard")["status"]["completed"] is True
    submit(comfy, "heard", seed=2)
    assert socket.until(lambda frames: frames[-1] == ended("heard"))
    named = {frame["data"].get("prompt_id") for frame in socket.frames if isinstance(frame, dict)}
    assert "unheard" not in named
    socket.close()


def test_dropped_sockets_are_cut_and_the_prompt_runs_on(standin: Start) -> None:
    comfy = standin("--fault", '{"fault": "drop_sockets", "after_steps": 1}')
    socket = Socket(comfy.url, "/ws?clientId=me")
    submit(comfy, "runs-on")
    assert socket.wait_lost()
    assert image_of(comfy, outcome(comfy, "runs-on")).ok
    assert ended("runs-on") not in socket.frames


def test_a_success_without_a_file_names_one_that_is_not_there(standin: Start) -> None:
    comfy = standin("--fault", "no_file")
    submit(comfy, "empty-handed")
    entry = outcome(comfy, "empty-handed")
    assert entry["status"]["status_str"] == "success"
    assert image_of(comfy, entry).status_code == 404


def test_node_errors_come_with_a_200_and_the_prompt_runs(standin: Start) -> None:
    comfy = standin("--fault", "node_errors")
    answer = submit(comfy, "half").json()
    assert answer["node_errors"]["7"]["errors"][0]["type"] == "value_smaller_than_min"
    assert outcome(comfy, "half")["status"]["status_str"] == "success"


def test_history_may_lag_behind_success(standin: Start) -> None:
    comfy = standin("--fault", '{"fault": "history_lag", "lag_ms": 400}')
    socket = Socket(comfy.url, "/ws?clientId=me")
    submit(comfy, "lags")
    assert socket.until(lambda frames: isinstance(frames[-1], dict) and frames[-1]["type"] == "execution_success")
    assert comfy.get("/history/lags").json() == {}
    assert socket.until(lambda frames: frames[-1] == ended("lags"))
    assert comfy.get("/history/lags").json() != {}
    socket.close()


def test_a_lost_answer_leaves_the_prompt_queued(standin: Start) -> None:
    comfy = standin("--fault", "lost_answer")
    with pytest.raises(requests.ConnectionError):
        submit(comfy, "unanswered")
    assert outcome(comfy, "unanswered")["status"]["status_str"] == "success"


def test_a_wrong_switch_is_refused_and_names_the_field(standin: Start) -> None:
    comfy = standin()
    before = comfy.get("/standin/behaviour").json()
    for wrong, field in (({"fault": "nope"}, "fault"), ({"step_ms": -1}, "step_ms"), ({"stepms": 1}, "stepms")):
        answer = comfy.post("/standin/behaviour", wrong)
        assert answer.status_code == 400
        assert field in json.dumps(answer.json()["errors"])
    assert comfy.get("/standin/behaviour").json() == before


def test_sigterm_ends_it_at_once_and_a_restart_has_forgotten_everything(standin: Start) -> None:
    comfy = standin()
    comfy.switch(step_ms=5000)
    submit(comfy, "running")
    submit(comfy, "waiting")
    assert comfy.stop() == -15
    again = standin()
    assert again.get("/queue").json() == {"queue_running": [], "queue_pending": []}
    assert again.get("/history/running").json() == {}


def test_the_same_job_paints_the_same_bytes_in_another_process(standin: Start) -> None:
    pictures = []
    for _ in range(2):
        comfy = standin()
        submit(comfy, "same", seed=42, size=256)
        pictures.append(image_of(comfy, outcome(comfy, "same")).content)
        comfy.stop()
    assert pictures[0] == pictures[1]


def test_a_batch_of_four_writes_four_different_pictures(standin: Start) -> None:
    comfy = standin()
    submit(comfy, "four", batch=4)
    images = outcome(comfy, "four")["outputs"]["7"]["images"]
    assert [image["filename"] for image in images] == [f"img_{place:05}_.png" for place in range(1, 5)]
    contents = {(comfy.base or Path()).joinpath("output/s", image["filename"]).read_bytes() for image in images}
    assert len(contents) == 4


@pytest.mark.parametrize(
    ("content", "exception_type"),
    [(b"", "safetensors_rust.SafetensorError"), (b"half", "safetensors_rust.SafetensorError")],
)
def test_an_unfinished_model_passes_validation_and_fails_in_the_loader(
    standin: Start, tmp_path: Path, content: bytes, exception_type: str
) -> None:
    comfy = standin()
    model = tmp_path / "models/checkpoints/random_sd15.safetensors"
    whole = model.read_bytes()
    model.write_bytes(whole[:-2] if content else content)
    submit(comfy, "broken")
    assert error_of(outcome(comfy, "broken"))["exception_type"] == exception_type


def test_a_page_of_another_origin_is_refused(standin: Start) -> None:
    comfy = standin()
    answer = requests.get(f"{comfy.url}/queue", headers={"Origin": "http://elsewhere.example"}, timeout=10)
    assert (answer.status_code, answer.text) == (403, "")
    assert requests.get(f"{comfy.url}/queue", headers={"Origin": comfy.url}, timeout=10).ok


def test_a_socket_nobody_reads_silences_the_others_and_http_goes_on(standin: Start) -> None:
    """The stalled reader's frames fill its buffers; what comes after them waits, prompts do not."""
    comfy = standin()
    chain: dict[str, Any] = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 1}}
    }
    for place in range(2, 252):
        chain[str(place)] = {"class_type": "ImageInvert", "inputs": {"image": [str(place - 1), 0]}}
    chain["252"] = {"class_type": "PreviewImage", "inputs": {"images": ["251", 0]}}
    stalled = websocket.create_connection(
        f"{comfy.url.replace('http', 'ws')}/ws?clientId=stalled", sockopt=((1, 8, 4096),)
    )
    other = Socket(comfy.url, "/ws?clientId=me")
    body = {"prompt": chain, "prompt_id": "flood", "client_id": "stalled"}
    assert comfy.post("/prompt", body).ok
    assert outcome(comfy, "flood")["status"]["completed"] is True
    submit(comfy, "small")
    assert outcome(comfy, "small")["status"]["completed"] is True
    assert ended("small") not in other.frames
    stalled.sock.close()
    assert other.until(lambda frames: frames[-1] == ended("small"))
    other.close()


def test_help_names_every_fault() -> None:
    from functions.standin.behaviour import FaultKind

    told = subprocess.run(
        [sys.executable, "-m", "functions.standin", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert [fault for fault in FaultKind if fault not in told] == []


def test_it_writes_nothing_outside_its_base_directory(standin: Start, tmp_path: Path) -> None:
    comfy = standin()
    around = {path.name for path in tmp_path.parent.iterdir()}
    for place, prefix in enumerate(("../out", "/elsewhere/out", "a/../../out")):
        submit(comfy, str(place), prefix=prefix)
        assert error_of(outcome(comfy, str(place)))["node_type"] == "SaveImage"
    with contextlib.suppress(requests.ConnectionError):
        files = {"image": ("../../out.png", b"x")}
        assert requests.post(f"{comfy.url}/upload/image", files=files, timeout=10).status_code == 400
    assert {path.name for path in tmp_path.parent.iterdir()} == around


def ended(prompt_id: str) -> dict[str, Any]:
    return {"type": "executing", "data": {"node": None, "prompt_id": prompt_id}}
