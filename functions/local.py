"""local: the whole house on one machine, for `make run` and `make demo`.

    python -m functions.local run     start everything, render one picture, stay up until Ctrl-C
    python -m functions.local demo    the same, and end: 0 when the job is completed; the last line is JSON

The demo plays VisionSuit: it signs `job.requested`, watches, and signs `review.decided` for every picture.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from functions.adapters.migrations import MigrationRefused
from functions.config import Misconfigured
from functions.domain.errors import Unavailable
from functions.stack import state
from functions.stack.house import House
from functions.stack.platform import CoreAPI, Refused
from functions.stack.process import ServiceFailed

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, rich_markup_mode=None)
out = Console(highlight=False, soft_wrap=True)
STATE = Path(".state")
COLLECTION = "first-pictures"
PROMPT = "a lighthouse at dusk, calm sea"
SMALL = {"width": 512, "height": 512, "steps": 12}  # a ComfyUI of the user's own may have no GPU
FINISHED = ("awaiting_review", "completed", "failed", "cancelled")
PHASES = {
    "submitted": "asked for",
    "debited": "paid",
    "queued": "waiting for a GPU",
    "dispatching": "fetching model and workflow",
    "in_progress": "painting",
    "awaiting_review": "stored, waiting for review",
    "completed": "handed to the collection",
    "failed": "failed",
    "cancelled": "called off",
}

StateFolder = Annotated[Path, typer.Option("--state", help="where data, logs and secrets are kept between runs")]
Gpus = Annotated[int, typer.Option(help="how many runners may work at once")]


@app.command()
def run(state_folder: StateFolder = STATE, gpus: Gpus = 1) -> None:
    """Start everything, render one picture through the whole pipeline, and stay up until Ctrl-C."""
    with _started(state_folder, gpus) as house:
        try:
            _story(house.platform, {"prompt": PROMPT, **(SMALL if house.own_comfyui_url else {})}, timeout_s=1800)
        except _Ended as ended:
            out.print(f"[red]{ended}[/red]")
        out.print(f"\nThe console is at [bold]{house.api_url}/[/bold]  (you are {house.platform.actor.user_id})")
        out.print(f"Logs are in {house.state.folder('log')}. Ctrl-C stops everything.")
        threading.Event().wait()


@app.command()
def demo(
    prompt: Annotated[str, typer.Option(help="what to paint")] = PROMPT,
    negative_prompt: Annotated[str | None, typer.Option(help="what to keep out")] = None,
    workflow: Annotated[str | None, typer.Option(help="workflow id")] = None,
    model: Annotated[str | None, typer.Option(help="a checkpoint; default: the first the stack knows")] = None,
    lora: Annotated[list[str] | None, typer.Option(help="NAME or NAME=STRENGTH; repeatable")] = None,
    seed: Annotated[str | None, typer.Option(help="0 .. 2^64-1; default: random")] = None,
    steps: Annotated[int | None, typer.Option(help="sampler steps")] = None,
    cfg: Annotated[float | None, typer.Option(help="guidance")] = None,
    sampler: Annotated[str | None, typer.Option(help="sampler")] = None,
    scheduler: Annotated[str | None, typer.Option(help="scheduler")] = None,
    width: Annotated[int | None, typer.Option(help="pixels")] = None,
    height: Annotated[int | None, typer.Option(help="pixels")] = None,
    images: Annotated[int | None, typer.Option(help="pictures in one go")] = None,
    boost: Annotated[int | None, typer.Option(help="credits for an earlier place")] = None,
    timeout: Annotated[int, typer.Option(help="seconds to wait for the job")] = 1800,
    state_folder: StateFolder = STATE,
    gpus: Gpus = 1,
) -> None:
    """Render one picture through the whole pipeline and end; exits 0 when the job is completed."""
    asked: dict[str, Any] = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "workflow": {"id": workflow} if workflow else None,
        "model": model,
        "loras": [_lora(one) for one in lora] if lora else None,
        "seed": seed,
        "steps": steps,
        "cfg": cfg,
        "sampler": sampler,
        "scheduler": scheduler,
        "width": width,
        "height": height,
        "images": images,
        "boost": boost,
    }
    request = {name: value for name, value in asked.items() if value is not None}
    with _platform(state_folder, gpus) as platform:
        try:
            result = _story(platform, request, timeout_s=timeout)
        except _Ended as ended:
            out.print(f"[red]{ended}[/red]")
            result = ended.result
    print(json.dumps(result))
    raise typer.Exit(0 if result["state"] == "completed" else 1)


class _Ended(Exception):
    """The story has no good end; `result` is what there is to report."""

    def __init__(self, why: str, **result: Any) -> None:
        super().__init__(why)
        empty: dict[str, Any] = {
            "job_id": None,
            "state": None,
            "attempts": 0,
            "credits": 0,
            "artifacts": [],
            "seconds": 0.0,
        }
        self.result = empty | result | {"error": why}


def _story(platform: CoreAPI, request: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
    """One job from the asking to the collection; gives the demo's result, _Ended when it does not get there."""
    if "model" not in request and not platform.default_model:
        raise _Ended("this ComfyUI lists no checkpoint: put one into its models/checkpoints, or name another ComfyUI")
    request = {"model": platform.default_model} | request
    began = time.monotonic()
    try:
        quote = platform.rest("POST", "/v1/quotes", request)
    except Refused as no:
        raise _Ended(f"{no.code}: {no}", state="rejected", code=no.code) from None
    job_id = platform.ask(request)
    out.print(f"job [bold]{job_id}[/bold]: {quote['credits']} credits")
    job = _watch(platform, job_id, until=FINISHED, deadline=began + timeout_s)
    if job["state"] == "awaiting_review":
        for artifact in job["artifacts"]:
            platform.decide(job_id, artifact["id"], "accept", COLLECTION)
        job = _watch(platform, job_id, until=FINISHED[1:], deadline=began + timeout_s, seen="awaiting_review")
    result = {
        "job_id": job_id,
        "state": job["state"],
        "attempts": job["attempt"],
        "credits": job["credits"],
        "artifacts": [_told(platform, artifact) for artifact in job["artifacts"]],
        "seconds": round(time.monotonic() - began, 3),
    }
    if job["state"] != "completed":
        raise _Ended(f"job {job_id} {job['state']}: {job['cause']}: {job['detail']}", **result)
    _show(platform, job_id, job)
    return result


