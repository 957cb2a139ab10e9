"""Preparing a render: everything a job names is found, fetched and bound into the graph that ComfyUI will run."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from functions.adapters import models, postgres, workflows
from functions.domain.graph import Graph, Lora
from functions.domain.infotext import File, infotext
from functions.domain.job import Job
from functions.domain.workflow import Workflow, bind

#: The output folder in what a picture tells of its graph: with the job's own, equal pictures would not be equal bytes.
ANY_FOLDER = "generated/picture"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A job ready to be painted: the graph to post, and what it was made from.

    canonical: the graph as text, without the job's own output folder; the same request gives the same text.
    """

    graph: Graph
    canonical: str
    model: File
    loras: tuple[File, ...]

    @property
    def graph_sha256(self) -> str:
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    @property
    def files(self) -> tuple[File, ...]:
        return (self.model, *self.loras)

    def texts(self, job: Job, *, comfyui_version: str) -> dict[str, str]:
        """What the picture tells of itself: for people and other programs, and for ComfyUI, which loads it as it is."""
        return {
            "parameters": infotext(job, self.model, self.loras, comfyui_version=comfyui_version),
            "prompt": self.canonical,
        }


def prepare(
    job: Job,
    leases: ExitStack,
    *,
    filename_prefix: str,
    tally: models.Tally,
    told: Callable[[str, int, int], None],
) -> Prepared:
    """The job's graph, with every file it names where ComfyUI reads it, held there until `leases` is closed.

    told: called with a file's name, the bytes that are there and the bytes there will be. Raises what `models.fetch`
    and `workflows.fetch` raise, and Rejected when workflow and job do not go together.
    """
    workflow = workflows.fetch(job.workflow_id, job.workflow_version, job.workflow_sha256)
    with postgres.transaction() as tx:
        named = [models.find(tx, models.CHECKPOINTS, job.model)]
        named += [models.find(tx, models.LORAS, lora["id"]) for lora in job.loras]
    names, files = [], []
    for model in named:
        name, known = models.fetch(model, leases, told=_of(told, model.name), tally=tally)
        if known != model:
            with postgres.transaction() as tx:
                models.learn(tx, known)
        names.append(name)
        files.append(File(kind=known.kind, name=known.name, sha256=known.sha256))
    graph = _graph(workflow, job, names, filename_prefix)
    canonical = json.dumps(_graph(workflow, job, names, ANY_FOLDER), sort_keys=True, separators=(",", ":"))
    return Prepared(graph=graph, canonical=canonical, model=files[0], loras=tuple(files[1:]))


def _of(told: Callable[[str, int, int], None], name: str) -> Callable[[int, int], None]:
    return lambda done_bytes, total_bytes: told(name, done_bytes, total_bytes)


def _graph(workflow: Workflow, job: Job, names: Sequence[str], filename_prefix: str) -> Graph:
    model, *loras = names
    values: dict[str, Any] = {
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "model": model,
        "seed": job.seed,
    }
    return bind(
        workflow,
        {name: value for name, value in values.items() if name in workflow.parameters} | dict(job.parameters),
        [Lora(name=name, strength=float(lora["strength"])) for name, lora in zip(loras, job.loras, strict=True)],
        filename_prefix=filename_prefix,
    )
