"""Pictures are kept as long as somebody needs them: by class, by setting, and never a moment shorter."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from keeping import a_rendered_job, ago, as_owner, backdate, decide, pictures_of, some_bytes, there
from live import Stack, eventually
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from functions.adapters import artifacts, jobs, ledger, objects, outbox, postgres, reviews, storage
from functions.adapters import retention as pages
from functions.adapters.artifacts import Kept
from functions.adapters.cleanups import Run
from functions.config import config
from functions.ctl import app
from functions.domain import transfer
from functions.domain.job import State
from functions.retention import retention

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Settings of this test's own, in this process."""

    def set_(**named: object) -> None:
        for name, value in named.items():
            monkeypatch.setenv(name.upper(), str(value))
        config.cache_clear()

    yield set_
    monkeypatch.undo()
    config.cache_clear()


def again(picture: Kept) -> Kept:
    with postgres.transaction() as tx:
        found = artifacts.get(tx, picture.id)
    assert found
    return found


def done(run: Run) -> dict[tuple[str, str], int]:
    return {(one.did, one.why): one.count for one in run.done}


def test_a_discarded_picture_is_purged_when_its_time_is_over_and_its_history_stays() -> None:
    retention()  # what other tests have left
    early, late = (pictures_of(some_bytes())[0] for _ in range(2))
    for picture in (early, late):
        decide(picture, "discard")
    backdate("generator_artifact", "decided_at", early.id, ago(days=8))
    run = retention()
    assert run.ended_at
    assert run.problem is None
    assert (done(run)["purged", "discarded"], done(run)["deleted", "unneeded"]) == (1, 1)
    assert not any(there(key) for key in (early.object_key, *early.thumbnails.values()))
    assert all(there(key) for key in (late.object_key, *late.thumbnails.values()))
    assert again(early).purged_at
    with postgres.transaction() as tx:
        assert [(one.decision, one.reviewer_id) for one in reviews.history(tx, early.id)] == [
            ("discard", early.user_id),
            ("purge", "/functions/retention"),
        ]
        assert "visionsuit.generator.artifact.purged.v1" in {told.type for told in outbox.story(tx, early.job_id)}


def test_a_setting_that_changes_holds_for_what_is_there_already(settings: Callable[..., None]) -> None:
    [picture] = pictures_of(some_bytes())
    decide(picture, "discard")
    backdate("generator_artifact", "decided_at", picture.id, ago(days=2))
    retention()
    assert there(picture.object_key)
    settings(keep_discarded_days=1)
    retention()
    assert not there(picture.object_key)


def test_identical_bytes_are_stored_once_and_live_as_long_as_anybody_needs_them() -> None:
    data = some_bytes()
    [first], [second] = pictures_of(data), pictures_of(data)
    assert first.user_id != second.user_id
    assert first.object_key == second.object_key
    own = f"generated/{second.job_id}/1/{second.object_key.rpartition('/')[2]}"
    assert there(own), "the runner has uploaded a copy"
    retention()
    assert not there(own), "of which one is enough"
    decide(first, "discard")
    backdate("generator_artifact", "decided_at", first.id, ago(days=8))
    retention()
    assert again(first).purged_at
    assert all(there(key) for key in (second.object_key, *second.thumbnails.values())), "the other still needs it"
    decide(second, "discard")
    backdate("generator_artifact", "decided_at", second.id, ago(days=8))
    retention()
    assert not there(second.object_key)
    [third] = pictures_of(data)
    assert there(third.object_key)
    assert third.object_key != first.object_key, "what was given up once is not taken up again"


def test_two_identical_pictures_of_one_job_are_one_object() -> None:
    data = some_bytes()
    one, other = pictures_of(data, data)
    assert one.object_key == other.object_key
    retention()
    assert there(one.object_key)


def test_what_nobody_reviews_is_discarded_and_its_job_completed_and_both_are_told() -> None:
    one, other = pictures_of(some_bytes(), some_bytes())
    decide(one, "accept", "herons")
    backdate("generator_job", "changed_at", one.job_id, ago(days=31))
    run = retention()
    assert done(run)["discarded", "expired"] == 1
    assert (again(one).decision, again(other).decision) == ("accept", "discard")
    with postgres.transaction() as tx:
        job = jobs.get(tx, one.job_id)
        told = {telling.type.split(".", 2)[2] for telling in outbox.story(tx, one.job_id)}
    assert job
    assert (job.state, job.cause) == (State.COMPLETED, "expired")
    assert {"artifact.discarded.v1", "job.completed.v1"} <= told
    decide(other, "restore")
    assert again(other).decision is None, "it can be taken back like any discard"
    with postgres.transaction() as tx:
        assert (jobs.get(tx, one.job_id) or job).state is State.COMPLETED
    retention()
    assert again(other).decision is None, "and its time begins anew"
    backdate("generator_artifact", "restored_at", other.id, ago(days=31))
    retention()
    assert again(other).decision == "discard"
    backdate("generator_artifact", "decided_at", other.id, ago(days=8))
    assert done(retention())["purged", "expired"] == 1


