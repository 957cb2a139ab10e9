"""What the guides tell an operator to type exists."""

import json
import re

import core
import pytest
import yaml
from chart import CHART, ROOT, component, external
from stack.crd import manifests
from typer.main import get_command
from values_table import explained

from functions.adapters.nodes import RUNNERS
from functions.ctl import app

GUIDES = {path: path.read_text() for path in (*(ROOT / "k8s").glob("*.md"), CHART / "README.md")}
TEXT = "\n".join(GUIDES.values())


def test_every_value_the_guides_name_exists() -> None:
    known = {path for path, _ in explained((CHART / "values.yaml").read_text())}
    known |= {path.rpartition(".")[0] for path in known}
    tops = "|".join(yaml.safe_load((CHART / "values.yaml").read_text()))
    named = set(re.findall(rf"`((?:{tops})(?:\.(?!yaml)[A-Za-z0-9]+)+)`", TEXT)) | set(
        re.findall(r"--set ([A-Za-z.]+)=", TEXT)
    )
    assert named - known == set()


def test_every_file_the_guides_name_exists() -> None:
    for path, text in GUIDES.items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (path.parent / target).exists(), (path, target)
    for target in re.findall(r"`?(examples/pools/[a-z0-9-]+\.yaml)`?", TEXT):
        assert (CHART / target).exists(), target


def test_every_vsgen_command_the_guides_name_exists() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for first, second in set(re.findall(r"vsgen ([a-z-]+)(?: ([a-z]+))?", TEXT)):
        assert first in commands or first == "--help", first
        if second and hasattr(commands[first], "commands"):
            assert second in commands[first].commands, (first, second)


def test_vsgen_finds_the_runners_that_the_chart_makes() -> None:
    [pool] = [one for one in external() if one["kind"] == "ScaledJob"]
    labels = pool["spec"]["jobTargetRef"]["template"]["metadata"]["labels"]
    wanted = dict(part.partition("=")[::2] for part in RUNNERS.split(","))
    assert all(name in labels and (not value or labels[name] == value) for name, value in wanted.items())
    assert component(pool) == "render"


@pytest.mark.parametrize("pinned", ["2.20.2", "1.22"])
def test_the_guides_and_the_chart_ask_for_the_same_versions(pinned: str) -> None:
    assert pinned in (CHART / "Chart.yaml").read_text()
    assert pinned in (ROOT / "k8s" / "README.md").read_text()


def test_the_namespace_keeps_to_its_schema() -> None:
    [namespace] = manifests("k8s/namespaces.yaml")
    assert core.errors(namespace) == []


def test_every_panel_the_guides_name_is_on_the_dashboard() -> None:
    board = json.loads((CHART / "files" / "dashboard.json").read_text())
    titles = {panel.get("title") for panel in board["panels"]}
    named = set(re.findall(r"(?<!\*)\*([a-zA-Z ]+)\*(?!\*)", (ROOT / "k8s" / "OPERATING.md").read_text()))
    assert len(named) > 5
    assert named <= titles
