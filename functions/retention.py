"""retention: by the clock, what nobody needs any more is let go, and its bytes deleted.

says    artifact.discarded    nobody reviewed it in time
        job.completed         and so its job is done, with the cause `expired`
        job.failed            it did not move for too long; what was paid comes back (credits.transferred)
        artifact.purged       the time to restore it is over

Run each night (the chart's CronJob) and by hand (`vsgen retention run`). How long each class is kept is a setting, and
holds for what is there already. Everything here is safe to do twice, at once, and to be killed in the middle of.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from functions.adapters import cleanups, jobs, ledger, objects, orphans, outbox, postgres, queue, storage
from functions.adapters import retention as pages
from functions.adapters.cleanups import Did, Run
from functions.adapters.retention import PAGE, SOURCE, Page
from functions.config import config
from functions.domain import transfer
from functions.domain.errors import Unavailable
from functions.domain.event import Event, JobFailed
from functions.domain.job import LIVE, State
from functions.domain.retention import Why
from functions.domain.transfer import Kind, Reason

log = logging.getLogger(__name__)
#: What is done must be told: with so many events untold, the Broker is not there, and more would bury what sweep
#: retells.
MOST_UNTOLD = 5_000
FORGOTTEN_AT_ONCE = 5_000
#: Objects with their thumbnails fit into one call to the store.
DELETED_AT_ONCE = 250
#: How long the nonce of a token is kept that has expired; clocks differ.
SIGNATURES_KEPT = timedelta(days=1, minutes=10)
DID = {"discard": "purged", "deliver": "purged", "accept": "released"}
WHY = {"discard": Why.DISCARDED, "deliver": Why.DELIVERED, "accept": Why.CURATED}
Step = Iterator[tuple[str, Why, int, int]]


class Account:
    """What a run has done so far, and how long it may go on. Written down after each step, so that a run that is killed
    leaves its account."""

    def __init__(self, *, by: str, dry_run: bool, until_s: float) -> None:
        self.dry_run, self._until_s = dry_run, until_s
        self._count: Counter[tuple[str, Why]] = Counter()
        self._bytes: Counter[tuple[str, Why]] = Counter()
        with postgres.transaction() as tx:
            self.number = cleanups.begin(tx, by=by, dry_run=dry_run, at=datetime.now(UTC))

    def add(self, did: str, why: Why, count: int, size_bytes: int) -> None:
        if count:
            self._count[did, why] += count
            self._bytes[did, why] += size_bytes

    @property
    def out_of_time(self) -> bool:
        return time.monotonic() > self._until_s

    def save(self, *, ended: bool = False, problem: str | None = None) -> Run:
        done = [
            Did(did=did, why=why, count=count, bytes=self._bytes[did, why]) for (did, why), count in self._count.items()
        ]
        with postgres.transaction() as tx:
            cleanups.save(tx, self.number, done, ended_at=datetime.now(UTC) if ended else None, problem=problem)
            return cleanups.get(tx, self.number)


def retention(*, by: str = SOURCE, dry_run: bool = False, limit_s: float = 3600.0) -> Run:
    """Do what is due, or, in a dry run, only count it; gives the account. A run that is out of time stops between two
    pages and says so: the next one goes on. What cannot be reached is named in `problem`, after the rest is done."""
    account = Account(by=by, dry_run=dry_run, until_s=time.monotonic() + limit_s)
    steps = (_would_release, _walk) if dry_run else (_stale, _expire, _purge, _delete, _walk, _forget)
    problems = []
    for step in steps:
        try:
            for did, why, count, size_bytes in step(account):
                account.add(did, why, count, size_bytes)
                if account.out_of_time:
                    problems.append(f"out of time in {step.__name__[1:]}: the next run goes on")
                    break
        except Unavailable as error:
            problems.append(f"{step.__name__[1:]}: {error}")
        except storage.Missing as missing:
            problems.append(f"{step.__name__[1:]}: {missing} is not there")
        except Exception:
            # One step that cannot be done must not keep the store full; the error's text may quote a row.
            log.exception("retention %d: %s failed", account.number, step.__name__[1:])
            problems.append(f"{step.__name__[1:]}: an error on our side; it has been logged")
        account.save()
    run = account.save(ended=True, problem="; ".join(problems) or None)
    log.info("retention %d: %s", run.number, {f"{one.did} {one.why}": one.count for one in run.done})
    return run


def _stale(account: Account) -> Step:
    """Jobs that did not move for too long fail; one transaction each, for each holds its user's account."""
    before, after = _before(config().periods.stale), ""
    while True:
        with postgres.transaction() as tx:
            page = pages.stale(tx, before=before, after=after)
        for job_id in page:
            yield "failed", Why.STALE, int(_fail(job_id, before)), 0
        if len(page) < PAGE:
            return
        after = page[-1]