def test_a_picture_that_was_just_restored_gives_its_job_time() -> None:
    one, other = pictures_of(some_bytes(), some_bytes())
    decide(one, "discard")
    backdate("generator_job", "changed_at", one.job_id, ago(days=31))
    decide(one, "restore")
    retention()
    assert (again(one).decision, again(other).decision) == (None, None)


def test_a_moved_picture_leaves_the_outputs_and_is_read_from_its_collection(settings: Callable[..., None]) -> None:
    settings(collect_by="move")
    [picture] = pictures_of(some_bytes())
    decide(picture, "accept", "herons")
    retention()
    assert not there(picture.object_key)
    copy = str(again(picture).collection_key)
    assert storage.sha256(config().collections_bucket, copy) == picture.sha256
    assert storage.size(config().collections_bucket, copy.replace(".png", ".thumbnail-192.webp"))


def test_an_accepted_picture_stays_for_ever_unless_a_setting_says_otherwise(settings: Callable[..., None]) -> None:
    [picture] = pictures_of(some_bytes())
    decide(picture, "accept", "herons")
    backdate("generator_artifact", "decided_at", picture.id, ago(days=3000))
    retention()
    assert there(picture.object_key)
    settings(keep_curated_days=365)
    assert done(retention())["released", "curated"] == 1
    assert not there(picture.object_key)
    assert again(picture).purged_at is None
    assert storage.sha256(config().collections_bucket, str(again(picture).collection_key)) == picture.sha256


def test_what_is_delivered_without_a_review_keeps_the_key_it_was_told_under(settings: Callable[..., None]) -> None:
    data = some_bytes()
    pictures_of(data)
    [picture] = pictures_of(data, review_required=False)
    assert picture.object_key.startswith(f"generated/{picture.job_id}/1/")
    with postgres.transaction() as tx:
        job = jobs.get(tx, picture.job_id)
    assert job
    assert (job.state, job.cause, picture.decision) == (State.COMPLETED, "delivered", "deliver")
    backdate("generator_artifact", "decided_at", picture.id, ago(days=3000))
    retention()
    assert there(picture.object_key)
    settings(keep_delivered_days=100)
    assert done(retention())["purged", "delivered"] == 1
    assert not there(picture.object_key)


def test_a_job_that_does_not_move_fails_and_is_refunded(stack: Stack, user: str) -> None:
    paid, unpaid = a_rendered_job(some_bytes(), user_id=user), a_rendered_job(some_bytes(), user_id=user)
    with postgres.transaction() as tx:
        ledger.post(tx, transfer.debit(paid, authorised_by="a test", instruction="a test"))
    assert stack.balance(user) == 100 - paid.credits
    for job in (paid, unpaid):
        backdate("generator_job", "changed_at", job.id, ago(days=31))
    assert done(retention())["failed", "stale"] >= 2
    for job in (paid, unpaid):
        found = stack.job(job.id)
        assert found
        assert (found.state, found.cause) == (State.FAILED, "stale")
    assert stack.balance(user) == 100


def test_a_dry_run_counts_what_a_run_then_does_and_does_nothing() -> None:
    retention()
    pictures = [pictures_of(some_bytes())[0] for _ in range(3)]
    for picture in pictures:
        decide(picture, "discard")
        backdate("generator_artifact", "decided_at", picture.id, ago(days=8))
    said = CliRunner().invoke(app, ["retention", "run", "--dry-run", "--json"])
    assert said.exit_code == 0, said.output
    would = {(one["did"], one["why"]): (one["count"], one["bytes"]) for one in json.loads(said.stdout)["done"]}
    assert all(there(picture.object_key) for picture in pictures)
    run = retention()
    did = {(one.did, one.why): (one.count, one.bytes) for one in run.done}
    for line in (("purged", "discarded"), ("deleted", "unneeded")):
        assert would[line] == did[line]
        assert did[line][0] == 3


