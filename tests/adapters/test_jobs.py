"""Jobs in Postgres: the rows guard themselves, whoever writes to them, and every move leaves its history."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise, product

import pytest
from making import NOW, a_job
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from functions.adapters import jobs, postgres
from functions.domain.job import MOVES, Job, State

pytestmark = pytest.mark.usefixtures("stack")

#: A way to each state, by legal moves only.
WAYS = {
    State.SUBMITTED: (),
    State.DEBITED: (State.DEBITED,),
    State.QUEUED: (State.DEBITED, State.QUEUED),
    State.DISPATCHING: (State.DEBITED, State.QUEUED, State.DISPATCHING),
    State.IN_PROGRESS: (State.DEBITED, State.QUEUED, State.DISPATCHING, State.IN_PROGRESS),
    State.AWAITING_REVIEW: (
        *(State.DEBITED, State.QUEUED, State.DISPATCHING),
        *(State.IN_PROGRESS, State.AWAITING_REVIEW),
    ),
    State.COMPLETED: (
        *(State.DEBITED, State.QUEUED, State.DISPATCHING),
        *(State.IN_PROGRESS, State.AWAITING_REVIEW, State.COMPLETED),
    ),
    State.FAILED: (State.FAILED,),
    State.CANCELLED: (State.CANCELLED,),
}
MOVE = text("UPDATE generator_job SET state = :state, attempt = :attempt, changed_at = now() WHERE id = :id")


@pytest.fixture(autouse=True)
def called_off_afterwards() -> Iterator[None]:
    """What stays unfinished here is called off, or sweep would go on putting it into its queue."""
    yield
    with postgres.transaction() as tx:
        tx.execute(
            text("""
            UPDATE generator_job SET state = 'cancelled' WHERE pool = 'nobody-serves-this'
            AND state NOT IN ('completed', 'failed', 'cancelled')""")
        )


def kept(**fields: object) -> Job:
    """A new job, in Postgres."""
    job = a_job(**fields)
    with postgres.transaction() as tx:
        assert jobs.add(tx, job)
    return job


def brought_to(state: State) -> Job:
    """A job that stands in this state in Postgres."""
    job = kept()
    with postgres.transaction() as tx:
        for step in WAYS[state]:
            job = job.to(step, worker="w-1" if step is State.DISPATCHING else job.worker)
            jobs.save(tx, job)
    return job


def refusal(statement: str, **values: object) -> str:
    """What Postgres says to this statement, which it must refuse."""
    with pytest.raises(DBAPIError) as error, postgres.transaction() as tx:
        tx.execute(text(statement), values)
    return str(error.value)


def test_the_database_allows_exactly_the_moves_of_the_domain() -> None:
    may = text("SELECT generator_job_may_move(:was, :becomes)")
    with postgres.transaction() as tx:
        for was, becomes in product(State, State):
            said = tx.execute(may, {"was": was, "becomes": becomes}).scalar()
            assert said == (becomes in MOVES[was]), f"{was} -> {becomes}"


@pytest.mark.parametrize("state", State)
def test_an_illegal_move_is_refused_by_the_row_itself(state: State) -> None:
    job = brought_to(state)
    for onward in set(State) - MOVES[state] - {state}:
        said = refusal(
            "UPDATE generator_job SET state = :state, attempt = :attempt WHERE id = :id",
            **{"state": onward, "attempt": job.attempt, "id": job.id},
        )
        assert f"job {job.id}: {state} -> {onward}" in said
    for onward in MOVES[state]:
        with postgres.transaction() as tx:
            tx.execute(MOVE, {"state": onward, "attempt": job.attempt, "id": job.id})
            tx.rollback()


def test_a_job_begins_as_submitted_on_its_first_attempt() -> None:
    for wrong in ({"state": State.QUEUED}, {"attempt": 2}):
        with pytest.raises(DBAPIError, match="a job begins as submitted, attempt 1"), postgres.transaction() as tx:
            jobs.add(tx, a_job(**wrong))


def test_a_job_that_is_there_already_stays_as_it_is() -> None:
    job = kept(prompt="the first")
    with postgres.transaction() as tx:
        assert not jobs.add(tx, replace(job, prompt="the second", user_id="somebody else"))
        assert jobs.get(tx, job.id) == job


def test_what_was_kept_comes_back_the_same_to_the_last_digit_of_its_seed() -> None:
    job = kept(
        seed=2**64 - 1,
        loras=({"id": "ink", "strength": 0.5},),
        tags=("v24", "night"),
        parameters={"cfg": 7.5, "sampler": "euler"},
        due_ms=2**53 - 1,
        collection_id="herons",
    )
    with postgres.transaction() as tx:
        assert jobs.get(tx, job.id) == job
        assert jobs.get(tx, "no-such-job") is None


@pytest.mark.parametrize("running", [State.DISPATCHING, State.IN_PROGRESS])
def test_only_a_running_job_on_its_way_back_to_the_queue_gets_the_next_attempt(running: State) -> None:
    for state in set(State) - {running}:
        job = brought_to(state)
        for onward in MOVES[state] - ({State.QUEUED} if state in (State.DISPATCHING, State.IN_PROGRESS) else set()):
            assert "attempt 1 -> 2" in refusal(str(MOVE), state=onward, attempt=2, id=job.id)
    job = brought_to(running)
    assert "attempt 1 -> 3" in refusal(str(MOVE), state=State.QUEUED, attempt=3, id=job.id)
    with postgres.transaction() as tx:
        tx.execute(MOVE, {"state": State.QUEUED, "attempt": 2, "id": job.id})
    assert "attempt 2 -> 1" in refusal(str(MOVE), state=State.DISPATCHING, attempt=1, id=job.id)


def test_attempt_and_worker_change_only_with_the_state() -> None:
    job = brought_to(State.IN_PROGRESS)
    for change in ("attempt = 2", "worker = 'w-2'", "worker = NULL"):
        assert "change only with the state" in refusal(f"UPDATE generator_job SET {change} WHERE id = :id", id=job.id)


def test_every_move_writes_exactly_one_row_of_history() -> None:
    job = brought_to(State.COMPLETED)
    with postgres.transaction() as tx:
        moves = jobs.history(tx, job.id)
    assert [move.to_state for move in moves] == [State.SUBMITTED, *WAYS[State.COMPLETED]]
    assert [move.from_state for move in moves] == [None, *(move.to_state for move in moves[:-1])]
    assert all(one.at <= other.at for one, other in pairwise(moves))


def test_a_save_that_moves_nothing_writes_no_history() -> None:
    job = brought_to(State.QUEUED)
    with postgres.transaction() as tx:
        jobs.save(tx, replace(job, run_at=NOW))
        assert len(jobs.history(tx, job.id)) == 3


def test_history_says_who_held_the_job_and_why_it_moved() -> None:
    job = brought_to(State.IN_PROGRESS)
    with postgres.transaction() as tx:
        jobs.save(tx, job.to(State.QUEUED, cause="comfyui_lost", attempt=2, worker=None, changed_at=NOW))
        last = jobs.history(tx, job.id)[-1]
    assert (last.cause, last.worker, last.attempt, last.at) == ("comfyui_lost", "w-1", 2, NOW)


def test_history_cannot_be_written_but_by_moving_the_job() -> None:
    job = kept()
    said = refusal(
        "INSERT INTO generator_job_transition (job_id, to_state, attempt, at) VALUES (:id, 'completed', 1, now())",
        id=job.id,
    )
    assert "permission denied" in said
    assert "permission denied" in refusal(
        "UPDATE generator_job_transition SET cause = 'x' WHERE job_id = :id", id=job.id
    )
    assert "permission denied" in refusal("DELETE FROM generator_job_transition WHERE job_id = :id", id=job.id)
    assert "permission denied" in refusal("DELETE FROM generator_job WHERE id = :id", id=job.id)


def test_of_many_who_would_move_a_job_at_once_one_does() -> None:
    job, moved = brought_to(State.QUEUED), []

    def claim(worker: str) -> None:
        with postgres.transaction() as tx:
            found = jobs.locked(tx, job.id)
            if found and found.state is State.QUEUED:
                jobs.save(tx, found.to(State.DISPATCHING, worker=worker))
                moved.append(worker)

    threads = [threading.Thread(target=claim, args=(f"w-{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with postgres.transaction() as tx:
        found = jobs.get(tx, job.id)
        assert found and [found.worker] == moved
        assert len(jobs.history(tx, job.id)) == 4


def test_a_users_jobs_are_read_newest_first_page_by_page_without_a_gap_or_a_double() -> None:
    user = a_job().id
    made = [kept(user_id=user, submitted_at=NOW + timedelta(seconds=n // 2)) for n in range(7)]
    kept(user_id="somebody else")
    newest_first = sorted(made, key=lambda job: (job.submitted_at, job.id), reverse=True)
    read: list[Job] = []
    with postgres.transaction() as tx:
        while page := jobs.of_user(
            tx, user, state=None, before=(read[-1].submitted_at, read[-1].id) if read else None, limit=2
        ):
            read += page
    assert read == newest_first


def test_a_users_jobs_can_be_asked_for_by_state() -> None:
    user = a_job().id
    kept(user_id=user)
    failed = kept(user_id=user).to(State.FAILED)
    with postgres.transaction() as tx:
        jobs.save(tx, failed)
        assert jobs.of_user(tx, user, state=State.FAILED, before=None, limit=9) == [failed]


def test_the_jobs_redis_must_know_of_are_read_in_pages_and_finished_ones_are_not_among_them() -> None:
    live = {brought_to(state).id for state in (State.QUEUED, State.DISPATCHING, State.IN_PROGRESS)}
    other = {brought_to(state).id for state in set(State) - {State.QUEUED, State.DISPATCHING, State.IN_PROGRESS}}
    read, after = [], ""
    with postgres.transaction() as tx:
        while page := jobs.live(tx, "nobody-serves-this", after=after, limit=2):
            read += [job.id for job in page]
            after = read[-1]
    assert live <= set(read)
    assert not other & set(read)
    assert read == sorted(read)


def test_a_prompt_is_not_in_the_error_of_a_statement_that_failed() -> None:
    with pytest.raises(DBAPIError) as error, postgres.transaction() as tx:
        jobs.add(tx, a_job(prompt="a secret heron", images=0))
    assert "secret" not in str(error.value)
