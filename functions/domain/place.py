"""Where a job stands in the line: one number, lower runs first, and every term of it can be told to its owner."""

from types import MappingProxyType

#: What a tier is worth, in ms of head start: an admin passes every line, a member starts level.
HEAD_START_MS = MappingProxyType(
    {"ADMIN": 10**12, "CURATOR": 30 * 60_000, "USER": 0, "LOW": -30 * 60_000},
)
BOOST_HEAD_START_MS = 60 * 60_000


def due_ms(*, submitted_ms: int, role: str, boost: int) -> int:
    """due = start - head start, unix ms.

    Stays under 2**53, the last whole number a Redis score holds exactly (ZADD).
    """
    head_start_ms = HEAD_START_MS.get(role.upper(), 0)
    if boost:
        head_start_ms = max(head_start_ms, BOOST_HEAD_START_MS)
    return submitted_ms - head_start_ms
