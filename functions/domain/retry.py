"""Whether another try can help, and how long to wait before it."""

from dataclasses import dataclass

from functions.domain.errors import Failure


@dataclass(frozen=True, kw_only=True)
class Policy:
    """retries: tries after the first. Waits grow from base_s by factor up to cap_s, then full jitter is taken."""

    retries: int = 3
    base_s: float = 10
    factor: float = 2
    cap_s: float = 300

    def allows(self, kind: Failure, *, attempt: int) -> bool:
        """Whether the attempt after this one is worth a GPU."""
        return kind is not Failure.PERMANENT and attempt <= self.retries

    def backoff_s(self, *, attempt: int, chance: float) -> float:
        """Seconds to wait after this attempt failed; `chance` in [0, 1) is the full jitter, so that jobs which
        failed together do not come back together."""
        return min(self.cap_s, self.base_s * self.factor ** (attempt - 1)) * chance
