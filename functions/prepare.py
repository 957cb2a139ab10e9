"""Preparing a render: everything a job names is found, fetched and bound into the graph that ComfyUI will run."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from functions.adapters import models, originals, postgres, storage, workflows
from functions.adapters.comfyui import ComfyUI
from functions.config import config
from functions.domain.graph import Graph, Lora
from functions.domain.infotext import File, infotext
from functions.domain.job import Job
from functions.domain.parameter import Parameter, Type
from functions.domain.workflow import Workflow, bind

#: The output folder in what a picture tells of its graph: with the job's own, equal pictures would not be equal bytes.
ANY_FOLDER = "generated/picture"
Told = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A job ready to be painted: the graph to post, and what it was made from.

    canonical: the graph as text, without the job's own output folder; the same request gives the same text.
    """

    graph: Graph
    canonical: str
    model: File
    others: tuple[File, ...]
    loras: tuple[File, ...]

    @property
    def graph_sha256(self) -> str:
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    @property
    def files(self) -> tuple[File, ...]:
        return (self.model, *self.others, *self.loras)

    def texts(self, job: Job, *, comfyui_version: str) -> dict[str, str]:
        """What the picture tells of itself: for people and other programs, and for ComfyUI, which loads it as it is."""
        return {
            "parameters": infotext(job, self.model, self.loras, comfyui_version=comfyui_version),
            "prompt": self.canonical,
        }


def prepare(
    job: Job,
    comfyui: ComfyUI,
    leases: ExitStack,
    *,
    filename_prefix: str,
    tally: models.Tally,
    told: Told,
) -> Prepared:
    """The job's graph, with every file it names where ComfyUI reads it, held there until `leases` is closed.

    told: called with a file's name, the bytes that are there and the bytes there will be. Raises what `models.fetch`
    and `workflows.fetch` raise, and Rejected when workflow and job do not go together.
    """
    workflow = workflows.fetch(job.workflow_id, job.workflow_version, job.workflow_sha256)
    named: dict[str, Any] = {
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "model": job.model,
        "seed": job.seed,
    }
    values = {name: value for name, value in named.items() if name in workflow.parameters} | dict(job.parameters)
    folders = {name: str(it.folder) for name, it in _of_type(workflow, Type.MODEL).items() if name in values}
    with postgres.transaction() as tx:
        wanted = {name: models.find(tx, kind, str(values[name]), field=name) for name, kind in folders.items()}
        bending = [models.find(tx, models.LORAS, lora["id"]) for lora in job.loras]
        pictures = {
            name: originals.find(tx, str(values[name]), user_id=job.user_id, field=name)
            for name in _of_type(workflow, Type.IMAGE)
            if name in values
        }
    fetched = {name: _fetch(model, leases, tally, told) for name, model in wanted.items()}
    loras = [_fetch(model, leases, tally, told) for model in bending]
    here = {name: local for name, (local, _) in fetched.items()}
    here |= {name: _upload(picture, comfyui) for name, picture in pictures.items()}
    chain = [
        Lora(name=local, strength=float(lora["strength"])) for (local, _), lora in zip(loras, job.loras, strict=True)
    ]
    files = {name: file for name, (_, file) in fetched.items()}
    return Prepared(
        graph=bind(workflow, values | here, chain, filename_prefix=filename_prefix),
        canonical=_canonical(workflow, values | here, chain),
        model=files.pop("model"),
        others=tuple(files.values()),
        loras=tuple(file for _, file in loras),
    )


def _canonical(workflow: Workflow, values: Mapping[str, object], chain: Sequence[Lora]) -> str:
    graph = bind(workflow, values, chain, filename_prefix=ANY_FOLDER)
    return json.dumps(graph, sort_keys=True, separators=(",", ":"))


def _of_type(workflow: Workflow, type_: Type) -> dict[str, Parameter]:
    return {name: parameter for name, parameter in workflow.parameters.items() if parameter.type is type_}


def _fetch(model: models.Model, leases: ExitStack, tally: models.Tally, told: Told) -> tuple[str, File]:
    """A model's file: the name ComfyUI knows it by, and what there is to tell of it."""
    local, known = models.fetch(model, leases, told=lambda done, total: told(model.name, done, total), tally=tally)
    if known != model:
        with postgres.transaction() as tx:
            models.learn(tx, known)
    return local, File(kind=known.kind, name=known.name, sha256=known.sha256)


def _upload(picture: originals.Original, comfyui: ComfyUI) -> str:
    """A picture of the job's user, where LoadImage reads; ValueError when its bytes are not the ones on record."""
    data = storage.read(config().outputs_bucket, picture.object_key, limit_bytes=picture.size_bytes)
    if hashlib.sha256(data).hexdigest() != picture.sha256:
        raise ValueError(f"{picture.object_key} is not the picture that was stored")
    return comfyui.upload(picture.filename, data)