def _fail(job_id: str, before: datetime) -> bool:
    with postgres.transaction() as tx:
        job = jobs.locked(tx, job_id)
        if job is None or job.state not in LIVE | {State.SUBMITTED, State.DEBITED} or job.changed_at >= before:
            return False
        failed = job.to(
            State.FAILED,
            cause=Why.STALE,
            detail=f"the job was {job.state} since {job.changed_at:%Y-%m-%d} and did not move",
            changed_at=datetime.now(UTC),
        )
        jobs.save(tx, failed)
        told: list[Event] = [JobFailed(**failed.told(was=job.state), detail=failed.detail)]
        if any(entry.reason is Reason.DEBIT for entry in ledger.of_job(tx, transfer.payer(job), job.id)):
            back = transfer.refund(job, Kind.FAILED, authorised_by=SOURCE, instruction=f"{job.id}:{Why.STALE}")
            refund = ledger.post(tx, back)
            told += [refund] if refund else []
        outbox.put(tx, SOURCE, told)
        postgres.after_commit(tx, lambda: queue.remove(job.pool, job.id))
    return True


def _expire(account: Account) -> Step:
    periods = config().periods
    before = _before(periods.unreviewed)

    def expire(tx: Connection) -> Page:
        now = datetime.now(UTC)
        return pages.expire(tx, before=before, purged_after=now + periods.discarded, at=now)

    return _paged("discarded", expire)


def _classes() -> Iterator[tuple[str, datetime]]:
    """The decisions whose pictures are let go of one day, each with the moment before which that day is over."""
    periods = config().periods
    for decision, kept in (("discard", periods.discarded), ("deliver", periods.delivered), ("accept", periods.curated)):
        if kept is not None:
            yield decision, _before(kept)


def _purge(account: Account) -> Step:
    for decision, before in _classes():

        def purge(tx: Connection, decision: str = decision, before: datetime = before) -> Page:
            return pages.purge(tx, decision, before=before, at=datetime.now(UTC))

        yield from _paged(DID[decision], purge)


def _paged(did: str, do: Callable[[Connection], Page]) -> Step:
    """Page after page, each told before the next is begun, until none is left."""
    more = True
    while more:
        with postgres.transaction() as tx:
            if outbox.backlog(tx, most=MOST_UNTOLD) >= MOST_UNTOLD:
                raise Unavailable(f"{MOST_UNTOLD} events or more are not told yet: see to the Broker, then run again")
            page = do(tx)
            outbox.put(tx, SOURCE, page.events)
        for why, (count, size_bytes) in page.done.items():
            yield did, why, count, size_bytes
        more = page.more


def _delete(account: Account) -> Step:
    count = DELETED_AT_ONCE
    while count == DELETED_AT_ONCE:
        with postgres.transaction() as tx:
            count, size_bytes = objects.delete_freed(tx, limit=DELETED_AT_ONCE, at=datetime.now(UTC))
        yield "deleted", Why.UNNEEDED, count, size_bytes


def _walk(account: Account) -> Step:
    """The store and the rows are compared by one run at a time, or each would count what the other deletes."""
    periods, now, dry_run = config().periods, datetime.now(UTC), account.dry_run
    with orphans.only_walker() as alone:
        if not alone:
            log.info("another run compares the store with the rows just now, and will say what it found")
            return
        for walk in (orphans.walk, orphans.walk_collections):
            for why, count, size_bytes in walk(periods, now=now, dry_run=dry_run):
                yield "marked" if why is Why.MISSING else "deleted", why, count, size_bytes
        why, count, size_bytes = orphans.abort_uploads(periods, now=now, dry_run=dry_run)
        yield "aborted", why, count, size_bytes


def _forget(account: Account) -> Step:
    before = _before(config().periods.events)
    for what, moment in (("inbox", before), ("outbox", before), ("signature_seen", _before(SIGNATURES_KEPT))):
        forgotten = FORGOTTEN_AT_ONCE
        while forgotten == FORGOTTEN_AT_ONCE:
            with postgres.transaction() as tx:
                forgotten = pages.forget(tx, what, before=moment, most=FORGOTTEN_AT_ONCE)
            yield f"forgot {what}", Why.PAST_USE, forgotten, 0


def _would_release(account: Account) -> Step:
    """What a run would do now to pictures: the bytes of `purged` are theirs, those of `deleted` the store's."""
    with postgres.transaction() as tx:
        yield "discarded", Why.EXPIRED, *pages.would_expire(tx, before=_before(config().periods.unreviewed))
        for decision, before in _classes():
            pictures, freed = pages.would_purge(tx, decision, before=before)
            yield DID[decision], WHY[decision], *pictures
            yield "deleted", Why.UNNEEDED, *freed
        yield "deleted", Why.UNNEEDED, *objects.freed(tx)


def _before(kept: timedelta) -> datetime:
    return datetime.now(UTC) - kept
