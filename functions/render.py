"""render: the one-shot runner. It claims one job, lets ComfyUI paint it, stores the pictures, reports, and ends.

`python -m functions.render`, beside a ComfyUI, started by KEDA for a waiting job. With MAX_JOBS above one it stays for
more while the models are warm, and waits IDLE_S for each; where nobody starts it for a job, WAIT_S for the first.

says    job.dispatching    it has claimed the job and fetches what the render needs
        job.in_progress    ComfyUI has the graph
        render.succeeded   pictures and manifest are in the outputs bucket
        render.failed      they are not; complete decides what follows
        job.queued         it was told to stop, or found the job in dead hands: back into the queue

Exit codes: 0 done, or nothing waited; 10 failed for good; 11 failed, another try may help; 12 the job was given back.
"""

import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from functions.adapters import queue
from functions.config import config
from functions.domain.errors import Failure, GivenBack, RenderFailed, Unavailable

if TYPE_CHECKING:
    from functions.adapters.lease import Lease
    from functions.attempt import Attempt
    from functions.domain.event import RenderSucceeded

log = logging.getLogger("functions.render")
DONE, FAILED, FAILED_FOR_NOW, GAVE_BACK = 0, 10, 11, 12
PATIENCE_S = 600  # how long news waits for Postgres to take it, while the lease is kept alive
GRACE_S = 10  # how long a runner that was told to stop tries to say so; after that its lease speaks for it
LOOK_S = 0.5  # how often a runner that stays looks for its next job, should no bell tell it
T = TypeVar("T")


def main() -> int:
    """Claim, render, report, as often as MAX_JOBS says; gives the last job's exit code."""
    from functions.logs import configure

    configure("render")
    told_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told_to_stop.append(number))
    code: int = DONE
    warm: str | None = None
    for done in range(config().max_jobs):
        wait_s = config().idle_s if done else config().wait_s
        job_id = _claim(wait_s=wait_s, stop=lambda: bool(told_to_stop), model=warm)
        if job_id is None:
            log.info("nothing waits in %s", config().claiming_pool)
            break
        # Touched once: it stays while the runner does, because KEDA takes one that is not ready for one yet to claim.
        if config().ready_file:
            Path(str(config().ready_file)).touch()
        code, painted = _one(job_id, stop=lambda: bool(told_to_stop))
        warm = painted or warm
        if told_to_stop or code == GAVE_BACK:
            break
    return code


def _claim(*, wait_s: float, stop: Callable[[], bool], model: str | None) -> str | None:
    """A job, leased to this runner, rather one of the model it has warm; None when none has come within wait_s, or it
    was told to stop."""
    pool, worker = config().claiming_pool, config().worker
    until, woken = time.monotonic() + wait_s, False
    while (job_id := queue.claim(pool, worker, model=model, woken=woken)) is None:
        if stop() or time.monotonic() >= until:
            return None
        woken = queue.await_bell(pool, LOOK_S)
    return job_id


def _one(job_id: str, *, stop: Callable[[], bool]) -> tuple[int, str | None]:
    """One claimed job to its end; gives its exit code, and the model that is warm now."""
    log.info("claimed %s", job_id)
    # What follows takes a while to load; none of it may delay the claim.
    from functions.adapters.lease import Lease

    with Lease(pool=config().claiming_pool, job_id=job_id, worker=config().worker) as lease:
        code, model = _work(lease, stop=lambda: stop() or lease.lost)
    if not lease.lost:
        _let_go(lease, give_back=code == GAVE_BACK)
    return code, model


def _let_go(lease: "Lease", *, give_back: bool) -> None:
    """End the lease. Without Redis it ends by itself, a little later."""
    try:
        queue.release(lease.pool, lease.job_id, lease.worker, give_back=give_back)
    except Unavailable as error:
        log.warning("the lease of %s is left to lapse: %s", lease.job_id, error)


def _work(lease: "Lease", *, stop: Callable[[], bool]) -> tuple[int, str | None]:
    """The attempt, told whichever way it ends. A crash here tells nothing: the lease lapses, and the next runner
    finds the job in dead hands."""
    from functions.adapters import outbox
    from functions.attempt import Attempt

    try:
        attempt = _insist(lambda: Attempt.begin(lease), stop=stop)
        if attempt is None:
            return DONE, None
        try:
            succeeded = _rendered(attempt, stop)
            _insist(lambda: attempt.tell(succeeded), stop=lambda: lease.lost)
            return DONE, attempt.job.model
        except RenderFailed as failed:
            log.warning("job %s attempt %d: %s", lease.job_id, attempt.job.attempt, failed)
            reason = failed
            _insist(lambda: attempt.tell_failed(reason), stop=lambda: lease.lost)
            return FAILED if failed.kind is Failure.PERMANENT else FAILED_FOR_NOW, None
        except GivenBack:
            log.info("job %s is given back", lease.job_id)
            _insist(attempt.give_back, stop=lambda: lease.lost, patience_s=GRACE_S)
            raise
    except GivenBack:
        return GAVE_BACK, None
    finally:
        outbox.MARKS.flush()


def _rendered(attempt: "Attempt", stop: Callable[[], bool]) -> "RenderSucceeded":
    """The pictures. An error nobody planned is a failure like others: told now, rather than when the lease lapses."""
    try:
        return attempt.render(stop=stop)
    except (RenderFailed, GivenBack):
        raise
    except Exception as error:
        log.exception("job %s: the runner is at fault", attempt.job.id)
        raise RenderFailed(Failure.TRANSIENT, "runner_error", error.__class__.__name__) from error


def _insist(what: Callable[[], T], *, stop: Callable[[], bool], patience_s: float = PATIENCE_S) -> T:
    """Do this, however long it takes Postgres to come back; GivenBack when there is no more reason to wait."""
    until, wait_s = time.monotonic() + patience_s, 0.5
    while True:
        try:
            return what()
        except Unavailable as error:
            if stop() or time.monotonic() > until:
                raise GivenBack from error
            log.warning("%s; trying again in %.1f s", error, wait_s)
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, 10)


if __name__ == "__main__":
    sys.exit(main())
