"""vsgen jobs: jobs that no retry could help, and what is to become of them.

Events that no function could take are another matter: `vsgen dead-letters`.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from functions import operate
from functions.adapters import dead_jobs, postgres
from functions.adapters.dead_jobs import Wanted
from functions.config import config
from functions.ctl_say import Json, ago, minute, say, table
from functions.domain.errors import Unavailable
from functions.operate import Outcome

app = typer.Typer(no_args_is_help=True, help=__doc__, rich_markup_mode=None)
dead = typer.Typer(
    no_args_is_help=True,
    help="Jobs that failed for good and were refunded. What was asked for is never shown, because that is a prompt.",
    rich_markup_mode=None,
)
app.add_typer(dead, name="dead")

JobIds = Annotated[list[str] | None, typer.Argument(help="jobs by their id", show_default=False)]
Code = Annotated[str | None, typer.Option(help="that died of this: out_of_memory, timeout ...")]
Pool = Annotated[str | None, typer.Option(help="in this pool")]
User = Annotated[str | None, typer.Option(help="of this user")]
Model = Annotated[str | None, typer.Option(help="that asked for this model")]
OlderThan = Annotated[str | None, typer.Option(help="that died so long ago: 30m, 12h, 7d")]
All = Annotated[bool, typer.Option("--all", help="every dead job that waits")]


@dead.command("list")
def listing(
    code: Code = None,
    pool: Pool = None,
    user: User = None,
    model: Model = None,
    older_than: OlderThan = None,
    all_: Annotated[bool, typer.Option("--all", help="requeued and dropped ones as well")] = False,
    limit: Annotated[int, typer.Option(min=1, help="how many at the most")] = 100,
    as_json: Json = False,
) -> None:
    """Dead jobs that wait for somebody, in the order they died."""
    wanted = Wanted(code=code, pool=pool, user_id=user, model=model, until=ago(older_than), settled=all_)
    found = list(islice(operate.each(wanted), limit + 1))
    more, shown = len(found) > limit, found[:limit]
    head = ("job", "standing", "code", "kind", "attempts", "pool", "user", "model", "died at", "requeued as")
    rows: list[tuple[object, ...]] = [
        (
            *(one.job_id, one.standing, one.code, one.kind, one.attempts),
            *(one.pool, one.user_id, one.model, minute(one.died_at), one.requeued_as or ""),
        )
        for one in shown
    ]
    text = table(head, rows) if rows else "no dead jobs"
    records = [dict(dead_jobs.record(one)) for one in shown]
    say({"jobs": records, "more": more}, as_json, f"{text}\n... and more: raise --limit" if more else text)


@dead.command()
def show(job_id: Annotated[str, typer.Argument(help="the job's id")], as_json: Json = False) -> None:
    """One dead job, with what went wrong in each attempt."""
    with postgres.transaction() as tx:
        found = dead_jobs.get(tx, job_id)
        errors = dead_jobs.errors(tx, job_id)
    if found is None:
        typer.echo(f"vsgen: there is no dead job {job_id}", err=True)
        raise typer.Exit(1)
    record = dict(dead_jobs.record(found, errors))
    lines = [f"{name:12} {value}" for name, value in record.items() if name != "errors" and value is not None]
    head = ("attempt", "code", "kind", "worker", "at", "detail")
    rows: list[tuple[object, ...]] = [
        (one.attempt, one.code, one.kind or "", one.worker or "", minute(one.at), one.detail or "") for one in errors
    ]
    say(record, as_json, "\n".join([*lines, "", table(head, rows)]))


@dead.command()
def requeue(
    job_ids: JobIds = None,
    code: Code = None,
    pool: Pool = None,
    user: User = None,
    model: Model = None,
    older_than: OlderThan = None,
    all_: All = False,
    reason: Annotated[str, typer.Option(help="kept with the act")] = "",
    as_json: Json = False,
) -> None:
    """Ask for them once more, with the same seed, in their users' names: each a new job, which is paid again. Doing so
    twice asks once."""
    config().need("k_sink")
    chosen = _chosen(job_ids, code, pool, user, model, older_than, all_)
    _tell("requeued", operate.requeue(chosen, by=config().operator_name, reason=reason), as_json)


@dead.command()
def drop(
    reason: Annotated[str, typer.Option(help="why; kept with the job", show_default=False)],
    job_ids: JobIds = None,
    code: Code = None,
    pool: Pool = None,
    user: User = None,
    model: Model = None,
    older_than: OlderThan = None,
    all_: All = False,
    as_json: Json = False,
) -> None:
    """Take them off the list for good. They were refunded when they died; the record of them stays."""
    chosen = _chosen(job_ids, code, pool, user, model, older_than, all_)
    _tell("dropped", operate.drop(chosen, by=config().operator_name, reason=reason), as_json)


def _chosen(
    job_ids: list[str] | None,
    code: str | None,
    pool: str | None,
    user: str | None,
    model: str | None,
    older_than: str | None,
    all_: bool,
) -> Iterable[str]:
    """The ids given, or those of the open dead jobs that fit; saying nothing chooses nothing."""
    filtered = any((code, pool, user, model, older_than))
    if bool(job_ids) + filtered + all_ != 1:
        raise typer.BadParameter("give ids, or a filter (--code, --pool, --user, --model, --older-than), or --all")
    if job_ids:
        return job_ids
    until = ago(older_than) or datetime.now(UTC)  # what dies anew while this goes on is not met again
    wanted = Wanted(code=code, pool=pool, user_id=user, model=model, until=until)
    return (one.job_id for one in operate.each(wanted))


def _tell(done_to: str, outcomes: Iterator[Outcome], as_json: bool) -> None:
    """Do it, and tell what became of each; exit code 1 unless all went well."""
    seen: list[Outcome] = []
    stopped = None
    try:
        for outcome in outcomes:
            seen.append(outcome)
    except Unavailable as error:
        stopped = str(error)
    done = [one for one in seen if one.problem is None]
    problems = {one.job_id: {"code": one.code, "problem": one.problem} for one in seen if one.problem is not None}
    lines = [
        f"{len(done)} {done_to}",
        *(f"{one.job_id} is asked for as {one.requeued_as}" for one in done if one.requeued_as),
    ]
    lines += [f"{one.job_id}: {one.problem}" for one in seen if one.problem is not None]
    if stopped:
        lines.append(f"stopped: {stopped}; what was not {done_to} waits as before")
    record = {
        done_to: {one.job_id: one.requeued_as for one in done} if done_to == "requeued" else [o.job_id for o in done],
        "problems": problems,
        "stopped": stopped,
    }
    say(record, as_json, "\n".join(lines))
    if problems or stopped:
        raise typer.Exit(1)
