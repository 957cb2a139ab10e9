"""submit: a request becomes a priced, stored job.

hears   job.requested
says    job.submitted   the job is stored with its price; nothing is paid yet
        job.rejected    it never became a job: nothing stored, nothing charged
"""

import secrets
from datetime import UTC, datetime

from sqlalchemy import Connection

from functions.adapters import admission, controls, earnings, gate, jobs, ledger, quotes, team_pools
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.event import JobRequested, JobSubmitted
from functions.domain.job import Job, State
from functions.domain.place import due_ms, head_start_ms
from functions.domain.request import SEED_LIMIT, JobRequest, exact_seed
from functions.domain.transfer import account, spenders


def submit(tx: Connection, event: JobRequested) -> JobSubmitted | None:
    """Role, parameters, limits, balance, caps, then the job, in this order; Rejected names the first that fails."""
    actor, asked = event.actor, event.asked
    if actor.role not in config().roles:
        raise Rejected("role_not_allowed", f"{actor.role} may not ask for pictures here: {config().submit_roles} may")
    controls.check_user(tx, actor.user_id)
    seed = secrets.randbelow(SEED_LIMIT) if asked.seed is None else exact_seed(asked.seed)
    admitted = gate.passed(tx, admission.admit(tx, asked, actor=actor, seed=seed), actor)
    wait = admitted.outlook.wait
    now = datetime.now(UTC)
    price = admitted.quote
    if asked.quote_id and not admitted.degraded:  # less than was asked for costs less than was quoted
        price = quotes.find(tx, asked, user_id=actor.user_id, now=now)
    payer = team_pools.payer(tx, actor.user_id, asked.pay_from)
    if payer is None:
        earnings.touch(tx, actor.user_id)
    short = admission.shortfall(tx, payer or account(actor.user_id), price.credits)
    if short:
        raise Rejected("insufficient_credits", str(short))
    who = spenders(payer or account(actor.user_id), member=actor.user_id if payer else None)
    capped = ledger.over_cap(tx, who, price.credits, caps=config().spending_caps_of(actor.role))
    if capped:
        raise Rejected("spending_cap_reached", capped)
    job = Job(
        id=event.job_id,
        user_id=actor.user_id,
        role=actor.role,
        pool=admitted.pool,
        state=State.SUBMITTED,
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        workflow_id=admitted.workflow.id,
        workflow_version=admitted.workflow.version,
        workflow_sha256=admitted.workflow_sha256,
        model=asked.model,
        loras=tuple({"id": lora.id, "strength": lora.strength} for lora in asked.loras),
        seed=seed,
        parameters=admitted.parameters,
        images=admitted.images,
        credits=price.credits,
        boost=asked.boost,
        price_version=price.version,
        quote_id=asked.quote_id,
        payer=payer,
        tags=asked.tags,
        collection_id=asked.collection_id,
        review_required=_review_required(asked),
        due_ms=due_ms(
            start_ms=round(now.timestamp() * 1000),
            head_start_ms=head_start_ms(actor.role, asked.boost, worth_ms=config().head_starts_ms),
        ),
        submitted_at=now,
        changed_at=now,
        wait_p50_ms=wait.p50_ms if wait else None,
        wait_p90_ms=wait.p90_ms if wait else None,
        wait_raw_ms=wait.raw_ms if wait else None,
        degraded=admitted.degraded,
    )
    if not jobs.add(tx, job):
        kept = jobs.get(tx, job.id)
        if kept and kept.user_id == actor.user_id:
            return None  # asked for again, under another event id: the job that is there stands
        raise Rejected("job_exists", f"there is a job {job.id} already: give each job an id of its own")
    return JobSubmitted(job_id=job.id, user_id=job.user_id, credits=job.credits)


def _review_required(asked: JobRequest) -> bool:
    """Whether a curator decides about the pictures; Rejected when the request waives what it must not."""
    review = config().review
    if review == "always" and not asked.review_required:
        raise Rejected(
            "review_required", "every picture is reviewed here: leave review_required out", field="review_required"
        )
    return review != "never" and asked.review_required
