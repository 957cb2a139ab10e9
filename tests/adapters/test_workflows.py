"""Published workflows: one document a version for ever, the newest by the order of versions."""

import json
import uuid
from typing import Any

import pytest
from sqlalchemy import Connection

from functions.adapters import postgres, storage, workflows
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.workflow import digest

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def name() -> str:
    """The id of a workflow that nobody has published."""
    return f"tiny-{uuid.uuid4().hex[:8]}"


def document(name: str, version: str = "1.0.0", **changes: Any) -> bytes:
    return json.dumps(
        {
            "id": name,
            "version": version,
            "title": "Tiny",
            "graph": {"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}},
            "parameters": {},
            "outputs": ["1"],
        }
        | changes
    ).encode()


def publish(*documents: bytes) -> None:
    for one in documents:
        with postgres.transaction() as tx:
            workflows.publish(tx, one)


def refused(tx: Connection, name: str, version: str | None = None) -> Rejected:
    with pytest.raises(Rejected) as no:
        workflows.find(tx, name, version)
    return no.value


def test_a_published_workflow_is_found_and_fetched_by_its_digest(name: str) -> None:
    publish(document(name))
    with postgres.transaction() as tx:
        found = workflows.find(tx, name, "1.0.0")
    assert found.sha256 == digest(document(name))
    assert found.workflow == workflows.fetch(name, "1.0.0", found.sha256)
    assert storage.read(config().workflows_bucket, found.object_key, limit_bytes=10_000) == document(name)


def test_publishing_the_same_document_again_changes_nothing(name: str) -> None:
    publish(document(name), document(name))
    with postgres.transaction() as tx:
        assert workflows.find(tx, name, None).sha256 == digest(document(name))


def test_other_bytes_under_a_published_version_are_refused_and_the_first_stay(name: str) -> None:
    publish(document(name))
    with pytest.raises(Rejected, match=f"{name} 1.0.0 is published with other content: raise the version") as no:
        publish(document(name, title="Another"))
    assert no.value.code == "version_taken"
    assert workflows.fetch(name, "1.0.0", digest(document(name))).title == "Tiny"


def test_the_newest_version_is_the_highest_number_and_not_the_last_word_of_the_alphabet(name: str) -> None:
    publish(*(document(name, version) for version in ("1.10.0", "1.9.0", "1.2.10")))
    with postgres.transaction() as tx:
        assert workflows.find(tx, name, None).workflow.version == "1.10.0"
        assert workflows.find(tx, name, "1.9.0").workflow.version == "1.9.0"
        [newest] = [w for w in workflows.all_newest(tx) if w.id == name]
    assert newest.version == "1.10.0"


@pytest.mark.parametrize("version", ["1.0.0-beta", "1.0", "01.0.0", "1.0.99999999999", "1.0.٣", "1.0.0\n"])
def test_a_version_that_could_not_be_ordered_is_refused_before_it_is_published(name: str, version: str) -> None:
    with pytest.raises(Rejected) as no:
        publish(document(name, version))
    assert (no.value.code, no.value.field) == ("workflow_invalid", "version")


def test_the_largest_version_there_may_be_is_still_ordered(name: str) -> None:
    publish(document(name, "999999999.0.0"), document(name, "2.0.0"))
    with postgres.transaction() as tx:
        assert workflows.find(tx, name, None).workflow.version == "999999999.0.0"


def test_an_unknown_workflow_or_version_is_refused_and_told_what_is_known(name: str) -> None:
    publish(document(name))
    with postgres.transaction() as tx:
        unknown, too_new = refused(tx, f"{name}-x"), refused(tx, name, "9.9.9")
    assert (unknown.code, unknown.field) == (too_new.code, too_new.field) == ("unknown_workflow", "workflow")
    assert name in unknown.detail
    assert "txt2img" in unknown.detail
    assert f"'{name} 9.9.9'" in too_new.detail


def test_a_document_that_was_changed_in_the_bucket_is_not_run(name: str) -> None:
    publish(document(name))
    with pytest.raises(ValueError, match="is not the document that was published"):
        workflows.fetch(name, "1.0.0", "0" * 64)


def test_a_document_that_is_gone_from_the_bucket_is_missing(name: str) -> None:
    with pytest.raises(storage.Missing, match=f"{name}/1.0.0.json"):
        workflows.fetch(name, "1.0.0", "0" * 64)


@pytest.mark.parametrize("name", ["..", "a/b", "A", "", "a b"])
def test_a_name_that_could_lead_elsewhere_in_the_bucket_is_never_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match="no workflow's key"):
        workflows.fetch(name, "1.0.0", "0" * 64)


def test_a_document_that_is_no_workflow_is_refused_and_nothing_is_kept(name: str) -> None:
    with pytest.raises(Rejected) as no:
        publish(document(name, outputs=["9"]))
    assert no.value.code == "workflow_invalid"
    assert storage.size(config().workflows_bucket, f"{name}/1.0.0.json") is None
