"""What the runner makes of a ComfyUI, sound or failing; the stand-in plays ComfyUI over real HTTP and websockets."""

import copy
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import Any

import pytest
import requests

import functions.workflows
from functions.adapters.comfyui import ComfyUI, Image, Progress, Rendered
from functions.adapters.comfyui_history import clean
from functions.domain.errors import Failure, GivenBack, RenderFailed
from functions.domain.graph import Graph, Lora
from functions.domain.workflow import Workflow, bind

TXT2IMG = Workflow.parse((Path(functions.workflows.__path__[0]) / "txt2img" / "1.0.0.json").read_bytes())
PROMPT = "a heron at dawn, oil on canvas"


class StandIn:
    """A stand-in of its own process, with a checkpoint and a LoRA in its folders."""

    def __init__(self, base: Path, port: int | None = None) -> None:
        for name in ("checkpoints/model.safetensors", "loras/lora.safetensors"):
            (base / "models" / name).parent.mkdir(parents=True, exist_ok=True)
            (base / "models" / name).write_bytes(name.encode())
        self.base = base
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "functions.standin", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--base-directory", str(base)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with ComfyUI(self.url) as comfyui:
            comfyui.ready(wait_s=30, stop=lambda: self.process.poll() is not None)

    def behave(self, **change: Any) -> None:
        requests.post(f"{self.url}/standin/behaviour", json=change, timeout=5).raise_for_status()

    def queued(self) -> list[str]:
        listed = requests.get(f"{self.url}/queue", timeout=5).json()
        return [item[1] for item in listed["queue_running"] + listed["queue_pending"]]

    def post(self, graph: Graph, prompt_id: str, **more: Any) -> None:
        """Somebody else's prompt."""
        body = {"prompt": graph, "prompt_id": prompt_id, "extra_data": {}, "client_id": "somebody"} | more
        requests.post(f"{self.url}/prompt", json=body, timeout=5).raise_for_status()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class Story:
    """Every progress report of one render, and a hook for what happens meanwhile."""

    def __init__(self, meanwhile: Callable[[Progress], None] = lambda _: None) -> None:
        self.reports: list[Progress] = []
        self.meanwhile = meanwhile

    def __call__(self, progress: Progress) -> None:
        self.reports.append(progress)
        self.meanwhile(progress)


def free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def shared_standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    standin = StandIn(tmp_path_factory.mktemp("comfyui"))
    yield standin
    standin.end()


@pytest.fixture
def standin(shared_standin: StandIn) -> StandIn:
    shared_standin.behave(clear=True, step_ms=0, load_ms=0)
    return shared_standin


@pytest.fixture
def own_standin(tmp_path: Path) -> Iterator[StandIn]:
    """One that may be killed."""
    standin = StandIn(tmp_path)
    standin.behave(step_ms=0, load_ms=0)
    yield standin
    standin.end()


@pytest.fixture
def comfyui(standin: StandIn) -> Iterator[ComfyUI]:
    with ComfyUI(standin.url, patience_s=0.5) as client:
        yield client


@pytest.fixture
def job(request: pytest.FixtureRequest) -> str:
    """An id nothing else has used."""
    return f"{request.node.name[:60].translate(str.maketrans('[]', '--'))}-{time.monotonic_ns()}"


def graph_for(job: str, *, loras: tuple[Lora, ...] = (), **values: Any) -> Graph:
    """The graph of a small picture in the job's own folder, with a seed nobody used before."""
    given: dict[str, Any] = {
        "prompt": PROMPT,
        "model": "model.safetensors",
        "seed": time.monotonic_ns(),
        "steps": 4,
        "width": 64,
        "height": 64,
    }
    return bind(TXT2IMG, given | values, loras, filename_prefix=f"{job}/image")


def render(client: ComfyUI, graph: Graph, job: str, **changes: Any) -> Rendered:
    arguments: dict[str, Any] = {"deadline_s": 30, "on_progress": lambda _: None, "stop": lambda: False}
    return client.render(graph, prompt_id=job, **(arguments | changes))


