"""Published workflows: their rows in Postgres, their documents in S3."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from functions.adapters import storage
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.workflow import Workflow, digest

LIMIT_BYTES = 2 << 20
SHIPPED = Path(__file__).parents[1] / "workflows"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A workflow version, the digest of its document, and where the document lies."""

    workflow: Workflow
    sha256: str
    object_key: str


FIND = text("""
SELECT id, version, sha256, object_key, document::text AS document FROM generator_workflow
WHERE id = :id AND (CAST(:version AS text) IS NULL OR version = :version)
ORDER BY string_to_array(version, '.')::int[] DESC LIMIT 1
""")


def find(tx: Connection, id: str, version: str | None) -> Published:
    """The workflow of this version, or its newest; Rejected when there is none."""
    row = tx.execute(FIND, {"id": id, "version": version}).one_or_none()
    if row is None:
        which = f"{id} {version}" if version else id
        known = ", ".join(w.id for w in all_newest(tx)) or "none"
        raise Rejected("unknown_workflow", f"there is no workflow {which!r}; known: {known}", field="workflow")
    return Published(workflow=Workflow.parse(row.document), sha256=row.sha256, object_key=row.object_key)


COMPLEXITY = text("""
SELECT coalesce((document ->> 'complexity')::float8, 1) FROM generator_workflow WHERE id = :id AND version = :version
""")


def complexity(tx: Connection, id: str, version: str) -> float:
    """The factor by which this published workflow's work is counted."""
    return float(tx.execute(COMPLEXITY, {"id": id, "version": version}).scalar_one())


NEWEST = text("""
SELECT DISTINCT ON (id) document::text AS document FROM generator_workflow
ORDER BY id, string_to_array(version, '.')::int[] DESC
""")


def all_newest(tx: Connection) -> list[Workflow]:
    """The newest version of every workflow."""
    return [Workflow.parse(row.document) for row in tx.execute(NEWEST)]


PUBLISH = text("""
INSERT INTO generator_workflow (id, version, title, sha256, object_key, document)
VALUES (:id, :version, :title, :sha256, :object_key, CAST(:document AS jsonb))
ON CONFLICT (id, version) DO NOTHING
""")
PUBLISHED = text("SELECT sha256 FROM generator_workflow WHERE id = :id AND version = :version")


def publish(tx: Connection, document: bytes) -> Workflow:
    """Publish a workflow document: the object first, then the row. Once published a version never changes: other
    bytes under the same version are refused."""
    workflow = Workflow.parse(document)
    object_key = f"{workflow.id}/{workflow.version}.json"
    row = {
        "id": workflow.id,
        "version": workflow.version,
        "title": workflow.title,
        "sha256": digest(document),
        "object_key": object_key,
        "document": document.decode(),
    }
    tx.execute(PUBLISH, row)
    if tx.execute(PUBLISHED, row).scalar_one() != row["sha256"]:
        raise Rejected(
            "version_taken",
            f"{workflow.id} {workflow.version} is published with other content: raise the version",
        )
    storage.write_once(config().workflows_bucket, object_key, document, content_type="application/json")
    return workflow


def shipped() -> Iterator[bytes]:
    """The workflow documents that ship with the package."""
    for path in sorted(SHIPPED.glob("*/*.json")):
        yield path.read_bytes()


def fetch(id: str, version: str, sha256: str) -> Workflow:
    """The document as it lies in S3, checked against the digest the job was stamped with.

    Missing when the object is gone; ValueError when its bytes are not the ones that were published.
    """
    # Both parts come from Postgres, where a CHECK keeps them from being anything but a plain name.
    if not re.fullmatch(r"[a-z0-9_-]+/[0-9.]+", f"{id}/{version}"):
        raise ValueError(f"{id}/{version} is no workflow's key")
    document = storage.read(config().workflows_bucket, f"{id}/{version}.json", limit_bytes=LIMIT_BYTES)
    if digest(document) != sha256:
        raise ValueError(f"{id}/{version}.json is not the document that was published")
    return Workflow.parse(document)
