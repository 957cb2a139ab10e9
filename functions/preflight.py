"""preflight: whether a host is fit to render, looked at one thing after the other.

Each look gives a finding in words; none stops the ones after it. What this host is not asked to do (no ComfyUI's models
folder, no S3) is not looked at.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from functions.adapters import hardware, models, postgres, queue, workflows
from functions.adapters.comfyui import ComfyUI
from functions.config import config
from functions.domain.errors import RenderFailed, Unavailable
from functions.domain.pool import PoolSpec
from functions.domain.workflow import Workflow

MIB = 1 << 20
DISK_BYTES, S3_WRITE_BYTES, S3_READ_BYTES = 256 * MIB, 16 * MIB, 256 * MIB
HOT_C = 90  # NVIDIA's data centre cards slow down above it


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One look. ok: False where something must be mended, None where it is only worth knowing."""

    subject: str
    ok: bool | None
    words: str
    figures: dict[str, Any]


def preflight() -> Iterator[Finding]:
    """Every finding, as it is made."""
    gpus = hardware.gpus()
    yield from _gpus(gpus)
    yield from _pools(gpus)
    for subject, look in LOOKS.items():
        try:
            yield from look()
        except (Unavailable, RenderFailed, OSError) as error:
            yield Finding(subject=subject, ok=False, words=str(error), figures={})


def _gpus(gpus: list[hardware.Gpu]) -> Iterator[Finding]:
    if not gpus:
        yield Finding(
            subject="gpu", ok=None, words="no NVIDIA GPU, or no driver for it: renders run on the CPU", figures={}
        )
    for gpu in gpus:
        words = f"{gpu.name}, {gpu.vram_gib:.0f} GiB, driver {gpu.driver}"
        wrong = []
        if gpu.ecc_errors:
            wrong.append(f"{gpu.ecc_errors} uncorrected memory errors: take it out of service, reset it")
        if gpu.temperature_c is not None and gpu.temperature_c >= HOT_C:
            wrong.append(f"{gpu.temperature_c} °C: see to its cooling")
        yield Finding(subject="gpu", ok=not wrong, words="; ".join([words, *wrong]), figures=vars(gpu))


def _pools(gpus: list[hardware.Gpu]) -> Iterator[Finding]:
    """Which pools and tags the smallest GPU here can serve; driver and display take up to a twentieth of the memory."""
    if not gpus:
        return
    vram_gib = min(gpu.vram_gib for gpu in gpus)
    fit = [pool for pool in config().pool_specs.values() if _fits(pool, vram_gib)]
    tags = sorted({tag for pool in fit for tag in pool.tags})
    words = f"fits {', '.join(pool.name for pool in fit) or 'none'}" + (f" (tags: {', '.join(tags)})" if tags else "")
    yield Finding(subject="pools", ok=bool(fit), words=words, figures={"pools": [p.name for p in fit], "tags": tags})


def _fits(pool: PoolSpec, vram_gib: float) -> bool:
    return pool.vram_gib is None or vram_gib >= pool.vram_gib * 0.95


def _postgres() -> Iterator[Finding]:
    with postgres.transaction() as tx:
        version = tx.exec_driver_sql("SHOW server_version").scalar_one()
    yield Finding(subject="postgres", ok=True, words=f"answers, {version}", figures={"version": version})


def _redis() -> Iterator[Finding]:
    depth = queue.depth(config().claiming_pool)
    words = f"answers; {depth['waiting']} jobs wait in {config().claiming_pool}"
    yield Finding(subject="redis", ok=True, words=words, figures=depth)


def _disk() -> Iterator[Finding]:
    folder = config().comfyui_models_dir
    if folder is None:
        return
    pace = hardware.disk_write(Path(folder), size_bytes=DISK_BYTES)
    words = f"{folder} takes {pace.mib_per_s:.0f} MiB/s"
    yield Finding(subject="disk", ok=True, words=words, figures={"write_mib_per_s": round(pace.mib_per_s, 1)})


def _s3() -> Iterator[Finding]:
    put = hardware.s3_write(config().outputs_bucket, size_bytes=S3_WRITE_BYTES)
    words, figures = f"takes {put.mib_per_s:.0f} MiB/s", {"write_mib_per_s": round(put.mib_per_s, 1)}
    with postgres.transaction() as tx:
        stored = [model for model in models.every(tx) if model.object_key]
    if stored:
        largest = max(stored, key=lambda model: model.size_bytes or 0)
        got = hardware.s3_read(config().models_bucket, str(largest.object_key), most_bytes=S3_READ_BYTES)
        words += f", gives {got.mib_per_s:.0f} MiB/s (the first {got.size_bytes // MIB} MiB of {largest.name})"
        figures["read_mib_per_s"] = round(got.mib_per_s, 1)
    yield Finding(subject="s3", ok=True, words=words, figures=figures)


def _comfyui() -> Iterator[Finding]:
    with ComfyUI(config().need("comfyui_url")) as comfyui:
        system = comfyui.system()
        words = f"ComfyUI {system.version} on {system.device}, {system.vram_total_bytes / 2**30:.1f} GiB"
        yield Finding(subject="comfyui", ok=True, words=words, figures=vars(system))
        with postgres.transaction() as tx:
            published = workflows.all_newest(tx)
        for workflow in published:
            yield _runs(comfyui, workflow)


def _runs(comfyui: ComfyUI, workflow: Workflow) -> Finding:
    """Whether this ComfyUI has every node type of the workflow; its files come when a job needs them."""
    missing = sorted({kind for kind in workflow.node_types if not comfyui.has(kind)})
    words = f"{workflow.id} {workflow.version} " + (
        f"needs {', '.join(missing)}: install them" if missing else "can run"
    )
    return Finding(
        subject="workflow", ok=not missing, words=words, figures={"workflow": workflow.id, "missing": missing}
    )


LOOKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "postgres": _postgres,
    "redis": _redis,
    "disk": _disk,
    "s3": _s3,
    "comfyui": _comfyui,
}