def failure(client: ComfyUI, graph: Graph, job: str, **changes: Any) -> RenderFailed:
    with pytest.raises(RenderFailed) as failed:
        render(client, graph, job, **changes)
    assert PROMPT not in str(failed.value)
    assert len(failed.value.detail) <= 300
    return failed.value


# --- a sound ComfyUI ---


def test_a_graph_becomes_a_picture_in_the_jobs_own_folder(comfyui: ComfyUI, job: str) -> None:
    graph = graph_for(job)
    comfyui.check(graph)
    rendered = render(comfyui, graph, job)
    assert rendered.images == (Image(filename="image_00001_.png", subfolder=job, type="output"),)
    assert comfyui.fetch(rendered.images[0]).startswith(b"\x89PNG")
    assert rendered.started_at <= rendered.finished_at
    assert rendered.started_at.utcoffset() is not None
    assert set(rendered.timings) == {"wait_ms", "load_ms", "sampling_ms", "total_ms"}


def test_progress_runs_from_preparing_to_saving_and_never_falls(standin: StandIn, comfyui: ComfyUI, job: str) -> None:
    standin.behave(step_ms=120)
    story = Story()
    render(comfyui, graph_for(job), job, on_progress=story)
    percents = [progress.percent for progress in story.reports]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert list(dict.fromkeys(progress.phase for progress in story.reports)) == [
        "preparing",
        "sampling",
        "saving",
    ]
    steps = {(p.node_title, p.step, p.steps) for p in story.reports if p.step}
    assert ("Sampler", 2, 4) in steps


def test_several_images_and_loras_come_in_one_prompt(comfyui: ComfyUI, job: str) -> None:
    loras = (Lora(name="lora.safetensors", strength=0.5), Lora(name="lora.safetensors", strength=-0.5))
    graph = graph_for(job, images=3, loras=loras)
    comfyui.check(graph)
    assert len({image.filename for image in render(comfyui, graph, job).images}) == 3


def test_a_seed_of_64_bits_reaches_comfyui_exactly(comfyui: ComfyUI, standin: StandIn, job: str) -> None:
    render(comfyui, graph_for(job, seed=2**64 - 1), job)
    entry = requests.get(f"{standin.url}/history/{job}", timeout=5).json()[job]
    assert entry["prompt"][2]["3"]["inputs"]["seed"] == 2**64 - 1


def test_the_system_tells_its_version_and_memory(comfyui: ComfyUI) -> None:
    system = comfyui.system()
    assert system.version
    assert system.vram_total_bytes >= system.vram_free_bytes > 0


def test_models_lists_a_folders_files(comfyui: ComfyUI) -> None:
    assert comfyui.models("checkpoints") == ["model.safetensors"]
    with pytest.raises(RenderFailed):
        comfyui.models("no_such_folder")


def test_freed_memory_makes_no_difference_to_the_next_picture(comfyui: ComfyUI, job: str) -> None:
    before = render(comfyui, graph_for(job, seed=1), job).images[0]
    comfyui.free()
    after = render(comfyui, graph_for(f"{job}-again", seed=1), f"{job}-again").images[0]
    assert comfyui.fetch(before) != b""
    assert comfyui.fetch(after) != b""


# --- before a render ---


@pytest.mark.parametrize(
    ("node", "changes", "code", "said"),
    [
        ("3", {"class_type": "NoSuchSampler"}, "node_missing", "NoSuchSampler"),
        ("4", {"ckpt_name": "absent.safetensors"}, "model_not_listed", "absent.safetensors"),
        ("3", {"sampler_name": "guess"}, "graph_refused", "sampler_name"),
    ],
)
def test_a_graph_this_comfyui_cannot_run_is_refused_with_node_and_input(
    comfyui: ComfyUI, job: str, node: str, changes: dict[str, str], code: str, said: str
) -> None:
    graph = graph_for(job)
    for name, value in changes.items():
        (graph[node] if name == "class_type" else graph[node]["inputs"])[name] = value
    with pytest.raises(RenderFailed) as refused:
        comfyui.check(graph)
    assert (refused.value.kind, refused.value.code) == (Failure.PERMANENT, code)
    assert f"node {node}" in refused.value.detail
    assert said in refused.value.detail


