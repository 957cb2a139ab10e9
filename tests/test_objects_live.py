"""Whatever curators, the clock and crashes do, in whatever order: an object lives exactly as long as somebody needs it.

A model that knows only who needs which bytes, held against real rows and a real store.
"""

import hashlib
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from keeping import ago, an_artifact, backdate, decide, pictures_of, there
from making import a_job
from sqlalchemy import text

from functions.adapters import artifacts, objects, postgres, storage
from functions.adapters import retention as pages
from functions.adapters.artifacts import Kept
from functions.config import config
from functions.domain.errors import Rejected
from functions.retention import retention

pytestmark = pytest.mark.usefixtures("stack")


class Killed(Exception):
    """The process ends here."""


@dataclass
class Picture:
    """What the model knows of one: `needed` until it is purged."""

    kept: Kept
    data: bytes
    standing: str = "undecided"
    keys: list[str] = field(default_factory=list)

    @property
    def needed(self) -> bool:
        return self.standing != "purged"


class Gallery(RuleBasedStateMachine):
    """Pictures of a few contents that keep coming again, from users who do not know of each other."""

    waiting = Bundle("waiting")
    discarded = Bundle("discarded")

    def __init__(self) -> None:
        super().__init__()
        self.contents = [uuid.uuid4().bytes * 4 for _ in range(3)]
        self.pictures: list[Picture] = []

    @rule(target=waiting, content=st.integers(0, 2))
    def render(self, content: int) -> Picture:
        data = self.contents[content]
        [kept] = pictures_of(data)
        own = an_artifact(a_job(id=kept.job_id), 0, data)
        picture = Picture(kept=kept, data=data, keys=[own.key, *(small.key for small in own.thumbnails)])
        self.pictures.append(picture)
        return picture

    @rule(picture=consumes(waiting))
    def accept(self, picture: Picture) -> None:
        decide(picture.kept, "accept", "herons")
        picture.standing = "accepted"

    @rule(target=discarded, picture=consumes(waiting))
    def discard(self, picture: Picture) -> Picture:
        decide(picture.kept, "discard")
        picture.standing = "discarded"
        return picture

    @rule(target=waiting, picture=consumes(discarded))
    def undo(self, picture: Picture) -> Picture:
        if picture.standing == "purged":
            with pytest.raises(Rejected, match="was purged"):
                decide(picture.kept, "restore")
            return self.render(0)
        decide(picture.kept, "restore")
        picture.standing = "undecided"
        return picture

    @rule(picture=discarded)
    def a_week_goes_by(self, picture: Picture) -> None:
        if picture.standing == "discarded":
            backdate("generator_artifact", "decided_at", picture.kept.id, ago(days=8))
            picture.standing = "due"

    @rule()
    def clean(self) -> None:
        assert retention().problem is None
        self._purged()
        in_use = {self._key(picture).partition(".")[0] for picture in self.pictures if picture.needed}
        for key in (key for picture in self.pictures for key in picture.keys):
            assert there(key) == (key.partition(".")[0] in in_use), key

    @rule(before_the_commit=st.booleans())
    def clean_and_be_killed(self, before_the_commit: bool) -> None:
        """Between two steps of a run, or between the store and the rows."""
        with postgres.transaction() as tx:
            pages.purge(tx, "discard", before=ago(days=7), at=datetime.now(UTC))
        self._purged()
        if before_the_commit:
            with pytest.raises(Killed), postgres.transaction() as tx:
                objects.delete_freed(tx, limit=250, at=datetime.now(UTC))
                raise Killed

    @invariant()
    def whatever_is_needed_is_there_and_is_itself(self) -> None:
        for picture in self.pictures:
            if picture.needed:
                assert (
                    storage.sha256(config().outputs_bucket, self._key(picture))
                    == hashlib.sha256(picture.data).hexdigest()
                )

    @invariant()
    def references_are_counted_right_and_bytes_are_kept_once(self) -> None:
        for data in self.contents:
            users = [picture for picture in self.pictures if picture.needed and picture.data == data]
            assert len({self._key(picture) for picture in users}) == min(1, len(users))
            with postgres.transaction() as tx:
                rows = tx.execute(REFS, {"sha256": hashlib.sha256(data).hexdigest()}).scalars().all()
            assert rows == ([len(users)] if users else [])

    def _purged(self) -> None:
        for picture in self.pictures:
            if picture.standing == "due":
                picture.standing = "purged"

    def _key(self, picture: Picture) -> str:
        with postgres.transaction() as tx:
            found = artifacts.get(tx, picture.kept.id)
        assert found
        return found.object_key


REFS = text("SELECT refs FROM generator_object WHERE sha256 = :sha256 AND refs > 0")


def test_an_object_lives_exactly_as_long_as_somebody_needs_it() -> None:
    calm = settings(
        max_examples=8, stateful_step_count=16, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(Gallery, settings=calm)
