"""How a picture came to be, as one text that people and other programs read: the `parameters` of AUTOMATIC1111's PNGs.

    herons at dawn <lora:ink:0.8>
    Negative prompt: blurry
    Steps: 28, Sampler: dpmpp_2m, Schedule type: karras, CFG scale: 7, Seed: 42, Size: 768x512, …

Source of the form: `create_infotext` in stable-diffusion-webui's `modules/processing.py`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from functions.domain.job import Job

HASH_DIGITS = 10  # of the file's sha256, as stable-diffusion-webui shows it
FIELDS = {"steps": "Steps", "sampler": "Sampler", "scheduler": "Schedule type", "cfg": "CFG scale"}


@dataclass(frozen=True, kw_only=True)
class File:
    """A model file that a picture was made with; sha256 None: ComfyUI lists it itself, and nobody has read it."""

    kind: str
    name: str
    sha256: str | None

    @property
    def stem(self) -> str:
        return self.name.rpartition("/")[2].rpartition(".")[0] or self.name

    @property
    def short(self) -> str | None:
        return self.sha256[:HASH_DIGITS] if self.sha256 else None


def infotext(job: Job, model: File, loras: Sequence[File], *, comfyui_version: str) -> str:
    """The text for a picture of this job."""
    strengths = [float(lora["strength"]) for lora in job.loras]
    marks = [f"<lora:{file.stem}:{strength:g}>" for file, strength in zip(loras, strengths, strict=True)]
    lines = [" ".join([job.prompt, *marks])]
    if job.negative_prompt:
        lines.append(f"Negative prompt: {job.negative_prompt}")
    hashes = ", ".join(f"{file.stem}: {file.short}" for file in loras if file.short)
    said = {
        **{words: job.parameters.get(name) for name, words in FIELDS.items()},
        "Seed": job.seed,
        "Size": _size(job.parameters),
        "Model hash": model.short,
        "Model": model.stem,
        "Lora hashes": hashes or None,
        "Workflow": f"{job.workflow_id} {job.workflow_version} {job.workflow_sha256[:HASH_DIGITS]}",
        "Version": f"ComfyUI {comfyui_version}",
    }
    lines.append(", ".join(f"{words}: {_quoted(value)}" for words, value in said.items() if value is not None))
    return "\n".join(lines)


def _size(parameters: Mapping[str, Any]) -> str | None:
    return f"{parameters['width']}x{parameters['height']}" if {"width", "height"} <= parameters.keys() else None


def _quoted(value: object) -> str:
    """A value that could be taken for two, in quotes."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:\n"') else text
