"""What a request comes to: its workflow, resolved parameters, pool, price and wait, the same for a quote and for a job.
Whether it may come now is the gate's (`adapters/gate.py`)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from functions.adapters import controls, ledger, models, originals, outlook, workflows
from functions.adapters.controls import PoolControl
from functions.adapters.outlook import Insight, Outlook
from functions.config import config
from functions.domain import place, pool, price
from functions.domain.errors import InsufficientCredits, Rejected
from functions.domain.estimate import Range
from functions.domain.event import Actor
from functions.domain.parameter import Type
from functions.domain.pool import Need
from functions.domain.request import JOB_ID, JobRequest
from functions.domain.workflow import Workflow, resolve

#: Kept in columns of their own, so that what is sensitive is in one place only.
OWN_COLUMNS = ("prompt", "negative_prompt", "model", "seed")


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """A request that can run: `parameters` are resolved, without the ones that a job keeps in columns of their own.

    insight: its pool as it stands. degraded: what it gets less of than was asked, as {"steps": {"asked": 28,
    "given": 14}}.
    """

    asked: JobRequest
    workflow: Workflow
    workflow_sha256: str
    parameters: Mapping[str, Any]
    pool: str
    insight: Insight
    degraded: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def images(self) -> int:
        return int(self.parameters.get("images", 1))

    @property
    def quote(self) -> price.Quote:
        return price.quote(
            self.parameters,
            complexity=self.workflow.complexity,
            loras=len(self.asked.loras),
            boost=self.asked.boost,
            prices=config().prices,
        )

    @property
    def outlook(self) -> Outlook:
        """How long it would wait."""
        return self.insight.outlook()

    @property
    def render(self) -> Range:
        """How long a GPU would have it."""
        work = place.work(self.parameters, images=self.images, complexity=self.workflow.complexity)
        return self.insight.known.render(work)


def admit(tx: Connection, asked: JobRequest, *, actor: Actor, seed: int) -> Admitted:
    """What this request comes to; Rejected names the field that stands in the way."""
    published = workflows.find(tx, asked.workflow.id, asked.workflow.version)
    workflow = published.workflow
    resolved = resolve(workflow, asked.values(seed=seed))
    _find_files(tx, workflow, resolved, asked, actor.user_id)
    orders = controls.pools(tx)
    name = choose(Need(tags=asked.tags, vram_gib=workflow.vram_gib), orders)
    # Nobody is turned away because Redis is: the look says how long, and what is decided without it stands.
    looks = {name: outlook.look(name, user_id=actor.user_id, role=actor.role, boost=asked.boost)}
    insights = outlook.insights(tx, looks, orders=orders, role=actor.role, workflow_id=workflow.id, model=asked.model)
    return Admitted(
        asked=asked,
        workflow=workflow,
        workflow_sha256=published.sha256,
        parameters={name: value for name, value in resolved.items() if name not in OWN_COLUMNS},
        pool=name,
        insight=insights[name],
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


def choose(need: Need, orders: Sequence[PoolControl]) -> str:
    """The pool for a job with this need, under these orders of operators; Rejected says what is missing."""
    draining = {order.pool for order in orders if order.mode == "draining"}
    return pool.choose(list(config().pool_specs.values()), need, draining=draining).name


def shortfall(tx: Connection, account: str, credits: int) -> InsufficientCredits | None:
    """What the account lacks for this price, if anything. A look ahead, to refuse early; the debit decides."""
    held = ledger.balance(tx, account)
    return InsufficientCredits(account, balance=held, needed=credits) if held < credits else None


def check_job_id(job_id: str) -> str:
    """A job id from outside, fit to be a part of object keys."""
    if not re.fullmatch(JOB_ID, job_id):
        raise Rejected("job_id_invalid", "a job id is 1 to 64 letters, digits, - and _", field="subject")
    return job_id
