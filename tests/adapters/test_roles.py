"""One role a function: each does its whole work, and nothing that is another's.

Everything happens in one transaction that is rolled back, in the role of whose turn it is.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from keeping import an_artifact
from live import TESTER, Stack
from making import NOW, a_job
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import ProgrammingError

from functions import operate
from functions.adapters import (
    acts,
    admission,
    artifacts,
    cleanups,
    controls,
    dead_jobs,
    dead_letters,
    estimates,
    gate,
    grants,
    inbox,
    jobs,
    ledger,
    measures,
    models,
    objects,
    orphans,
    outbox,
    postgres,
    retention,
    reviews,
    sla,
    spill,
    usage,
    workflows,
)
from functions.adapters.dead_letters import Letter, Wanted
from functions.cancel import cancel
from functions.complete import complete
from functions.debit import debit
from functions.dispatch import dispatch
from functions.domain import event, transfer
from functions.domain.job import Job, State
from functions.domain.request import CancelRequest, JobRequest, ReviewDecision
from functions.submit import submit

VERBS = ("submit", "debit", "dispatch", "complete", "review", "cancel")
ALL = (*VERBS, "earn", "render", "sweep", "retention", "api", "deadletter", "metrics", "operator", "catalogue")


class Desk:
    """One transaction, at which every role takes its turn."""

    def __init__(self, tx: Connection) -> None:
        self.tx = tx

    @contextmanager
    def as_(self, role: str) -> Iterator[Connection]:
        """In this function's role; what was done in it stays."""
        self.tx.execute(text(f"SET LOCAL ROLE generator_{role}"))
        yield self.tx
        self.tx.execute(text("RESET ROLE"))

    def may(self, role: str, statement: str, **values: Any) -> bool:
        """Whether this role may run a statement; what it did is undone."""
        trial = self.tx.begin_nested()
        try:
            self.tx.execute(text(f"SET LOCAL ROLE generator_{role}"))
            self.tx.execute(text(statement), values)
        except ProgrammingError as error:
            assert "permission denied" in str(error.orig), error.orig
            return False
        finally:
            trial.rollback()
        return True

    def who_may(self, statement: str, **values: Any) -> set[str]:
        return {role for role in ALL if self.may(role, statement, **values)}


@pytest.fixture
def desk(stack: Stack) -> Iterator[Desk]:
    admin = create_engine(str(stack.house.admin_database_url), poolclass=NullPool)
    with admin.connect() as tx:
        tx.info[postgres.AFTER] = []  # nothing here is committed, so nobody hears of it
        yield Desk(tx)


@pytest.fixture
def curator(desk: Desk) -> str:
    """A user with credits, granted by the owner."""
    user = f"u-{uuid.uuid4().hex[:8]}"
    grants.give(desk.tx, TESTER, user, 50, id=user, reason="a test")
    return user


# --- each can do its whole work ---