def _watch(
    platform: CoreAPI, job_id: str, *, until: tuple[str, ...], deadline: float, seen: str | None = None
) -> dict[str, Any]:
    """Follow the job with a progress bar (a line a state, where there is no terminal) to one of these states."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("asked for", total=100)
        while True:
            job = platform.job(job_id)
            if job and job["state"] != seen:
                seen = job["state"]
                bar.console.print(f"  {PHASES[seen]}" + (f" (try {job['attempt']})" if job["attempt"] > 1 else ""))
            if job and job["state"] in until:
                return job
            if time.monotonic() > deadline:
                raise _Ended(f"job {job_id} is not done: it is {seen}", job_id=job_id, state=seen)
            live = (job or {}).get("progress") or {}
            bar.update(task, description=PHASES.get(seen or "", "asked for"), completed=live.get("percent", 0))
            time.sleep(0.1)


def _told(platform: CoreAPI, artifact: dict[str, Any]) -> dict[str, Any]:
    names = ("id", "sha256", "size_bytes", "content_type", "width_px", "height_px", "collection_id")
    return {name: artifact[name] for name in names} | {"url": _url(platform, artifact)}


def _url(platform: CoreAPI, artifact: dict[str, Any]) -> str:
    return f"{platform.api_url}/v1/artifacts/{artifact['id']}/content"


def _show(platform: CoreAPI, job_id: str, job: dict[str, Any]) -> None:
    for artifact in job["artifacts"]:
        out.print(f"  picture  {_url(platform, artifact)}")
    out.print(f"  story    {platform.api_url}/v1/jobs/{job_id}")


def _lora(text: str) -> dict[str, Any]:
    name, _, strength = text.partition("=")
    try:
        return {"id": name, "strength": float(strength or 1)}
    except ValueError:
        raise typer.BadParameter(f"{text!r}: the strength after = must be a number") from None


@contextmanager
def _platform(state_folder: Path, gpus: int) -> Iterator[CoreAPI]:
    """The stack that runs on this state folder already, else one for as long as it is needed."""
    running = state.running(state_folder)
    if running and "api_url" in running:
        if os.environ.get("COMFYUI_URL") not in (None, "", running["own_comfyui_url"]):
            out.print(
                f"[red]the stack that runs on {state_folder} has another ComfyUI: stop it, or add --state FOLDER[/red]"
            )
            raise typer.Exit(1)
        secret = (state_folder / "secrets" / "service").read_text()
        yield CoreAPI(
            api_url=str(running["api_url"]),
            broker_url=str(running["broker_url"]),
            secret=secret,
            default_model=str(running["default_model"]),
        )
        return
    with _started(state_folder, gpus) as house:
        yield house.platform


@contextmanager
def _started(state_folder: Path, gpus: int) -> Iterator[House]:
    """A house that is stopped however this ends; what keeps it from starting is told in a sentence, exit code 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background jobs deaf to it
    logging.basicConfig(level=logging.WARNING, format="  %(message)s")
    began = time.monotonic()
    try:
        with House(state_folder, gpus=gpus, told=lambda line: out.print(f"  {line}")) as house:
            out.print(f"  up after {time.monotonic() - began:.1f} s")
            yield house
    except state.AlreadyRunning as busy:
        out.print(f"[red]{busy}[/red]" + (f"\nIts console is at {busy.stack['api_url']}/" if busy.stack else ""))
        raise typer.Exit(1) from None
    except (ServiceFailed, Unavailable, Misconfigured, MigrationRefused, PermissionError) as failed:
        out.print(f"[red]{failed}[/red]")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        out.print("\nstopped")


if __name__ == "__main__":
    app()