def test_a_model_that_has_come_since_the_last_check_is_seen(standin: StandIn, comfyui: ComfyUI, job: str) -> None:
    comfyui.check(graph_for(job))
    late = standin.base / "models" / "checkpoints" / "late.safetensors"
    late.write_bytes(b"late")
    try:
        comfyui.check(graph_for(job, model="late.safetensors"))
    finally:
        late.unlink()


def test_a_dead_worker_is_found_before_a_prompt_is_given_to_it(own_standin: StandIn, job: str) -> None:
    own_standin.behave(fault="worker_dead")
    own_standin.post(graph_for("other"), "other")
    with ComfyUI(own_standin.url, patience_s=0.5) as comfyui, pytest.raises(RenderFailed) as failed:
        comfyui.check(graph_for(job))
    assert (failed.value.kind, failed.value.code) == (Failure.TRANSIENT, "comfyui_stuck")


def test_a_comfyui_that_never_answers_is_said_to_be_gone() -> None:
    with ComfyUI(f"http://127.0.0.1:{free_port()}") as comfyui, pytest.raises(RenderFailed) as failed:
        comfyui.ready(wait_s=0, stop=lambda: False)
    assert failed.value.code == "comfyui_gone"


def test_a_comfyui_is_fresh_until_its_first_picture(own_standin: StandIn, job: str) -> None:
    with ComfyUI(own_standin.url) as comfyui:
        assert comfyui.fresh()
        render(comfyui, graph_for(job), job)
        assert not comfyui.fresh()


def test_video_memory_is_what_comfyui_says_and_nothing_when_it_does_not_say(comfyui: ComfyUI) -> None:
    total_bytes, free_bytes = comfyui.memory()
    assert 0 < free_bytes < total_bytes
    with ComfyUI(f"http://127.0.0.1:{free_port()}") as gone:
        assert gone.memory() == (0, 0)


def test_waiting_for_comfyui_ends_when_the_runner_is_asked_to_stop() -> None:
    with ComfyUI(f"http://127.0.0.1:{free_port()}") as comfyui, pytest.raises(GivenBack):
        comfyui.ready(wait_s=60, stop=lambda: True)


# --- refusals ---


def test_a_refused_graph_is_told_per_node_and_without_values(comfyui: ComfyUI, job: str) -> None:
    graph = graph_for(job)
    graph["3"]["inputs"]["steps"] = 0
    graph["4"]["inputs"]["ckpt_name"] = "absent.safetensors"
    failed = failure(comfyui, graph, job)
    assert (failed.kind, failed.code) == (Failure.PERMANENT, "graph_refused")
    assert "node 3 (KSampler): value_smaller_than_min steps" in failed.detail
    assert "node 4 (CheckpointLoaderSimple): value_not_in_list ckpt_name" in failed.detail


def test_a_graph_that_saves_nothing_is_refused(comfyui: ComfyUI, job: str) -> None:
    graph = graph_for(job)
    del graph["9"]
    assert failure(comfyui, graph, job).detail.startswith("prompt_no_outputs")


def test_a_graph_of_which_only_a_part_is_sound_is_refused_and_taken_back(
    standin: StandIn, comfyui: ComfyUI, job: str
) -> None:
    standin.behave(step_ms=200)
    graph = graph_for(job)
    graph["10"] = {"class_type": "EmptyImage", "inputs": {"width": 0, "height": 8, "batch_size": 1, "color": 0}}
    graph["11"] = {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "filename_prefix": f"{job}/b"}}
    failed = failure(comfyui, graph, job)
    assert (failed.kind, failed.code) == (Failure.PERMANENT, "graph_refused")
    assert "node 10" in failed.detail
    wait_until(lambda: job not in standin.queued())


# --- the post's answer is lost ---


def test_a_prompt_whose_answer_was_lost_is_not_posted_again(standin: StandIn, comfyui: ComfyUI, job: str) -> None:
    standin.behave(fault="lost_answer")
    assert len(render(comfyui, graph_for(job), job).images) == 1
    assert len(list((standin.base / "output" / job).iterdir())) == 1