def test_a_job_goes_all_the_way_with_each_function_in_its_own_role(desk: Desk, stack: Stack, curator: str) -> None:
    actor, job_id = event.Actor(user_id=curator, role="CURATOR"), f"job-{uuid.uuid4().hex[:12]}"

    def heard(role: str, verb: Any, news: event.Event) -> Any:
        """What `hear` does in its transaction."""
        with desk.as_(role) as tx:
            assert inbox.first(tx, function=role, source="/a/test", id=news.id)
            said = verb(tx, news)
            listed = said if isinstance(said, list | tuple) else [said]
            outbox.put(tx, f"/functions/{role}", listed)
            return listed

    with desk.as_("submit") as tx:
        in_a_minute = text("SELECT now() + interval '1 minute'")
        assert inbox.use_signature(tx, jti=job_id, event_id="e", expires_at=tx.execute(in_a_minute).scalar_one())
    asked = JobRequest(prompt="a heron", model=stack.model, width=64, height=64, steps=4)
    [submitted] = heard("submit", submit, event.JobRequested.of(job_id=job_id, actor=actor, asked=asked))
    debited, _ = heard("debit", debit, submitted)
    heard("dispatch", dispatch, debited)

    with desk.as_("render") as tx:
        job = jobs.locked(tx, job_id)
        assert job
        assert job.prompt == "a heron"
        models.learn(tx, models.find(tx, models.CHECKPOINTS, job.model))
        for state, news in ((State.DISPATCHING, event.JobDispatching), (State.IN_PROGRESS, event.JobInProgress)):
            job, was = job.to(state, worker="w"), job.state
            jobs.save(tx, job)
            outbox.put(tx, "/functions/render", [news(**job.told(was=was))])
        picture = event.Artifact(
            index=0,
            key=f"k/{job_id}",
            sha256="a" * 64,
            size_bytes=1,
            content_type="image/png",
            width_px=64,
            height_px=64,
            thumbnail_key="t",
            thumbnail_sha256="a" * 64,
        )
        report = event.RenderSucceeded(
            job_id=job_id,
            attempt=1,
            worker="w",
            artifacts=(picture,),
            manifest_key="m",
            prompt_id="p",
            comfyui_version="1",
            prepare_ms=1,
            render_ms=2,
            upload_ms=3,
        )
        outbox.put(tx, "/functions/render", [report])
    heard("complete", complete, report)

    with desk.as_("review") as tx:
        assert jobs.locked(tx, job_id)
        [kept] = [artifacts.get(tx, f"{job_id}-00")]
        assert kept
        decision = ReviewDecision(artifact_id=kept.id, decision="discard")
        assert artifacts.decide(
            tx, decision, reviewer_id="r", collection_id=None, collection_key=None, at=kept.created_at
        )
        assert artifacts.undecided(tx, job_id) == 0
        assert artifacts.restore(tx, kept.id, reviewer_id="r", reason="", at=kept.created_at)
        objects.release(tx, kept.id, at=kept.created_at)
        assert len(reviews.history(tx, kept.id)) == 2
        jobs.save(tx, job.to(State.AWAITING_REVIEW).to(State.COMPLETED))

    with desk.as_("api") as tx:
        assert [move.to_state for move in jobs.history(tx, job_id)][-1] is State.COMPLETED
        assert artifacts.of_jobs(tx, [job_id])
        assert reviews.find(tx, reviews.Wanted(job_id=job_id), after=None, limit=1)
        assert len(ledger.statement(tx, transfer.account(curator))) == 2
        assert outbox.refusal(tx, job_id) is None
        assert models.all_of(tx, models.CHECKPOINTS)
        assert workflows.all_newest(tx)


@pytest.mark.parametrize("role", ["cancel", "api"])
def test_who_calls_a_job_off_may_give_its_price_back(desk: Desk, curator: str, role: str) -> None:
    job = a_job(user_id=curator, **_workflow(desk))
    with desk.as_("submit") as tx:
        jobs.add(tx, job)
    with desk.as_("debit") as tx:
        debit(tx, event.JobSubmitted(job_id=job.id, user_id=curator, credits=job.credits))
    with desk.as_(role) as tx:
        actor = event.Actor(user_id=curator, role="CURATOR")
        cancel(tx, event.CancelRequested.of(job_id=job.id, actor=actor, asked=CancelRequest()))
    assert ledger.balance(desk.tx, transfer.account(curator)) == 50


def test_a_job_that_cannot_be_rendered_is_refunded_by_complete(desk: Desk, curator: str) -> None:
    job = a_job(user_id=curator, **_workflow(desk))
    jobs.add(desk.tx, job)
    ledger.post(desk.tx, transfer.debit(job, authorised_by="a test", instruction="a test"))
    for state in (State.DEBITED, State.QUEUED, State.DISPATCHING):
        job = job.to(state, worker="w" if state is State.DISPATCHING else None)
        jobs.save(desk.tx, job)
    failed = event.RenderFailed(
        job_id=job.id, attempt=1, worker="w", kind=event.Failure.PERMANENT, code="model_not_listed", detail="d"
    )
    with desk.as_("complete") as tx:
        told = complete(tx, failed)
    assert [one.name for one in told] == ["job.failed", "credits.transferred"]


