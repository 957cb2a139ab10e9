"""One attempt at a job, from the claim to the report: every line Postgres, S3 and ComfyUI have a part in.

Imported by the runner after its claim, because what it needs takes longer to load than a claim may.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from math import ceil
from typing import Any, Self

from sqlalchemy import Connection

from functions.adapters import cache, jobs, models, outbox, postgres, queue, results, storage
from functions.adapters.comfyui import ComfyUI, Progress
from functions.adapters.comfyui_gpu import GpuWatch
from functions.adapters.lease import TAKEN_BACK_S, Lease
from functions.adapters.queue import Ticket
from functions.config import config
from functions.domain import event
from functions.domain.errors import Failure, GivenBack, Rejected, RenderFailed, Unavailable
from functions.domain.job import LIVE, RUNNING, Job, State
from functions.prepare import prepare

log = logging.getLogger(__name__)
SOURCE = "/functions/render"
TELL_S = 0.1
MIB = 1 << 20


@dataclass
class Attempt:
    """A job in this runner's hands; `job` follows it from state to state."""

    lease: Lease
    job: Job
    cache: models.Tally = field(default_factory=models.Tally)

    @classmethod
    def begin(cls, lease: Lease) -> Self | None:
        """Take the claimed job on in Postgres, which decides whose it is; None when there is nothing to render.

        A job found running was held by a runner whose lease ran out, or was forgotten when Redis was set back. A runner
        that lives takes its lease back at once; if none does, that attempt is over, and this is the next one while any
        are left.
        """
        waited = False
        while True:
            with postgres.transaction() as tx:
                job = jobs.locked(tx, lease.job_id)
                if job is None or job.state not in LIVE:
                    log.info("job %s needs no render", lease.job_id)
                    return None
                if job.held_by(lease.worker, job.attempt):
                    lease.attempt = job.attempt  # a first try at this was kept, though its answer was lost
                    return cls(lease=lease, job=job)
                if job.pool != lease.pool:
                    log.info("job %s has gone to pool %s", job.id, job.pool)
                    postgres.after_commit(tx, partial(queue.put, job.pool, Ticket.of(job)))
                    return None
                if job.state is State.QUEUED or waited:
                    return cls._taken(tx, lease, job)
            if lease.lost_within(TAKEN_BACK_S):
                log.info("job %s is in the hands of %s", job.id, job.worker)
                return None
            waited = True

    @classmethod
    def _taken(cls, tx: Connection, lease: Lease, job: Job) -> Self | None:
        if job.state in RUNNING:
            if not config().retry_policy.allows(Failure.WORKER_LOST, attempt=job.attempt):
                outbox.put(tx, SOURCE, [_lost(job)])
                return None
            job = _move(tx, job, State.QUEUED, cause="worker_lost", attempt=job.attempt + 1, worker=None)
        job = _move(tx, job, State.DISPATCHING, worker=lease.worker)
        lease.attempt = job.attempt
        return cls(lease=lease, job=job)

    def render(self, *, stop: Callable[[], bool]) -> event.RenderSucceeded:
        """Prepare, paint and store; gives the news. RenderFailed when there is no picture, GivenBack when stopped."""
        began = time.monotonic()
        self._progress(Progress(phase="preparing"))
        comfyui = ComfyUI(config().need("comfyui_url"))
        with comfyui, ExitStack() as leases:
            system = comfyui.ready(wait_s=config().comfyui_start_s, stop=stop)
            cold_start = comfyui.fresh()
            with _failures():
                prepared = prepare(
                    self.job,
                    comfyui,
                    leases,
                    filename_prefix=self._filename_prefix,
                    tally=self.cache,
                    told=self._fetching(stop),
                )
            comfyui.check(prepared.graph)
            with _failures(), postgres.transaction() as tx:
                self.job = _move(tx, self._ours(tx), State.IN_PROGRESS)
            prompt_id = f"{self.job.id}-{self.job.attempt}-{uuid.uuid4().hex[:12]}"
            posted = time.monotonic()
            with GpuWatch(comfyui.url) as watch:
                rendered = comfyui.render(
                    prepared.graph,
                    prompt_id=prompt_id,
                    deadline_s=self._deadline_s(),
                    on_progress=self._progress,
                    stop=stop,
                )
            painted = time.monotonic()
            texts = prepared.texts(self.job, comfyui_version=system.version)
            with _failures():
                kept = tuple(
                    results.store(self.job, index, comfyui.fetch(image), texts)
                    for index, image in enumerate(rendered.images)
                )
                manifest_key = results.write_manifest(
                    self.job,
                    kept,
                    {
                        "files": [vars(file) for file in prepared.files],
                        "graph_sha256": prepared.graph_sha256,
                        "comfyui_version": system.version,
                        "prompt_id": prompt_id,
                        "started_at": rendered.started_at.isoformat(),
                        "finished_at": rendered.finished_at.isoformat(),
                        "timings_ms": dict(rendered.timings),
                    },
                )
            stored = time.monotonic()
            vram_total_bytes, vram_free_bytes = comfyui.memory()
        gpu = watch.seen()
        return event.RenderSucceeded(
            job_id=self.job.id,
            attempt=self.job.attempt,
            worker=self.lease.worker,
            artifacts=kept,
            manifest_key=manifest_key,
            prompt_id=prompt_id,
            comfyui_version=system.version,
            graph_sha256=prepared.graph_sha256,
            files=prepared.files,
            prepare_ms=_ms(posted - began),
            render_ms=_ms(painted - posted),
            upload_ms=_ms(stored - painted),
            cold_start=cold_start,
            cache_hits=self.cache.hits,
            cache_misses=self.cache.misses,
            fetched_bytes=self.cache.fetched_bytes,
            vram_total_bytes=vram_total_bytes,
            vram_free_bytes=vram_free_bytes,
            node=config().node_name,
            gpu=gpu.uuid,
            gpu_utilisation_percent=gpu.utilisation_percent,
            gpu_temperature_c=gpu.temperature_c,
            gpu_errors=gpu.errors,
        )

    def tell(self, news: event.RenderSucceeded) -> None:
        """Report the pictures."""
        with postgres.transaction() as tx:
            outbox.put(tx, SOURCE, [news])

    def tell_failed(self, failed: RenderFailed) -> None:
        """Report that there are none, and why."""
        news = event.RenderFailed(
            job_id=self.job.id,
            attempt=self.job.attempt,
            worker=self.lease.worker,
            kind=failed.kind,
            code=failed.code,
            detail=failed.detail,
        )
        with postgres.transaction() as tx:
            outbox.put(tx, SOURCE, [news])

    def give_back(self) -> None:
        """Back into the queue at the place it had, on the same attempt: the job did nothing wrong."""
        with postgres.transaction() as tx:
            job = jobs.locked(tx, self.job.id)
            if job is None or not job.held_by(self.lease.worker, self.job.attempt):
                return
            _move(tx, job, State.QUEUED, cause="given_back", worker=None)
            postgres.after_commit(tx, lambda: queue.release(self.lease.pool, job.id, self.lease.worker, give_back=True))

    def _ours(self, tx: Connection) -> Job:
        """The job, still in these hands; RenderFailed when it is not, though nobody will act on that word."""
        job = jobs.locked(tx, self.job.id)
        if job is None or not job.held_by(self.lease.worker, self.job.attempt):
            raise RenderFailed(Failure.WORKER_LOST, "not_ours", "the job went to another runner or was called off")
        return job

    def _fetching(self, stop: Callable[[], bool]) -> Callable[[str, int, int], None]:
        """Tells of a download ten times a second, and ends it when the runner is to stop; the next goes on there."""
        said_at = 0.0

        def told(name: str, done_bytes: int, total_bytes: int) -> None:
            nonlocal said_at
            if stop():
                raise GivenBack
            if time.monotonic() - said_at >= TELL_S or done_bytes == total_bytes:
                said_at = time.monotonic()
                done, total = (ceil(count / MIB) for count in (done_bytes, total_bytes))
                self._progress(Progress(phase="fetching", node_title=name, step=done, steps=total))

        return told

    @property
    def _filename_prefix(self) -> str:
        """Where ComfyUI saves this attempt's pictures: in a folder that is nobody else's."""
        return f"{self.job.id}-{self.job.attempt}/{self.lease.worker[-12:].replace('.', '-')}"

    def _deadline_s(self) -> float:
        """Seconds the render may take: from its work, not a constant, so that neither a long job is cut short nor a
        hung one waited for."""
        parameters = self.job.parameters
        megapixels: float = parameters.get("width", 1024) * parameters.get("height", 1024) / 1e6
        work: float = megapixels * parameters.get("steps", 28) * self.job.images
        return config().render_deadline_s + work * config().render_s_per_megapixel_step

    def _progress(self, progress: Progress) -> None:
        try:
            queue.tell_progress(self.job.id, vars(progress) | {"attempt": self.job.attempt})
        except Unavailable as error:
            log.debug("progress not told: %s", error)  # nobody is kept from their picture by this