def test_a_comfyui_that_answers_500_is_tried_again_and_then_given_up(job: str) -> None:
    answers = {"/queue": {"queue_running": [], "queue_pending": []}, f"/history/{job}": {}}
    with neighbour(answers) as (url, asked), ComfyUI(url, patience_s=0.5) as comfyui:
        failed = failure(comfyui, graph_for(job), job)
    assert (failed.kind, failed.code) == (Failure.TRANSIENT, "comfyui_error")
    posts = [index for index, path in enumerate(asked) if path == "POST /prompt"]
    assert len(posts) > 1
    assert "GET /queue" in asked[posts[0] : posts[1]]


# --- frames are a hint ---


@pytest.mark.parametrize("fault", ["deaf", "drop_sockets", "history_lag"])
def test_a_picture_is_found_although_the_frames(standin: StandIn, comfyui: ComfyUI, job: str, fault: str) -> None:
    """deaf: never come; drop_sockets: end in the middle; history_lag: come before the history."""
    standin.behave(fault=fault)
    rendered = render(comfyui, graph_for(job), job)
    assert comfyui.fetch(rendered.images[0])


def test_another_prompts_frames_are_not_taken_for_this_ones(standin: StandIn, comfyui: ComfyUI, job: str) -> None:
    standin.behave(step_ms=30)
    standin.post(graph_for("nobody", steps=7), f"{job}-other", client_id=None)  # its progress goes to all sockets
    story = Story()
    render(comfyui, graph_for(job, steps=4), job, on_progress=story)
    assert {progress.steps for progress in story.reports} <= {None, 4}


def test_a_frame_that_holds_a_whole_picture_does_no_harm(comfyui: ComfyUI, job: str) -> None:
    graph = graph_for(job, width=1024, height=1024)
    graph["10"] = {"class_type": "SaveImageWebsocket", "inputs": {"images": ["8", 0]}}
    assert len(render(comfyui, graph, job).images) == 1


# --- ends without a picture ---


def test_a_node_that_fails_is_told_with_its_error_and_nothing_of_the_job(
    standin: StandIn, comfyui: ComfyUI, job: str
) -> None:
    message = f"cannot read /srv/models/x.ckpt for {PROMPT}\nsecond line"
    standin.behave(fault="node_error", message=message, after_steps=1)
    failed = failure(comfyui, graph_for(job), job)
    assert (failed.kind, failed.code) == (Failure.TRANSIENT, "node_error")
    assert failed.detail == "KSampler (node 3): RuntimeError: cannot read x.ckpt for ..."


@pytest.mark.parametrize("fault", ["out_of_memory", "out_of_memory_cpu"])
def test_out_of_memory_is_told_apart_and_the_next_prompt_runs(
    standin: StandIn, comfyui: ComfyUI, job: str, fault: str
) -> None:
    standin.behave(fault=fault)
    failed = failure(comfyui, graph_for(job), job)
    assert (failed.kind, failed.code) == (Failure.OUT_OF_MEMORY, "out_of_memory")
    assert render(comfyui, graph_for(f"{job}-next"), f"{job}-next").images


def test_an_error_counts_although_another_branch_has_saved_its_picture(
    standin: StandIn, comfyui: ComfyUI, job: str
) -> None:
    graph = graph_for(job)
    graph["10"] = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}}
    graph["11"] = {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "filename_prefix": f"{job}/b"}}
    standin.behave(fault="node_error", after_steps=3)
    assert failure(comfyui, graph, job).code == "node_error"


def test_a_prompt_somebody_interrupts_may_be_tried_again(standin: StandIn, comfyui: ComfyUI, job: str) -> None:
    standin.behave(step_ms=50)
    story = Story(lambda progress: comfyui.interrupt(job) if progress.step else None)
    failed = failure(comfyui, graph_for(job, steps=100), job, on_progress=story)
    assert (failed.kind, failed.code) == (Failure.TRANSIENT, "interrupted")


