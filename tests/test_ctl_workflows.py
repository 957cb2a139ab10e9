"""vsgen workflows: a version is published once, whole documents or none."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from functions.adapters import postgres, workflows
from functions.ctl import app
from functions.domain.errors import Rejected

pytestmark = pytest.mark.usefixtures("stack")


def vsgen(*arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """The document of a workflow that nobody has published."""
    told = json.loads(next(workflows.shipped())) | {"id": f"mine-{uuid.uuid4().hex[:8]}", "version": "1.0.0"}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(told))
    return path


def known(document: Path) -> bool:
    with postgres.transaction() as tx:
        return json.loads(document.read_text())["id"] in {one.id for one in workflows.all_newest(tx)}


def test_a_document_is_published_once_and_again_without_effect(document: Path) -> None:
    first, second = (vsgen("workflows", "publish", str(document)) for _ in range(2))
    assert first == second == {"published": [{"id": json.loads(document.read_text())["id"], "version": "1.0.0"}]}
    assert known(document)


def test_the_shipped_documents_are_published_by_one_word() -> None:
    assert {"id": "txt2img", "version": "1.0.0"} in vsgen("workflows", "publish", "--shipped")["published"]


def test_an_altered_document_is_refused_under_a_published_version_and_what_came_with_it_too(
    document: Path, tmp_path: Path
) -> None:
    altered = tmp_path / "altered.json"
    altered.write_bytes(next(workflows.shipped()) + b"\n")
    with pytest.raises(Rejected, match="is published with other content: raise the version"):
        vsgen("workflows", "publish", str(document), str(altered))
    assert not known(document)


@pytest.mark.parametrize("arguments", [[], ["nowhere.json"]])
def test_without_a_document_there_is_nothing_to_publish(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["workflows", "publish", *arguments]).exit_code == 2