@contextmanager
def _failures() -> Iterator[None]:
    """What may go wrong around Postgres, S3 and the workflow, as failures of a render."""
    try:
        yield
    except storage.Missing as missing:
        raise RenderFailed(Failure.PERMANENT, "object_missing", f"{missing} is not in the store") from missing
    except (cache.Corrupt, storage.Conflict) as wrong:
        raise RenderFailed(Failure.PERMANENT, "object_changed", str(wrong)) from wrong
    except cache.TooLarge as wrong:
        raise RenderFailed(Failure.PERMANENT, "model_too_large", str(wrong)) from wrong
    except ValueError as wrong:
        raise RenderFailed(Failure.PERMANENT, "workflow_changed", str(wrong)) from wrong
    except Rejected as no:
        raise RenderFailed(Failure.PERMANENT, no.code, f"{no.field}: {no.detail}" if no.field else no.detail) from no
    except Unavailable as error:
        raise RenderFailed(Failure.TRANSIENT, "neighbour_unavailable", str(error)) from error


MOVED = {
    State.QUEUED: event.JobQueued,
    State.DISPATCHING: event.JobDispatching,
    State.IN_PROGRESS: event.JobInProgress,
}


def _move(tx: Connection, job: Job, state: State, *, cause: str | None = None, **changes: Any) -> Job:
    """Move the job, and tell it."""
    moved = job.to(state, cause=cause, changed_at=datetime.now(UTC), **changes)
    jobs.save(tx, moved)
    told = moved.told(was=job.state)
    if state is State.QUEUED:
        told |= {"worker": job.worker}
    outbox.put(tx, SOURCE, [MOVED[state](**told)])
    return moved


def _lost(job: Job) -> event.RenderFailed:
    return event.RenderFailed(
        job_id=job.id,
        attempt=job.attempt,
        worker=job.worker or "",
        kind=Failure.WORKER_LOST,
        code="worker_lost",
        detail="the runner's lease ran out, and no try is left",
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
