"""baseline: what a representative render takes on this ComfyUI, cold and warm, at some sizes.

Straight to ComfyUI, past the queue: what is measured is the card and its models. Kept with a description of the host,
so that two machines, or one before and after an update, can be compared.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

from functions.adapters import hardware
from functions.adapters.comfyui import ComfyUI
from functions.config import config
from functions.domain.workflow import Workflow, bind

#: What is painted; every run with another seed, because ComfyUI paints nothing twice.
PROMPT = "a lighthouse at dusk, calm sea"


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One size: seconds of the first render after ComfyUI had let go of everything, and of each after it."""

    width_px: int
    height_px: int
    steps: int
    cold_s: float
    warm_s: tuple[float, ...]

    @property
    def warm_median_s(self) -> float:
        return median(self.warm_s)


def baseline(
    workflow: Workflow, *, model: str, sizes: Sequence[tuple[int, int]], steps: int, runs: int
) -> Iterator[Timed]:
    """A size after the other. RenderFailed when ComfyUI cannot paint it."""
    with ComfyUI(config().need("comfyui_url")) as comfyui:
        for width_px, height_px in sizes:
            comfyui.free()
            values = {"prompt": PROMPT, "model": model, "width": width_px, "height": height_px, "steps": steps}
            cold_s, *warm_s = [_render(comfyui, workflow, values, seed=seed) for seed in range(runs + 1)]
            yield Timed(width_px=width_px, height_px=height_px, steps=steps, cold_s=cold_s, warm_s=tuple(warm_s))


def _render(comfyui: ComfyUI, workflow: Workflow, values: dict[str, Any], *, seed: int) -> float:
    name = f"baseline-{uuid.uuid4().hex[:12]}"
    graph = bind(workflow, values | {"seed": seed}, filename_prefix=f"{name}/picture")
    began = time.perf_counter()
    rendered = comfyui.render(graph, prompt_id=name, deadline_s=3600, on_progress=_nobody, stop=lambda: False)
    comfyui.fetch(rendered.images[0])
    return time.perf_counter() - began


def _nobody(_: object) -> None:
    """Nobody watches."""


def record(timed: Sequence[Timed], *, workflow: Workflow, model: str) -> dict[str, Any]:
    """The figures, with what they were measured on."""
    with ComfyUI(config().need("comfyui_url")) as comfyui:
        system = comfyui.system()
    return {
        "at": datetime.now(UTC).isoformat(),
        "host": hardware.describe(),
        "comfyui": vars(system),
        "workflow": {"id": workflow.id, "version": workflow.version},
        "model": model,
        "sizes": [vars(one) | {"warm_median_s": one.warm_median_s} for one in timed],
    }
