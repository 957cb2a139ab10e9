"""vsgen preflight and vsgen baseline: whether a GPU host is fit, and how fast it is."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from functions.ctl_say import Json, say, table
from functions.domain.errors import Rejected, RenderFailed, Unavailable

SIGNS = {True: "ok", False: "WRONG", None: "-"}


def preflight(as_json: Json = False) -> None:
    """Look at this host: GPUs, memory, driver, disk, servers, ComfyUI and its nodes, and which pools it fits.

    Exits 1 when something must be mended."""
    from functions.preflight import preflight as looks

    found = []
    for finding in looks():
        found.append(finding)
        if not as_json:
            typer.echo(f"{SIGNS[finding.ok]:<6} {finding.subject:<9} {finding.words}")
    fit = all(one.ok is not False for one in found)
    say({"fit": fit, "findings": [asdict(one) for one in found]}, as_json, "fit" if fit else "not fit")
    raise typer.Exit(0 if fit else 1)


def baseline(
    model: Annotated[str, typer.Option(help="a checkpoint, as ComfyUI lists it")],
    size: Annotated[list[str] | None, typer.Option(help="WIDTHxHEIGHT; repeatable")] = None,
    steps: Annotated[int, typer.Option(min=1, max=200)] = 20,
    runs: Annotated[int, typer.Option(min=1, max=50, help="warm renders of each size")] = 3,
    workflow: Annotated[Path | None, typer.Option(help="a workflow document; default: the shipped txt2img")] = None,
    keep: Annotated[Path | None, typer.Option(help="append the figures to this file, a JSON line a run")] = None,
    as_json: Json = False,
) -> None:
    """Render at some sizes, cold and warm, straight on ComfyUI; the figures come with a description of the host."""
    from functions import baseline as measure
    from functions.domain.workflow import Workflow

    path = workflow or Path(__file__).parent / "workflows" / "txt2img" / "1.0.0.json"
    document = Workflow.parse(path.read_bytes())
    try:
        sizes = [_size(one) for one in size or ["512x512", "1024x1024"]]
        timed = list(measure.baseline(document, model=model, sizes=sizes, steps=steps, runs=runs))
        record = measure.record(timed, workflow=document, model=model)
    except RenderFailed as failed:
        raise Unavailable(str(failed)) from failed
    if keep:
        with keep.open("a") as file:
            file.write(json.dumps(record) + "\n")
    rows: list[tuple[object, ...]] = [
        (f"{t.width_px}x{t.height_px}", t.steps, f"{t.cold_s:.2f}", f"{t.warm_median_s:.2f}") for t in timed
    ]
    say(record, as_json, table(("size", "steps", "cold s", "warm s"), rows))


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.partition("x")
    if not (cross and width.isdigit() and height.isdigit()):
        raise Rejected("size_invalid", f"{text!r} is no size: write 1024x768", field="size")
    return int(width), int(height)
