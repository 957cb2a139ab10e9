"""Options: everything a request may name, and within which bounds. A form can be built from this answer alone."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, TypeAdapter

from functions.adapters import models, postgres, workflows
from functions.api.identity import Asker
from functions.api.problem import documented
from functions.config import config
from functions.domain.graph import MAX_LORAS
from functions.domain.parameter import Parameter, Type, Value
from functions.domain.request import PARAMETERS, JobRequest, WorkflowChoice
from functions.domain.workflow import Workflow

router = APIRouter(prefix="/v1/options", tags=["options"])


class ModelView(BaseModel):
    """A model or LoRA; `id` is what a request names it by, `folder` the kind of file it is."""

    id: str
    folder: str
    size_bytes: int | None


class ParameterView(BaseModel):
    """One parameter of a workflow, given as a field of the request's own or else among its `parameters`. A text's
    bounds count characters; a model is one of its folder; an image is the id of a picture of one's own."""

    name: str
    type: str
    required: bool
    minimum: int | float | None
    maximum: int | float | None
    multiple_of: int | None
    default: str | int | float | None
    choices: list[str] | None
    folder: str | None
    own_field: bool


class WorkflowView(BaseModel):
    """The newest version of a workflow; its price is multiplied by `complexity`."""

    id: str
    version: str
    title: str
    complexity: float
    vram_gib: float | None
    takes_loras: bool
    parameters: list[ParameterView]


class SizePreset(BaseModel):
    """A size to start from, in pixels."""

    label: str
    width: int
    height: int


class Options(BaseModel):
    """What a request may say."""

    workflows: list[WorkflowView]
    default_workflow: str
    models: list[ModelView]
    loras: list[ModelView]
    max_loras: int
    sizes: list[SizePreset]
    pools: list[str]
    submit_roles: list[str]


BOUNDED = {Type.TEXT, Type.INTEGER, Type.NUMBER}
SIZES = [
    SizePreset(label="Square 1:1", width=1024, height=1024),
    SizePreset(label="Portrait 2:3", width=832, height=1216),
    SizePreset(label="Portrait 9:16", width=768, height=1344),
    SizePreset(label="Landscape 3:2", width=1216, height=832),
    SizePreset(label="Landscape 16:9", width=1344, height=768),
    SizePreset(label="Small square", width=512, height=512),
]


@router.get("", responses=documented())
def options(_: Asker) -> Options:
    """Models, LoRAs, workflows with their parameters' bounds, sizes and pools."""
    with postgres.transaction() as tx:
        published = workflows.all_newest(tx)
        files = models.every(tx)
    chosen = {workflow.parameters["model"].folder for workflow in published if "model" in workflow.parameters}
    return Options(
        workflows=[_workflow(workflow) for workflow in published],
        default_workflow=WorkflowChoice().id,
        models=[_model(file) for file in files if file.kind in chosen],
        loras=[_model(file) for file in files if file.kind == models.LORAS],
        max_loras=MAX_LORAS,
        sizes=SIZES,
        pools=list(config().pool_names),
        submit_roles=sorted(config().roles),
    )


def _model(file: models.Model) -> ModelView:
    return ModelView(id=file.name, folder=file.kind, size_bytes=file.size_bytes)


def _workflow(workflow: Workflow) -> WorkflowView:
    return WorkflowView(
        id=workflow.id,
        version=workflow.version,
        title=workflow.title,
        complexity=workflow.complexity,
        vram_gib=workflow.vram_gib,
        takes_loras=workflow.lora_slot is not None,
        parameters=[_parameter(parameter) for parameter in workflow.parameters.values()],
    )


def _parameter(parameter: Parameter) -> ParameterView:
    """The workflow's bounds, within those that every request has to keep."""
    outer = REQUEST_BOUNDS.get(parameter.name, {}) if parameter.type in BOUNDED else {}
    return ParameterView(
        name=parameter.name,
        type=parameter.type,
        required=parameter.required and parameter.name != "seed",  # an open seed is drawn
        minimum=_tighter(max, parameter.minimum, outer.get("minimum")),
        maximum=_tighter(min, parameter.maximum, outer.get("maximum")),
        multiple_of=parameter.multiple_of,
        default=_exact(parameter.default),
        choices=list(parameter.choices) if parameter.choices else None,
        folder=parameter.folder,
        own_field=parameter.name in (*PARAMETERS, "seed"),
    )


def _tighter(choose: Any, inner: float | None, outer: float | None) -> float | None:
    given = [bound for bound in (inner, outer) if bound is not None]
    return choose(given) if given else None


def _exact(value: Value | None) -> Value | None:
    return str(value) if isinstance(value, int) and value > 2**53 else value


def _request_bounds() -> dict[str, dict[str, float]]:
    found = {}
    for name, schema in TypeAdapter(JobRequest).json_schema()["properties"].items():
        merged = schema | next((one for one in schema.get("anyOf", ()) if one["type"] != "null"), {})
        lower = merged.get("minimum", merged.get("minLength"))
        upper = merged.get("maximum", merged.get("maxLength"))
        found[name] = {k: v for k, v in (("minimum", lower), ("maximum", upper)) if v is not None}
    return found


REQUEST_BOUNDS = _request_bounds()
