"""A runner's hold on its job: extended while the runner lives, and the first to know when it is gone."""

import logging
import threading
import time
from types import TracebackType
from typing import Self

from functions.adapters import jobs, postgres, queue
from functions.adapters.queue import Ticket
from functions.config import config
from functions.domain.errors import Unavailable

log = logging.getLogger(__name__)
LOOK_S = 1.0  # how soon a runner notices that its job was called off
#: By when a runner that lives has taken a lease back that Redis forgot, and whoever claimed the job meanwhile knows it.
TAKEN_BACK_S = 3 * LOOK_S


class Lease:
    """Kept by a thread of its own. `lost` turns true, for good, when the job is another's or was called off."""

    def __init__(self, *, pool: str, job_id: str, worker: str) -> None:
        self.pool, self.job_id, self.worker = pool, job_id, worker
        self.attempt: int | None = None  # known once Postgres has said so
        self._lost = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    def lost_within(self, wait_s: float) -> bool:
        """Whether it is lost now, or before this long has passed."""
        return self._lost.wait(wait_s)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _keep(self) -> None:
        extend_at = time.monotonic() + config().heartbeat_s
        while not self._over.wait(min(LOOK_S, config().heartbeat_s)):
            try:
                due = time.monotonic() >= extend_at
                mine = self._extended() if due else queue.holds(self.pool, self.job_id, self.worker) or self._extended()
            except Unavailable as error:
                log.warning("lease of %s: %s; trying again", self.job_id, error)
                continue
            if not mine:
                log.warning("lease of %s is lost", self.job_id)
                self._lost.set()
                return
            if due:
                extend_at = time.monotonic() + config().heartbeat_s

    def _extended(self) -> bool:
        return queue.extend(self.pool, self.job_id, self.worker) or self._taken_back()

    def _taken_back(self) -> bool:
        """Redis does not have the job down as ours: it went to another, it was called off, or Redis has lost its memory
        or was set back. Postgres knows which, and if the job is ours the lease is too."""
        with postgres.transaction() as tx:
            job = jobs.get(tx, self.job_id)
        if job is None or self.attempt is None or not job.held_by(self.worker, self.attempt):
            return False
        return queue.hold(self.pool, Ticket.of(job), self.worker, force=True)
