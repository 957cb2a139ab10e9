"""One event, one transaction: hearing twice is the same as hearing once, and telling is as sure as deciding.

The doors (`serve.py` for the Broker, `api/` for REST) bring an event; here it meets its verb. The inbox row, what the
verb decides and what it says are one commit. After it, what was said is posted; what cannot be posted now is sweep's.
"""

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from functions.adapters import inbox, jobs, outbox, postgres
from functions.adapters.identity import Signature
from functions.domain.errors import Rejected
from functions.domain.event import Event, JobRejected, JobRequested

log = logging.getLogger(__name__)

Said = Event | Sequence[Event] | None
Verb = Callable[[Connection, Any], Said]
REPLAYED = "replayed"


@dataclass(frozen=True, kw_only=True)
class Heard:
    """An event as it came: what it says, and by which source and id it is known again."""

    source: str
    id: str
    event: Event
    signature: Signature | None = None


def verb(name: str) -> Verb:
    """The function of this name: `functions/<name>.py` has one, called the same."""
    found: Verb = getattr(importlib.import_module(f"functions.{name}"), name)
    return found


def hear(function: str, heard: Heard) -> Sequence[Event]:
    """Let a function answer an event, once; gives what it said, or nothing when it had answered before.

    Rejected goes on to the door that brought the event; a job that was asked for is told as rejected.
    """
    try:
        with postgres.transaction() as tx:
            if not inbox.first(tx, function=function, source=heard.source, id=heard.id):
                log.info("%s heard %s again: nothing to do", function, heard.id)
                return ()
            _use(tx, heard)
            said = listed(verb(function)(tx, heard.event))
            outbox.put(tx, f"/functions/{function}", said)
    except Rejected as no:
        if isinstance(heard.event, JobRequested):
            lasting = no.code != REPLAYED and no.retry_after_s is None
            refuse(function, job_id=heard.event.job_id, no=no, heard=(heard.source, heard.id) if lasting else None)
        raise
    log.info("%s heard %s, said %s", function, heard.id, [event.name for event in said])
    return said


def refuse(function: str, *, job_id: str, no: Rejected, heard: tuple[str, str] | None) -> None:
    """Tell that a request never became a job. The refusal is the effect: it is remembered and told once, however often
    the request comes; where a job of this id lives, nobody is told that it does not.

    heard: the event's source and id. None for an event that nobody vouches for, which must not use up the id of one
    that somebody will, and for one that may be let in when it comes again.
    """
    with postgres.transaction() as tx:
        new = heard is None or inbox.first(tx, function=function, source=heard[0], id=heard[1])
        if new and jobs.get(tx, job_id) is None:
            told = JobRejected(
                job_id=job_id, code=no.code, detail=no.detail, field=no.field, retry_after_s=no.retry_after_s
            )
            outbox.put(tx, f"/functions/{function}", [told])


def listed(said: Said) -> Sequence[Event]:
    """What a verb said, as a sequence: one event, several, or none."""
    if said is None:
        return ()
    return (said,) if isinstance(said, Event) else said


def _use(tx: Connection, heard: Heard) -> None:
    signed = heard.signature
    if signed and not inbox.use_signature(
        tx, jti=signed.jti, event_id=f"{heard.source} {heard.id}", expires_at=signed.expires_at
    ):
        raise Rejected(REPLAYED, "this signature was used for another event")
