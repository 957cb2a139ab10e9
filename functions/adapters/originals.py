"""Pictures that a job begins with: ones that were generated here before, for the same user."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from functions.domain.errors import Rejected

SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


@dataclass(frozen=True, kw_only=True)
class Original:
    """A picture in the outputs bucket."""

    object_key: str
    sha256: str
    content_type: str
    size_bytes: int

    @property
    def filename(self) -> str:
        """A name of its content: ComfyUI keeps other bytes under a taken name under another one."""
        return f"{self.sha256[:32]}.{SUFFIXES[self.content_type]}"


FIND = text("""
SELECT picture.object_key, picture.sha256, picture.content_type, picture.size_bytes
FROM generator_artifact AS picture JOIN generator_job AS job ON job.id = picture.job_id
WHERE picture.id = :id AND job.user_id = :user_id AND picture.decision IS DISTINCT FROM 'discard'
""")


def find(tx: Connection, artifact_id: str, *, user_id: str, field: str) -> Original:
    """The picture of this id, if it is this user's and was not discarded; Rejected, naming the field, if it is not."""
    row = tx.execute(FIND, {"id": artifact_id, "user_id": user_id}).one_or_none()
    if row is None:
        raise Rejected("unknown_artifact", f"there is no picture {artifact_id[:80]!r} of yours", field=field)
    return Original(**row._mapping)
