"""Events to be told: kept with the work they tell of, posted right after the commit, told again until they are heard.

An event that one of our functions must hear counts as told when that function's own transaction says so. One that
only the world listens to counts as told once the Broker has taken it; those marks are gathered for a moment, so that
telling costs no commit of its own. A crash in between means a second telling, which every listener bears.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from functions.adapters import audit, broker, postgres, shapes
from functions.adapters.broker import Envelope
from functions.config import config
from functions.domain.errors import Unavailable
from functions.domain.event import Event, JobRejected

log = logging.getLogger(__name__)

PUT = text("""
INSERT INTO outbox (source, id, type, subject, time, data, heard_by, retell_at)
SELECT :source, told.id, told.type, told.subject, :time, CAST(told.data AS jsonb), told.heard_by,
       now() + :retell_s * interval '1 second'
FROM unnest(CAST(:ids AS text[]), CAST(:types AS text[]), CAST(:subjects AS text[]), CAST(:data AS text[]),
            CAST(:heard_by AS text[])) AS told (id, type, subject, data, heard_by)
ON CONFLICT (source, id) DO NOTHING
""")


def put(tx: Connection, source: str, events: Sequence[Event]) -> None:
    """Keep these events with the work of this transaction, and post them once it stands."""
    now = datetime.now(UTC)
    letters = [
        Envelope(id=e.id, source=source, type=e.type, subject=e.job_id, time=now, data=shapes.dump(e)) for e in events
    ]
    if not letters:
        return
    heard_by = {e.id: e.heard_by for e in events}
    rows = {
        "source": source,
        "time": now,
        "ids": [letter.id for letter in letters],
        "types": [letter.type for letter in letters],
        "subjects": [letter.subject for letter in letters],
        "data": [letter.data.decode() for letter in letters],
        "heard_by": [heard_by[letter.id] for letter in letters],
        "retell_s": config().retell_s,
    }
    tx.execute(PUT, rows)
    world = {letter.id for letter in letters if heard_by[letter.id] is None}
    postgres.after_commit(tx, lambda: post(letters, world))
    lines = [audit.entry(e) for e in events]
    postgres.after_commit(tx, lambda: audit.LOG.append(lines))


def post(letters: Sequence[Envelope], world: set[str]) -> None:
    """Post in order; what the Broker takes and only the world hears is marked as told. Stops where the Broker fails:
    the rest is untold, and sweep's."""
    for letter in letters:
        broker.post(letter)
        if letter.id in world:
            MARKS.add((letter.source, letter.id))


MARK = text("""
UPDATE outbox SET told_at = now()
FROM unnest(CAST(:sources AS text[]), CAST(:ids AS text[])) AS told (source, id)
WHERE outbox.source = told.source AND outbox.id = told.id AND told_at IS NULL
""")


class Marks:
    """Events the Broker has taken, to be marked together a moment later."""

    def __init__(self, *, after_s: float = 0.5) -> None:
        self._after_s = after_s
        self._lock = threading.Lock()
        self._taken: set[tuple[str, str]] = set()

    def add(self, key: tuple[str, str]) -> None:
        with self._lock:
            if not self._taken:
                timer = threading.Timer(self._after_s, self.flush)
                timer.daemon = True
                timer.start()
            self._taken.add(key)

    def flush(self) -> None:
        """Mark what was gathered, in one statement; what cannot be marked now is told again by sweep."""
        with self._lock:
            taken, self._taken = sorted(self._taken), set()
        if not taken:
            return
        try:
            with postgres.transaction() as tx:
                tx.execute(MARK, {"sources": [s for s, _ in taken], "ids": [i for _, i in taken]})
        except Unavailable as error:
            log.warning("outbox marks: %s; these events will be told again", error)


MARKS = Marks()

UNTOLD = text("""
UPDATE outbox SET tellings = tellings + 1,
    retell_at = now() + least(power(2, least(tellings, 6)), 60) * :retell_s * interval '1 second'
WHERE (source, id) IN (
    SELECT source, id FROM outbox WHERE told_at IS NULL AND retell_at <= now()
    ORDER BY retell_at LIMIT :limit FOR UPDATE SKIP LOCKED)
RETURNING source, id, type, subject, time, data::text AS data, heard_by
""")


def retell(*, limit: int = 500) -> int:
    """Post again what nobody has marked in time; gives how many events that was. Safe to run twice at once."""
    with postgres.transaction() as tx:
        rows = tx.execute(UNTOLD, {"limit": limit, "retell_s": config().retell_s}).all()
    letters = [
        Envelope(id=r.id, source=r.source, type=r.type, subject=r.subject, time=r.time, data=r.data.encode())
        for r in rows
    ]
    post(letters, {r.id for r in rows if r.heard_by is None})
    MARKS.flush()
    return len(letters)


BACKLOG = text("SELECT count(*) FROM (SELECT FROM outbox WHERE told_at IS NULL LIMIT :most) AS untold")


def backlog(tx: Connection, *, most: int) -> int:
    """How many events are not told yet, counted up to `most`."""
    return int(tx.execute(BACKLOG, {"most": most}).scalar_one())


@dataclass(frozen=True, kw_only=True)
class Telling:
    """One event of a job's story, as it was or will be told."""

    id: str
    source: str
    type: str
    time: datetime
    told_at: datetime | None


STORY = text("SELECT id, source, type, time, told_at FROM outbox WHERE subject = :job_id ORDER BY time, id")


def story(tx: Connection, job_id: str) -> list[Telling]:
    """Every event told about a job, oldest first."""
    return [Telling(**row._mapping) for row in tx.execute(STORY, {"job_id": job_id})]


REFUSAL = text("SELECT data::text FROM outbox WHERE source = '/functions/submit' AND id = :id")


def refusal(tx: Connection, job_id: str) -> JobRejected | None:
    """Why this request never became a job; None when it was not refused."""
    told = tx.execute(REFUSAL, {"id": f"{job_id}:{JobRejected.name}"}).scalar()
    return None if told is None else shapes.parse(JobRejected, str(told).encode())
