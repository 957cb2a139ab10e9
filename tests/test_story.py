"""One job, from the asking to the collection: the first page for whoever is new here.

VisionSuit's Core API signs an event; five functions, a queue, a runner and ComfyUI do the rest; a curator keeps the
picture; every credit is accounted for. All of it is real but the model.
"""

import hashlib
import io

from live import Stack
from PIL import Image

from functions.adapters import artifacts, ledger, outbox, postgres, storage
from functions.config import config
from functions.domain import transfer
from functions.domain.job import State


def test_a_picture_is_asked_for_paid_painted_reviewed_and_handed_to_a_collection(stack: Stack, user: str) -> None:
    core_api = stack.speaking_for(user)

    # A curator asks; the Core API signs the wish and emits it as an event.
    job_id = core_api.ask(stack.request(prompt="a heron at dawn", seed="18446744073709551615"))

    # submit, debit and dispatch hear of it in turn; a runner claims it, ComfyUI paints, complete keeps the picture.
    job = stack.wait(job_id, State.AWAITING_REVIEW)
    assert stack.moves(job_id) == [
        (State.SUBMITTED, 1),
        (State.DEBITED, 1),
        (State.QUEUED, 1),
        (State.DISPATCHING, 1),
        (State.IN_PROGRESS, 1),
        (State.AWAITING_REVIEW, 1),
    ]
    assert job.seed == 2**64 - 1, "a large seed is not altered on the way"

    # It was paid for once, and the book still sums to zero.
    with postgres.transaction() as tx:
        statement = ledger.statement(tx, transfer.account(user))
        assert [(entry.reason, entry.change) for entry in statement] == [("debit", -job.credits), ("grant", 100)]
        assert ledger.imbalance(tx) == 0

    # The picture lies in the outputs bucket: a real one, of the size asked for, its digest the one on record.
    with postgres.transaction() as tx:
        [picture] = artifacts.of_jobs(tx, [job_id])
    stored = b"".join(storage.stream(config().outputs_bucket, picture.object_key))
    assert hashlib.sha256(stored).hexdigest() == picture.sha256
    assert Image.open(io.BytesIO(stored)).size == (64, 64)

    # The curator keeps it: it is copied into the collection, and the job is done.
    core_api.decide(job_id, picture.id, "accept", "herons")
    stack.wait(job_id, State.COMPLETED)
    with postgres.transaction() as tx:
        [kept] = artifacts.of_jobs(tx, [job_id])
    assert kept.collection_id == "herons"
    assert storage.sha256(config().collections_bucket, str(kept.collection_key)) == picture.sha256

    # The platform was told every step of it.
    with postgres.transaction() as tx:
        told = [telling.type.removeprefix("visionsuit.generator.") for telling in outbox.story(tx, job_id)]
    assert told[:2] == ["job.submitted.v1", "credits.transferred.v1"] or told[0] == "job.submitted.v1"
    assert {"job.queued.v1", "job.in_progress.v1", "artifact.accepted.v1", "job.completed.v1"} <= set(told)
