"""Hosts without Kubernetes: the Compose file and the systemd units start what the chart starts, in the same way."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart import CHART, ROOT, containers, environment, external, of_kind, pod

from functions.config import SETTINGS

HOSTS = ROOT / "comfy-image"
UNITS = sorted((HOSTS / "systemd").iterdir())
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((HOSTS / "compose.yaml").read_text())["services"]
FUNCTIONS: dict[str, dict[str, Any]] = yaml.safe_load((CHART / "files" / "functions.yaml").read_text())
EXAMPLES = {
    name: dict(line.split("=", 1) for line in (HOSTS / f"{name}.env.example").read_text().splitlines() if "=" in line)
    for name in ("generator", "servers")
}
OF_THE_SERVERS = {"POSTGRES_PASSWORD", "FUNCTIONS_PASSWORD", "VALKEY_PASSWORD", "ROOT_ACCESS_KEY", "ROOT_SECRET_KEY"}


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text())
    return parser


def comfyui() -> dict[str, Any]:
    [pool] = of_kind(external(), "ScaledJob").values()
    [found] = (pod(pool) or {})["initContainers"]
    return dict(found)


def test_compose_starts_every_function_of_the_chart_and_the_broker_knows_those_that_hear() -> None:
    targets = {one["environment"]["FUNCTION_TARGET"] for one in SERVICES.values() if "FUNCTION_TARGET" in str(one)}
    assert targets | {"sweep"} == set(FUNCTIONS), "sweep is told the time by a loop"
    addresses = re.findall(r"--service=(\w+)=http://(\w+):8080", " ".join(SERVICES["broker"]["command"]))
    assert dict(addresses) == {name: name for name, one in FUNCTIONS.items() if one["hears"] or name == "deadletter"}


def test_compose_and_chart_start_the_same_images() -> None:
    service = next(iter(of_kind(external(), "Service").values()))
    assert SERVICES["submit"]["image"] == next(containers(service))["image"].removeprefix("docker.io/")
    assert SERVICES["comfyui"]["image"] == comfyui()["image"].removeprefix("docker.io/")
    values = yaml.safe_load((CHART / "values.yaml").read_text())["trial"]
    for name, server in (("postgres", "postgres"), ("valkey", "valkey"), ("s3", "s3")):
        image = values[server]["image"]
        assert SERVICES[name]["image"] == f"{image['repository'].removeprefix('library/')}:{image['tag']}"


def test_every_program_of_ours_runs_without_rights_on_a_file_system_it_cannot_write() -> None:
    for name, service in SERVICES.items():
        if "visionsuit" in service["image"]:
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name


def test_comfyui_gets_the_same_arguments_everywhere() -> None:
    arguments = comfyui()["args"]
    assert SERVICES["comfyui"]["command"] == arguments
    said = unit(HOSTS / "systemd" / "generator-comfyui.service")["Service"]["ExecStart"]
    assert [one.replace("/var/lib/visionsuit-generator/work", "/work") for one in shlex.split(said)][4:-1] == arguments


def test_comfyui_is_reached_by_its_runner_alone() -> None:
    assert SERVICES["comfyui"]["network_mode"] == "service:runner"
    assert "ports" not in SERVICES["runner"]
    assert "--listen=127.0.0.1" in SERVICES["comfyui"]["command"]


def test_a_runner_has_the_settings_that_a_host_of_its_own_needs() -> None:
    said = unit(HOSTS / "systemd" / "generator-runner.service")["Service"]
    [pool] = of_kind(external(), "ScaledJob").values()
    chart = environment((pod(pool) or {})["containers"][0])
    for settings in (SERVICES["runner"]["environment"], dict(part.split("=") for part in said["Environment"].split())):
        assert settings.keys() <= {name.upper() for name in SETTINGS}
        assert float(settings["WAIT_S"]) > 0, "nobody starts it for a job"
    assert SERVICES["runner"]["environment"]["COMFYUI_MODELS_DIR"] == chart["COMFYUI_MODELS_DIR"]
    assert said["ExecStart"].endswith(" -m functions.render")
    assert said["Restart"] == SERVICES["runner"]["restart"] == "always"


def test_the_examples_name_settings_that_there_are_and_no_secret() -> None:
    ours, servers = EXAMPLES["generator"], EXAMPLES["servers"]
    known = {name.upper() for name in SETTINGS}
    assert ours.keys() <= known
    assert servers.keys() - OF_THE_SERVERS <= known
    secrets = [value for one in EXAMPLES.values() for name, value in one.items() if re.search("PASSWORD|SECRET", name)]
    assert all("change-me" in secret for secret in secrets)
    assert f":{servers['POSTGRES_PASSWORD']}@" in servers["MIGRATIONS_DATABASE_URL"]
    assert f":{servers['FUNCTIONS_PASSWORD']}@" in ours["DATABASE_URL"]
    assert f":{servers['VALKEY_PASSWORD']}@" in ours["REDIS_URL"]


def test_the_schema_s_owner_is_known_to_the_migrations_alone() -> None:
    told = {name for name, service in SERVICES.items() if service.get("env_file") == ["servers.env"]}
    assert told == {"postgres", "valkey", "s3", "migrations"}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(path: Path, tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("no systemd on this machine")
    for one in UNITS:  # the programs it starts are not on this machine
        text = re.sub(r"/opt/\S+/python", "/bin/true", one.read_text()).replace("User=generator\n", "")
        (tmp_path / one.name).write_text(text)
    done = subprocess.run([verify, "verify", tmp_path / path.name], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "generator-" in line] == []