def test_sweep_retells_restores_and_counts(desk: Desk) -> None:
    with desk.as_("sweep") as tx:
        tx.execute(outbox.UNTOLD, {"limit": 1, "retell_s": 1})
        jobs.live(tx, "default", after="", limit=1)
        measures.fold(tx)


def test_retention_does_its_whole_work(desk: Desk, curator: str) -> None:
    job = a_job(user_id=curator, **_workflow(desk))
    jobs.add(desk.tx, job)
    ledger.post(desk.tx, transfer.debit(job, authorised_by="a test", instruction="a test"))
    for state in (State.DEBITED, State.QUEUED, State.DISPATCHING, State.IN_PROGRESS, State.AWAITING_REVIEW):
        job = job.to(state, worker="w" if state in (State.DISPATCHING, State.IN_PROGRESS) else None)
        jobs.save(desk.tx, job)
    artifacts.keep(desk.tx, job, (an_artifact(job, 0, b"a"), an_artifact(job, 1, b"b")), at=NOW)
    later = NOW + timedelta(days=1)
    with desk.as_("retention") as tx:
        number = cleanups.begin(tx, by="a test", dry_run=False, at=NOW)
        assert retention.stale(tx, before=NOW, after="") is not None
        assert retention.expire(tx, before=later, purged_after=later, at=NOW).events
        assert retention.purge(tx, "discard", before=later, at=NOW).events
        retention.would_purge(tx, "discard", before=later)
        retention.would_expire(tx, before=later)
        freed = tx.execute(objects.FREED, {"limit": 1}).all()
        tx.execute(objects.DELETED, {"keys": [row.key for row in freed], "at": NOW})
        objects.needed(tx, after="", until=None, before=NOW, limit=1)
        objects.mark_missing(tx, "", at=NOW)
        for statement in (orphans.STATES, orphans.DESCRIBED):
            tx.execute(statement, {"ids": [job.id]})
        jobs.locked(tx, job.id)
        ledger.of_job(tx, transfer.account(curator), job.id)
        outbox.put(tx, "/functions/retention", [])
        outbox.backlog(tx, most=1)
        for what in ("inbox", "outbox", "signature_seen"):
            retention.forget(tx, what, before=NOW - timedelta(days=3000), most=1)
        cleanups.save(tx, number, [], ended_at=NOW)
        assert cleanups.get(tx, number).ended_at
    for role in ("api", "operator"):
        with desk.as_(role) as tx:
            usage.stored(tx)
            usage.by_user(tx, limit=1)
            cleanups.latest(tx, limit=1)


def test_only_retention_forgets(desk: Desk) -> None:
    assert desk.who_may("SELECT generator_forget('inbox', now() - interval '9 years', 1)") == {"retention"}
    assert desk.who_may("DELETE FROM generator_review") == set()
    assert desk.who_may("DELETE FROM generator_artifact") == set()


def test_sweep_learns_and_moves_jobs_to_other_pools(desk: Desk) -> None:
    with desk.as_("sweep") as tx:
        estimates.learn(tx, after=0, upto=10**9)
        estimates._keep(tx, {("a-pool", "", "hold"): [1.0]})
        spill.overdue(tx, "default")
        spill.closed_pools(tx)
        tx.execute(spill.SPILL, {"id": "", "pool": "another"})


def test_complete_sends_what_ran_out_of_memory_to_another_pool(desk: Desk) -> None:
    job = a_job(**_workflow(desk))
    with desk.as_("complete") as tx:
        assert spill.bigger(tx, job) is None
        spill.rehome(tx, job, "another")


def test_submit_counts_and_estimates_what_waits(desk: Desk, stack: Stack) -> None:
    actor = event.Actor(user_id="u", role="USER")
    asked = JobRequest(prompt="a heron", model=stack.model, width=64, height=64, steps=4)
    with desk.as_("submit") as tx:
        gate.passed(tx, admission.admit(tx, asked, actor=actor, seed=1), actor)
        tx.execute(gate.OF_ROLE, {"role": "USER", "limit": 1})