def test_runs_at_the_same_time_share_the_work_and_do_nothing_twice() -> None:
    retention()
    pictures = [pictures_of(some_bytes())[0] for _ in range(8)]
    for picture in pictures:
        decide(picture, "discard")
        backdate("generator_artifact", "decided_at", picture.id, ago(days=8))
    runs: list[Run] = []
    threads = [threading.Thread(target=lambda: runs.append(retention())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for line in (("purged", "discarded"), ("deleted", "unneeded")):
        assert sum(done(run).get(line, 0) for run in runs) == 8
    for picture in pictures:
        assert not there(picture.object_key)
        with postgres.transaction() as tx:
            assert [one.decision for one in reviews.history(tx, picture.id)] == ["discard", "purge"]


def test_a_run_that_is_killed_half_way_is_finished_by_the_next() -> None:
    pictures = [pictures_of(some_bytes())[0] for _ in range(12)]
    for picture in pictures:
        decide(picture, "discard")
        backdate("generator_artifact", "decided_at", picture.id, ago(days=8))
    # Pages of one with a pause between them, so that there is a half of the way, and it can be met there.
    slow = (
        "import functions.retention as r, functions.adapters.retention as p, time\n"
        "r.PAGE = p.PAGE = 1; r.DELETED_AT_ONCE = 1\n"
        "page = p.purge\n"
        "p.purge = lambda *a, **k: (time.sleep(0.1), page(*a, **k))[1]\n"
        "r.retention()"
    )
    process = subprocess.Popen([sys.executable, "-c", slow], env=dict(os.environ))
    eventually(lambda: sum(again(one).purged_at is not None for one in pictures) >= 3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert any(again(one).purged_at is None for one in pictures)
    retention()
    for picture in pictures:
        assert again(picture).purged_at
        assert not there(picture.object_key)
    with postgres.transaction() as tx:
        for picture in pictures:
            assert [one.decision for one in reviews.history(tx, picture.id)] == ["discard", "purge"]


def test_a_run_out_of_time_stops_and_says_so() -> None:
    run = retention(limit_s=0.0)
    assert run.problem is None or "out of time" in run.problem


def put(key: str, data: bytes = b"nobody knows me") -> str:
    storage.write_once(config().outputs_bucket, key, data, content_type="image/png")
    return key


def age_file(stack: Stack, key: str, days: float) -> None:
    """As if it had been stored then: the local S3 keeps plain files."""
    file = stack.house.state.root / "s3" / config().outputs_bucket / key
    at = time.time() - days * 86400
    os.utime(file, (at, at))


def test_objects_that_no_row_knows_go_after_a_grace_and_others_own_objects_never(stack: Stack) -> None:
    name = f"00-{uuid.uuid4().hex[:16]}"
    unknown = f"gone-{uuid.uuid4().hex[:8]}"
    orphan, young = put(f"generated/{unknown}/1/{name}.png"), put(f"generated/{unknown}/2/{name}.png")
    foreign = put(f"generated/{unknown}/{unknown}/00.png")
    live = put(f"generated/{a_rendered_job(some_bytes()).id}/1/{name}.thumbnail-192.webp")
    for key in (orphan, foreign, live):
        age_file(stack, key, 20)
    eventually(lambda: done(retention()).get(("deleted", "orphan")), within_s=10)
    assert not there(orphan)
    assert there(young), "somebody may be about to say what it is"
    assert there(foreign), "its key is none of a runner's"
    assert there(live), "its job is not finished"


def test_what_a_failed_job_left_goes_later_and_a_manifest_lives_as_long_as_its_pictures(stack: Stack) -> None:
    data = some_bytes()
    [picture] = pictures_of(data)
    manifest = put(f"generated/{picture.job_id}/1/manifest.json", b"{}")
    failed = a_rendered_job(data)
    with postgres.transaction() as tx:
        jobs.save(tx, failed.to(State.FAILED, cause="timeout"))
    left = put(f"generated/{failed.id}/1/01-{uuid.uuid4().hex[:16]}.png")
    age_file(stack, manifest, 20)
    age_file(stack, left, 3)
    time.sleep(0.6)  # the local S3 looks at its files twice a second
    retention()
    assert there(manifest)
    assert there(left), "a failed job's files are kept for a week"
    age_file(stack, left, 8)
    decide(picture, "discard")
    backdate("generator_artifact", "decided_at", picture.id, ago(days=8))
    time.sleep(0.6)
    assert done(retention())["deleted", "failed"] >= 1
    assert not there(left)
    assert not there(manifest)


def test_a_row_whose_object_is_gone_is_marked_and_no_new_picture_relies_on_it() -> None:
    data = some_bytes()
    [picture] = pictures_of(data)
    storage.delete(config().outputs_bucket, [picture.object_key])
    as_owner("UPDATE generator_object SET created_at = :at WHERE key = :key", at=ago(days=9), key=picture.object_key)
    assert done(retention())["marked", "missing"] >= 1
    [other] = pictures_of(data)
    assert other.object_key != picture.object_key
    assert there(other.object_key)


def test_a_copy_that_an_acceptance_left_behind_goes_and_the_platforms_own_stays(stack: Stack) -> None:
    [picture] = pictures_of(some_bytes())
    bucket = config().collections_bucket
    left, own = f"collections/elsewhere/{picture.id}.png", f"collections/elsewhere/{uuid.uuid4().hex}.png"
    for key in (left, own):
        storage.write_once(bucket, key, b"a copy", content_type="image/png")
        at = time.time() - 9 * 86400
        os.utime(stack.house.state.root / "s3" / bucket / key, (at, at))
    decide(picture, "accept", "herons")
    time.sleep(0.6)
    retention()
    assert storage.size(bucket, left) is None
    assert storage.size(bucket, own)
    assert storage.size(bucket, str(again(picture).collection_key))


def test_an_upload_that_never_ended_is_given_up(settings: Callable[..., None]) -> None:
    bucket, key = config().outputs_bucket, f"generated/j-{uuid.uuid4().hex[:8]}/1/00-0123456789abcdef.png"
    storage.client().create_multipart_upload(Bucket=bucket, Key=key)
    settings(keep_orphans_days=1e-6)
    eventually(lambda: done(retention()).get(("aborted", "unfinished")))
    assert not storage.client().list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads")


def test_old_rows_of_inbox_and_outbox_go_and_what_can_come_again_stays() -> None:
    [picture] = pictures_of(some_bytes())  # its job is not finished
    for name in ("old", "young", "letter"):
        at = ago(days=1 if name == "young" else 100)
        as_owner("INSERT INTO inbox VALUES ('f', '/a/test', :id, :at)", id=f"{picture.id} {name}", at=at)
    as_owner(
        "INSERT INTO dead_letter (key, source, id, type, attributes) VALUES (:key, '/a/test', :id, 't', '{}')",
        key=uuid.uuid4().hex * 2,
        id=f"{picture.id} letter",
    )
    as_owner("UPDATE outbox SET time = :at, told_at = :at WHERE subject = :job", at=ago(days=100), job=picture.job_id)
    as_owner(
        "INSERT INTO outbox VALUES ('/a/test', :id, 't', 'nobody', :at, '{}', NULL, :at, :at)",
        id=picture.id,
        at=ago(days=100),
    )
    as_owner("INSERT INTO signature_seen VALUES (:id, 'e', :at)", id=picture.id, at=ago(days=3))
    run = done(retention())
    for table in ("inbox", "outbox", "signature_seen"):
        assert run[f"forgot {table}", "past_use"] >= 1

    def rows(statement: str) -> set[str]:
        with postgres.transaction() as tx:
            return set(tx.execute(text(statement), {"id": picture.id, "job": picture.job_id}).scalars())

    heard = "SELECT id FROM inbox WHERE source = '/a/test' AND function = 'f' AND id LIKE :id || ' %'"
    assert rows(heard) == {f"{picture.id} young", f"{picture.id} letter"}
    assert rows("SELECT id FROM outbox WHERE subject = :job"), "its story is not over"
    assert not rows("SELECT id FROM outbox WHERE id = :id")


def test_nobody_can_make_the_house_forget_what_may_come_again() -> None:
    with pytest.raises(DBAPIError, match="still needed"), postgres.transaction() as tx:
        pages.forget(tx, "inbox", before=ago(hours=23), most=1)


def test_reports_and_accounts_are_for_people_and_machines() -> None:
    pictures_of(some_bytes())
    retention(by="a test")
    for command in (["storage", "report"], ["retention", "runs"]):
        said = CliRunner().invoke(app, command)
        assert said.exit_code == 0, said.output
        assert json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    stored = json.loads(CliRunner().invoke(app, ["storage", "report", "--json"]).stdout)["stored"]
    with postgres.transaction() as tx:
        assert stored["freed_objects"] == objects.freed(tx)[0]
