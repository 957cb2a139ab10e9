"""What a request comes to: its workflow, resolved parameters, pool and price, the same for a quote and for a job."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from functions.adapters import ledger, models, originals, workflows
from functions.config import config
from functions.domain import price
from functions.domain.errors import InsufficientCredits, Rejected
from functions.domain.parameter import Type
from functions.domain.request import JOB_ID, JobRequest
from functions.domain.workflow import Workflow, resolve

#: Kept in columns of their own, so that what is sensitive is in one place only.
OWN_COLUMNS = ("prompt", "negative_prompt", "model", "seed")


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """A request that can run: `parameters` are resolved, without the ones that a job keeps in columns of their own."""

    workflow: Workflow
    workflow_sha256: str
    parameters: Mapping[str, Any]
    images: int
    pool: str
    quote: price.Quote


def admit(tx: Connection, asked: JobRequest, *, seed: int, user_id: str) -> Admitted:
    """What this user's request comes to; Rejected names the field that stands in the way."""
    published = workflows.find(tx, asked.workflow.id, asked.workflow.version)
    resolved = resolve(published.workflow, asked.values(seed=seed))
    _find_files(tx, published.workflow, resolved, asked, user_id)
    parameters = {name: value for name, value in resolved.items() if name not in OWN_COLUMNS}
    return Admitted(
        workflow=published.workflow,
        workflow_sha256=published.sha256,
        parameters=parameters,
        images=int(parameters.get("images", 1)),
        pool=_pool(asked.tags),
        quote=price.quote(
            parameters,
            complexity=published.workflow.complexity,
            loras=len(asked.loras),
            boost=asked.boost,
            prices=config().prices,
        ),
    )


def _find_files(
    tx: Connection, workflow: Workflow, resolved: Mapping[str, Any], asked: JobRequest, user_id: str
) -> None:
    """Pass a request whose models, LoRAs and pictures there are."""
    for name, parameter in workflow.parameters.items():
        if name in resolved and parameter.type is Type.MODEL:
            models.find(tx, str(parameter.folder), resolved[name], field=name)
        if name in resolved and parameter.type is Type.IMAGE:
            originals.find(tx, resolved[name], user_id=user_id, field=name)
    for lora in asked.loras:
        models.find(tx, models.LORAS, lora.id)
    if asked.loras and workflow.lora_slot is None:
        raise Rejected("loras_unsupported", f"workflow {workflow.id} takes no LoRAs", field="loras")


def shortfall(tx: Connection, account: str, credits: int) -> InsufficientCredits | None:
    """What the account lacks for this price, if anything. A look ahead, to refuse early; the debit decides."""
    held = ledger.balance(tx, account)
    return InsufficientCredits(account, balance=held, needed=credits) if held < credits else None


def check_job_id(job_id: str) -> str:
    """A job id from outside, fit to be a part of object keys."""
    if not re.fullmatch(JOB_ID, job_id):
        raise Rejected("job_id_invalid", "a job id is 1 to 64 letters, digits, - and _", field="subject")
    return job_id


def _pool(tags: tuple[str, ...]) -> str:
    """The first pool that offers all these tags; a pool's own name is one of its tags."""
    pools = config().pool_tags
    for name, offered in pools.items():
        if offered.issuperset(tags):
            return name
    known = "; ".join(f"{name}: {', '.join(sorted(offered))}" for name, offered in pools.items())
    wanted = ", ".join(map(repr, tags))
    raise Rejected("no_such_pool", f"no pool offers {wanted}; there are {known}", field="tags")
