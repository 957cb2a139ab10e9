"""What a curator may ask for: the fields of a job request and their bounds.

The widest bounds stand here once; a field left out takes the workflow's default. The doors check them with pydantic
(`adapters/shapes.py`) and publish them as JSON Schema; what depends on the workflow (a size in multiples of 8, say) is
checked by `domain/parameter.py` when the job is submitted.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval, Len, Predicate

from functions.domain.errors import Rejected
from functions.domain.text import storable

SEED_LIMIT = 2**64
CLOSED = {"extra": "forbid"}  # a misspelt field is an error, not a silence

#: A job's id is a part of object keys: bounded, and without a way out of a folder.
JOB_ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

Prompt = Annotated[str, Len(1, 4000), Predicate(storable)]
Name = Annotated[str, Len(1, 200), Predicate(storable)]
Collection = Annotated[str, Len(1, 128), Predicate(storable)]
Word = Annotated[str, Len(1, 64), Predicate(storable)]
Reason = Annotated[str, Len(0, 500), Predicate(storable)]


@dataclass(frozen=True, kw_only=True)
class WorkflowChoice:
    """Which workflow to run; without a version, the newest one."""

    __pydantic_config__: ClassVar = CLOSED
    id: Word = "txt2img"
    version: Word | None = None


@dataclass(frozen=True, kw_only=True)
class LoraChoice:
    """One LoRA and how strongly it bends the model."""

    __pydantic_config__: ClassVar = CLOSED
    id: Name
    strength: Annotated[float, Interval(ge=-2, le=2)] = 1.0


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """One picture, or a few, as asked for. Sizes in pixels; without a `seed`, a random one is drawn. `parameters` are
    those that only the workflow has, such as the picture to begin with; `GET /v1/options` lists them.
    With a `quote_id`, the price is the one that was quoted for the same request. `pay_from` is the account of a team
    that the asker is in, `pool:<id>`; without one, the asker pays.
    review_required: false hands the pictures over without a review, where the installation lets a request say so.
    may_degrade: rather than being refused by a saturated pool, take half the pictures, or of one picture half the
    steps, at the price of that."""

    __pydantic_config__: ClassVar = CLOSED
    prompt: Prompt
    negative_prompt: Annotated[str, Len(0, 4000), Predicate(storable)] = ""
    workflow: WorkflowChoice = field(default_factory=WorkflowChoice)
    model: Name
    loras: Annotated[tuple[LoraChoice, ...], Len(0, 12)] = ()
    seed: int | Annotated[str, Len(1, 20)] | None = None
    steps: Annotated[int, Interval(ge=1, le=200)] | None = None
    cfg: Annotated[float, Interval(ge=0, le=40)] | None = None
    sampler: Word | None = None
    scheduler: Word | None = None
    width: Annotated[int, Interval(ge=16, le=4096)] | None = None
    height: Annotated[int, Interval(ge=16, le=4096)] | None = None
    images: Annotated[int, Interval(ge=1, le=8)] | None = None
    parameters: Annotated[
        Mapping[Word, Annotated[str, Len(0, 1000), Predicate(storable)] | int | float], Len(0, 16)
    ] = field(default_factory=dict)
    boost: Annotated[int, Interval(ge=0, le=1000)] = 0
    tags: Annotated[tuple[Name, ...], Len(0, 8)] = ()
    collection_id: Collection | None = None
    quote_id: Word | None = None
    pay_from: Name | None = None
    review_required: bool = True
    may_degrade: bool = False

    def values(self, *, seed: int) -> dict[str, Any]:
        """What was asked of the workflow's parameters, the seed resolved; what is left open, the workflow says."""
        asked = {name: getattr(self, name) for name in PARAMETERS}
        if taken := sorted({*PARAMETERS, "seed"} & self.parameters.keys()):
            raise Rejected("parameter_misplaced", f"{taken[0]} is a field of its own", field=f"parameters.{taken[0]}")
        asked |= self.parameters
        return {name: value for name, value in asked.items() if value not in (None, "")} | {"seed": seed}


PARAMETERS = (
    *("prompt", "negative_prompt", "model", "steps", "cfg", "sampler"),
    *("scheduler", "width", "height", "images"),
)


def exact_seed(asked: int | str) -> int:
    """The seed as a whole number 0 .. 2**64-1, never silently altered.

    Decimal strings are always taken. A JSON integer above 2**53 is refused: most JSON readers have rounded it by then.
    """
    if isinstance(asked, str):
        if not re.fullmatch(r"[0-9]{1,20}", asked):
            raise Rejected("seed_invalid", "seed must be a whole number in decimal digits", field="seed")
        seed = int(asked)
    elif asked > 2**53:
        raise Rejected("seed_inexact", "seeds above 2^53 must be sent as a decimal string", field="seed")
    else:
        seed = asked
    if not 0 <= seed < SEED_LIMIT:
        raise Rejected("seed_out_of_range", "seed must lie between 0 and 2^64-1", field="seed")
    return seed


@dataclass(frozen=True, kw_only=True)
class Achievement:
    """What the platform says a user has earned; whoever the event is signed for gets it. An achievement is paid once,
    by its name: `curated-100`, `first-collection:7`."""

    __pydantic_config__: ClassVar = CLOSED
    achievement: Annotated[str, Len(1, 100), Predicate(str.isprintable)]
    credits: Annotated[int, Interval(ge=1, le=1_000_000)]


@dataclass(frozen=True, kw_only=True)
class CancelRequest:
    """Call a job off."""

    __pydantic_config__: ClassVar = CLOSED
    reason: Reason = ""


@dataclass(frozen=True, kw_only=True)
class ReviewDecision:
    """What a curator decides about one picture; accepting names the collection it goes to, `restore` undoes a discard
    that was not purged yet."""

    __pydantic_config__: ClassVar = CLOSED
    artifact_id: Annotated[str, Len(1, 80), Predicate(storable)]
    decision: Literal["accept", "discard", "restore"]
    collection_id: Collection | None = None
    reason: Reason = ""