def test_the_catalogue_publishes_workflows_and_models(desk: Desk) -> None:
    with desk.as_("catalogue") as tx:
        models.register(tx, models.all_of(tx, models.CHECKPOINTS))
        published = workflows.find(tx, "txt2img", None)
        tx.execute(
            workflows.PUBLISH,
            {
                "id": "another",
                "version": "1.0.0",
                "title": "t",
                "sha256": published.sha256,
                "object_key": "another/1.0.0.json",
                "document": "{}",
            },
        )


def test_metrics_reads_all_it_tells(desk: Desk) -> None:
    with desk.as_("metrics") as tx:
        measures.totals(tx)
        measures.waiting(tx, ["default"])
        measures.pace(tx)
        measures.memory(tx)
        measures.gpus(tx)
        measures.untold(tx)
        measures.open_dead_letters(tx)
        estimates.accuracy(tx, ["default"])
        assert measures.imbalance(tx) == 0


def test_only_sweep_says_what_was_learned(desk: Desk) -> None:
    assert desk.who_may("UPDATE generator_estimate SET seen = seen") == {"sweep"}
    assert desk.who_may("UPDATE generator_job SET pool = 'p' WHERE id = ''") == {"complete", "sweep"}


def test_a_dead_letter_is_kept_by_the_sink_and_read_and_emptied_by_the_operator(desk: Desk) -> None:
    letter = Letter(attributes={"specversion": "1.0", "id": uuid.uuid4().hex, "source": "/a", "type": "t"}, data=b"{}")
    with desk.as_("deadletter") as tx:
        number = dead_letters.keep(tx, letter)
        dead_letters.keep(tx, letter)
    with desk.as_("operator") as tx:
        assert dead_letters.find(tx, Wanted(), after=number - 1, limit=1)
        found = dead_letters.get(tx, number)
        assert found
        dead_letters.mark_replayed(tx, found)
        assert dead_letters.drop(tx, number)


def test_the_operator_sees_to_dead_jobs_pools_and_users_and_reads_how_long_things_take(desk: Desk) -> None:
    job = _failed(desk)
    with desk.as_("operator") as tx:
        assert dead_jobs.find(tx, dead_jobs.Wanted(user_id=job.user_id), limit=1)
        assert dead_jobs.errors(tx, job.id)
        dead = dead_jobs.locked(tx, job.id)
        assert dead
        dead_jobs.mark_dropped(tx, dead, by="a test", reason="why")
        controls.pause(tx, job.pool, by="a test", reason="why")
        controls.resume(tx, job.pool)
        controls.block(tx, job.user_id, by="a test", reason="why")
        controls.unblock(tx, job.user_id)
        acts.record(tx, by="a test", act="pause", subject=job.pool)
        assert acts.latest(tx, limit=1)
        now = tx.execute(text("SELECT now()")).scalar_one()
        sla.report(tx, sla.Span.of(None, None, now=now), by=sla.DIMENSIONS, targets_s={})


def test_the_rest_door_asks_for_a_dead_job_anew(desk: Desk, stack: Stack, curator: str) -> None:
    job = _failed(desk, user_id=curator, model=stack.model)
    with desk.as_("api") as tx:
        dead = dead_jobs.locked(tx, job.id)
        assert dead
        actor = event.Actor(user_id=curator, role="CURATOR")
        said = submit(tx, event.JobRequested.of(job_id=dead.next_id, actor=actor, asked=operate.asked(job)))
        assert said
        outbox.put(tx, "/functions/submit", [said])
        dead_jobs.mark_requeued(tx, dead, by="a test")
        acts.record(tx, by="a test", act="requeue", subject=job.id)


# --- and nothing that is another's ---