def test_a_repeated_graph_is_no_new_picture(comfyui: ComfyUI, job: str) -> None:
    graph = graph_for(job)
    render(comfyui, graph, job)
    failed = failure(comfyui, graph, f"{job}-again")
    assert (failed.kind, failed.code) == (Failure.TRANSIENT, "no_output")


def test_a_success_that_only_previews_is_no_output(comfyui: ComfyUI, job: str) -> None:
    graph = graph_for(job)
    graph["9"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    assert failure(comfyui, graph, job).code == "no_output"


def test_a_named_file_that_is_not_there_is_no_output(standin: StandIn, comfyui: ComfyUI, job: str) -> None:
    standin.behave(fault="no_file")
    rendered = render(comfyui, graph_for(job), job)
    with pytest.raises(RenderFailed) as failed:
        comfyui.fetch(rendered.images[0])
    assert (failed.value.kind, failed.value.code) == (Failure.TRANSIENT, "no_output")


def test_a_picture_above_the_limit_is_not_read_to_its_end(comfyui: ComfyUI, job: str) -> None:
    rendered = render(comfyui, graph_for(job), job)
    with pytest.raises(RenderFailed) as failed:
        comfyui.fetch(rendered.images[0], limit_bytes=100)
    assert failed.value.code == "output_too_large"


# --- deadlines and stops ---


def test_a_render_that_outlasts_its_deadline_is_stopped_in_comfyui(
    standin: StandIn, comfyui: ComfyUI, job: str
) -> None:
    standin.behave(step_ms=50)
    failed = failure(comfyui, graph_for(job, steps=200), job, deadline_s=0.5)
    assert (failed.kind, failed.code) == (Failure.TRANSIENT, "timeout")
    wait_until(lambda: job not in standin.queued())


def test_a_prompt_that_stays_running_without_a_frame_ends_at_the_deadline(
    standin: StandIn, comfyui: ComfyUI, job: str
) -> None:
    standin.behave(fault="stall")
    assert failure(comfyui, graph_for(job), job, deadline_s=0.5).code == "timeout"


def test_a_stop_takes_the_running_prompt_out_of_comfyui(standin: StandIn, comfyui: ComfyUI, job: str) -> None:
    standin.behave(step_ms=50)
    story = Story()
    with pytest.raises(GivenBack):
        render(
            comfyui,
            graph_for(job, steps=200),
            job,
            on_progress=story,
            stop=lambda: any(progress.step for progress in story.reports),
        )
    assert job not in standin.queued()


def test_a_stop_takes_a_waiting_prompt_out_and_leaves_the_running_one(
    standin: StandIn, comfyui: ComfyUI, job: str
) -> None:
    standin.behave(step_ms=50)
    other = f"{job}-other"
    standin.post(graph_for(other, steps=200), other)
    with pytest.raises(GivenBack):
        render(comfyui, graph_for(job), job, stop=lambda: job in standin.queued())
    assert standin.queued() == [other]
    comfyui.interrupt(other)


def test_a_stop_frees_what_comfyui_kept(standin: StandIn, comfyui: ComfyUI, job: str) -> None:
    def reused(prompt_id: str) -> list[str]:
        entry = requests.get(f"{standin.url}/history/{prompt_id}", timeout=5).json()[prompt_id]
        nodes: list[str] = dict(entry["status"]["messages"])["execution_cached"]["nodes"]
        return nodes

    for n in range(2):
        render(comfyui, graph_for(f"{job}-{n}"), f"{job}-{n}")
    assert reused(f"{job}-1"), "models stay loaded from one picture to the next"
    standin.behave(step_ms=50)
    with pytest.raises(GivenBack):
        render(comfyui, graph_for(job, steps=200), job, stop=lambda: job in standin.queued())
    wait_until(lambda: job not in standin.queued())
    standin.behave(step_ms=0)
    render(comfyui, graph_for(f"{job}-2"), f"{job}-2")
    assert reused(f"{job}-2") == []


def test_a_listener_that_fails_leaves_no_prompt_behind(standin: StandIn, comfyui: ComfyUI, job: str) -> None:
    standin.behave(step_ms=50)

    def lose(progress: Progress) -> None:
        if progress.step:
            raise ConnectionError("nobody listens")

    with pytest.raises(ConnectionError):
        render(comfyui, graph_for(job, steps=200), job, on_progress=lose)
    wait_until(lambda: job not in standin.queued())


# --- ComfyUI itself is lost ---


def test_a_prompt_deleted_by_somebody_else_is_lost(standin: StandIn, comfyui: ComfyUI, job: str) -> None:
    standin.behave(step_ms=50)
    other = f"{job}-other"
    standin.post(graph_for(other, steps=200), other)

    def delete_once_queued() -> bool:
        if job in standin.queued():
            comfyui.delete(job)
        return False

    failed = failure(comfyui, graph_for(job), job, stop=delete_once_queued)
    assert (failed.kind, failed.code) == (Failure.TRANSIENT, "prompt_lost")
    comfyui.interrupt(other)


def test_a_comfyui_that_dies_is_gone(own_standin: StandIn, job: str) -> None:
    own_standin.behave(fault="die", after_steps=2)
    with ComfyUI(own_standin.url, patience_s=0.5) as comfyui:
        failed = failure(comfyui, graph_for(job), job)
    assert (failed.kind, failed.code) == (Failure.TRANSIENT, "comfyui_gone")


def test_a_comfyui_that_has_restarted_has_lost_the_prompt(own_standin: StandIn, tmp_path: Path, job: str) -> None:
    own_standin.behave(step_ms=100)
    successors: list[StandIn] = []

    def restart(progress: Progress) -> None:
        if progress.step and not successors:
            own_standin.end()
            successors.append(StandIn(tmp_path, own_standin.port))

    try:
        with ComfyUI(own_standin.url) as comfyui:
            failed = failure(comfyui, graph_for(job, steps=100), job, on_progress=restart)
    finally:
        for successor in successors:
            successor.end()
    assert (failed.kind, failed.code) == (Failure.TRANSIENT, "prompt_lost")


def test_a_worker_that_is_dead_leaves_the_prompt_waiting(own_standin: StandIn, job: str) -> None:
    own_standin.behave(fault="worker_dead")
    with ComfyUI(own_standin.url, patience_s=0.5) as comfyui:
        failed = failure(comfyui, graph_for(job), job)
    assert (failed.kind, failed.code) == (Failure.TRANSIENT, "comfyui_stuck")
    assert own_standin.queued() == []


def test_a_worker_that_dies_in_a_node_is_found_by_the_deadline(own_standin: StandIn, job: str) -> None:
    own_standin.behave(fault="worker_dead", after_steps=1)
    with ComfyUI(own_standin.url, patience_s=0.5) as comfyui:
        assert failure(comfyui, graph_for(job), job, deadline_s=1).code == "timeout"


# --- words ---


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("[Errno 2] No such file: '/comfyui/models/vae/x.pt'\n", "[Errno 2] No such file: 'x.pt'"),
        ("C:\\ComfyUI\\models\\x.pt is broken", "x.pt is broken"),
        (f"token '{PROMPT}' is too long", "token '...' is too long"),
        ("shapes 4/8 and 2 differ", "shapes 4/8 and 2 differ"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_an_error_message_keeps_its_first_line_and_loses_folders_and_prompts(message: str, said: str) -> None:
    assert clean(message, graph_for("job")) == said


def test_a_graph_is_left_as_it_was(comfyui: ComfyUI, job: str) -> None:
    graph = graph_for(job)
    before = copy.deepcopy(graph)
    render(comfyui, graph, job)
    assert graph == before


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.02)


@contextmanager
def neighbour(answers: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """A server that answers these GETs, and 500 to every POST of a prompt; also the list of what was asked."""
    asked: list[str] = []

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(200 if self.path in answers else 404, json.dumps(answers.get(self.path, "")).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(500 if self.path == "/prompt" else 200, b"500 Internal Server Error")

        def answer(self, status: int, body: bytes) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
