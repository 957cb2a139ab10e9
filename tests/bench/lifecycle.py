"""A whole job, asked for, paid, rendered and reviewed: what it costs the database."""

from bench.row import Goal, Measure, Row
from bench.servers import Servers

JOBS = 6  # a round
ROUNDS = 5
MOST = 9


def commits(row: Measure, servers: Servers) -> Row:
    """Commits a job, through the whole house with ComfyUI's stand-in, and whether they grow as jobs pile up behind."""
    house = servers.python("bench.actors.house")
    found = sorted(house.do("commits", jobs=JOBS) for _ in range(ROUNDS))
    per_job = found[len(found) // 2]
    return row.row(
        value=per_job,
        reference_value=float(MOST),
        ratio=per_job / MOST,
        ok=row.goal.met(per_job / MOST),
        rounds=ROUNDS,
        note=f"{found[0]:.1f} to {found[-1]:.1f}, {JOBS} jobs a round; the clock's own commits are taken off",
    )


ROWS = [
    Measure(
        name="lifecycle_commits",
        unit="commits a job",
        reference="commits",
        goal=Goal(most=1.0),
        about=f"commits from the asking to the review, of all functions and the runner together; at most {MOST}",
        run=commits,
    )
]