PROMPTS = "SELECT prompt FROM generator_job LIMIT 1"
NEW_PROMPT = "UPDATE generator_job SET prompt = 'another' WHERE id = ''"
NEW_PRICE = "UPDATE generator_job SET credits = 0 WHERE id = ''"
POST = """SELECT generator_ledger_post('t', 'treasury', 'user:x', 5, 'grant', 'admin', NULL, NULL, 'me', 'nothing')"""


def test_who_loads_jobs_may_read_prompts_and_nobody_else(desk: Desk) -> None:
    assert desk.who_may(PROMPTS) == {*VERBS, "render", "sweep", "retention", "api"}


def test_what_was_asked_and_its_price_are_nobodys_to_change(desk: Desk) -> None:
    assert desk.who_may(NEW_PROMPT) == set()
    assert desk.who_may(NEW_PRICE) == set()


def test_only_submit_makes_jobs(desk: Desk) -> None:
    made = "INSERT INTO generator_job (id, prompt) SELECT '', '' WHERE false"
    assert desk.who_may(made) == {"submit", "api"}


def test_history_is_written_by_the_jobs_own_trigger_alone(desk: Desk) -> None:
    forged = "INSERT INTO generator_job_transition (job_id, to_state, attempt, at) SELECT '', '', 1, now() WHERE false"
    assert desk.who_may(forged) == set()
    assert not desk.may("app", forged)


def test_the_dead_letter_sink_cannot_read_what_it_wrote_and_metrics_only_counts(desk: Desk) -> None:
    assert desk.who_may("SELECT data FROM dead_letter LIMIT 1") == {"operator"}
    assert desk.who_may("SELECT attributes FROM dead_letter LIMIT 1") == {"operator"}
    assert desk.may("metrics", "SELECT destination FROM dead_letter LIMIT 1")


def test_metrics_writes_nothing_and_reads_no_event(desk: Desk) -> None:
    assert not desk.may("metrics", "SELECT data FROM outbox LIMIT 1")
    assert not desk.may("metrics", "UPDATE metric_total SET value = 0")
    assert desk.who_may("UPDATE metric_total SET value = 0") == {"sweep"}


def test_the_operator_reads_credits_and_no_prompt_and_posts_nothing(desk: Desk) -> None:
    assert desk.may("operator", "SELECT * FROM generator_credit_transaction LIMIT 1")
    for statement in (PROMPTS, POST):
        assert not desk.may("operator", statement)


def test_acts_are_only_added_and_what_is_known_of_a_dead_job_is_nobodys_to_change(desk: Desk) -> None:
    assert desk.who_may("UPDATE generator_operator_act SET by = 'somebody else'") == set()
    assert desk.who_may("DELETE FROM generator_operator_act") == set()
    assert desk.who_may("UPDATE generator_dead_job SET code = 'another'") == set()
    assert desk.who_may("UPDATE generator_dead_job SET dropped_why = dropped_why") == {"operator", "api"}
    assert desk.who_may("INSERT INTO generator_dead_job (job_id) SELECT '' WHERE false") == set()


def test_a_single_login_for_all_functions_may_do_what_each_may(desk: Desk) -> None:
    member = text("SELECT pg_has_role('generator_app', :role, 'USAGE')")
    for role in ALL:
        assert desk.tx.execute(member, {"role": f"generator_{role}"}).scalar_one()


def _failed(desk: Desk, **fields: Any) -> Job:
    """A job that was paid, claimed, and failed for good."""
    job = a_job(**_workflow(desk), **fields)
    jobs.add(desk.tx, job)
    for state in (State.DEBITED, State.QUEUED, State.DISPATCHING, State.FAILED):
        job = job.to(state, cause="node_error" if state is State.FAILED else None)
        jobs.save(desk.tx, job)
    return job


def _workflow(desk: Desk) -> dict[str, str]:
    """The published workflow that a job names."""
    found = desk.tx.execute(text("SELECT id, version, sha256 FROM generator_workflow WHERE id = 'txt2img'")).one()
    return {"workflow_id": found.id, "workflow_version": found.version, "workflow_sha256": found.sha256}
