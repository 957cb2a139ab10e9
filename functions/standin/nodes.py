"""What each node does when its turn comes.

Ordinary nodes are written out; any other in the catalogue passes on what it is given, marked as changed, which is
enough for graphs with control nets, upscalers and the like to run and to paint something of their own.
"""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from functions.standin import files, paint
from functions.standin.catalogue import LISTS, Catalogue
from functions.standin.files import Folders
from functions.standin.values import Conditioning, Pictures, Plain, Scene, Stored, Thing, Value, mixed

Outputs = tuple[Value, ...]
PREVIEW_LETTERS = "abcdefghijklmnopqrstupvxyz"
MEMORY_BYTES = 16 << 30  # what the pretended machine can allocate at once
TIPS = (
    "This error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before you might have "
    "accidentally set the batch_size to a large number."
)


class NodeFailed(Exception):
    """A node raised; exception_type is the Python class the real server would name."""

    def __init__(self, exception_type: str, message: str) -> None:
        super().__init__(message)
        self.exception_type = exception_type


class WorkerGone(BaseException):
    """The worker ends here, as when a node calls sys.exit."""


class Call(Protocol):
    """What a node may use of the server while it runs."""

    folders: Folders
    catalogue: Catalogue
    class_type: str
    inputs: dict[str, Any]
    graph: dict[str, Any]
    extra_pnginfo: dict[str, Any] | None
    ui: dict[str, Any] | None
    step_ms: int
    load_ms: int
    embed_metadata: bool
    writes_files: bool

    async def step(
        self, value: int, total: int, *, preview: Pictures | None = None, final: bytes | None = None
    ) -> None:
        """Report progress; an interrupt is heard here, and only here."""


def out_of_memory() -> NodeFailed:
    """The failure of a GPU that is too small or too full."""
    return NodeFailed("torch.OutOfMemoryError", f"Allocation on device \n{TIPS}")


def out_of_memory_cpu(wanted_bytes: int) -> NodeFailed:
    """The failure of the CPU allocator."""
    return NodeFailed(
        "RuntimeError",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        f"allocate {wanted_bytes} bytes. Error code 12 (Cannot allocate memory)",
    )


async def run(call: Call) -> Outputs:
    """What a node gives back, slot by slot; `call.ui` holds what it shows, if anything."""
    act = ACTS.get(call.class_type, _pass_on)
    return await act(call)


async def _pass_on(call: Call) -> Outputs:
    """Each output is the first input of its type, changed by this node, or a new thing."""
    mark = mixed(call.class_type, *sorted(call.inputs.items()), *_weights(call))
    declared = call.catalogue.info(call.class_type)["input"]
    given = {
        spec[0]: call.inputs[name]
        for group in ("optional", "required")
        for name, spec in declared.get(group, {}).items()
        if name in call.inputs and isinstance(spec[0], str)
    }
    outputs: list[Value] = []
    for kind in call.catalogue.outputs(call.class_type):
        value = given.get(kind)
        if isinstance(value, Conditioning):
            value = replace(value, digest=mark)
        elif not isinstance(value, Pictures):
            value = Thing(kind=kind, digest=mark)
        outputs.append(value)
    return tuple(outputs)


def _weights(call: Call) -> list[str]:
    """Digests of the model files a node's inputs name; raises what the real loader raises for a bad one."""
    found = []
    for name, value in call.inputs.items():
        kind = LISTS.get((call.class_type, name))
        if kind not in (None, "input") and value != "pixel_space":
            try:
                found.append(files.fingerprint(call.folders.find_model(str(kind), str(value))))
            except files.BrokenModel as error:
                raise NodeFailed("safetensors_rust.SafetensorError", str(error)) from error
    return found


async def _load_model(call: Call) -> Outputs:
    weights = _weights(call)
    await asyncio.sleep(call.load_ms / 1000)
    mark = mixed(call.class_type, *sorted(call.inputs.items()), *weights)
    return tuple(Thing(kind=kind, digest=mark) for kind in call.catalogue.outputs(call.class_type))


async def _encode_text(call: Call) -> Outputs:
    words = str(call.inputs.get("text") or call.inputs.get("text_g") or "")
    return (Conditioning(words=words, digest=mixed(call.class_type, *sorted(call.inputs.items()))),)


async def _combine(call: Call) -> Outputs:
    one, two = call.inputs["conditioning_1"], call.inputs["conditioning_2"]
    return (Conditioning(words=f"{one.words}, {two.words}", digest=mixed(one, two)),)


async def _empty_latent(call: Call) -> Outputs:
    size = {"width_px": call.inputs["width"] // 8 * 8, "height_px": call.inputs["height"] // 8 * 8}
    return (Pictures(subject=Plain(color=0x7F7F7F), batch=call.inputs["batch_size"], **size),)


async def _empty_image(call: Call) -> Outputs:
    width_px, height_px, batch = (call.inputs[name] for name in ("width", "height", "batch_size"))
    if (wanted_bytes := width_px * height_px * batch * 4) > MEMORY_BYTES:
        raise out_of_memory_cpu(wanted_bytes)
    plain = Plain(color=call.inputs["color"])
    return (Pictures(subject=plain, width_px=width_px, height_px=height_px, batch=batch),)


async def _sample(call: Call) -> Outputs:
    latent: Pictures = call.inputs["latent_image"]
    seed = call.inputs.get("seed", call.inputs.get("noise_seed", 0))
    # The batch size is left out: the first picture of four is the picture of a batch of one.
    shaped = sorted((name, value) for name, value in call.inputs.items() if name != "latent_image")
    mark = mixed(latent.subject, latent.width_px, latent.height_px, *shaped)
    painted = replace(latent, subject=Scene(words=call.inputs["positive"].words, seed=seed, digest=mark))
    steps = call.inputs["steps"]
    for done in range(1, steps + 1):
        await asyncio.sleep(call.step_ms / 1000)
        await call.step(done, steps, preview=painted)
    return (painted,)


async def _decode(call: Call) -> Outputs:
    return (call.inputs["samples"],)


async def _encode(call: Call) -> Outputs:
    return (call.inputs["pixels"],)


async def _scale(call: Call) -> Outputs:
    pictures: Pictures = call.inputs["image" if "image" in call.inputs else "samples"]
    width_px = call.inputs.get("width") or round(pictures.width_px * call.inputs.get("scale_by", 1))
    height_px = call.inputs.get("height") or round(pictures.height_px * call.inputs.get("scale_by", 1))
    return (pictures.sized(width_px=width_px, height_px=height_px),)


async def _invert(call: Call) -> Outputs:
    pictures: Pictures = call.inputs["image"]
    return (replace(pictures, inverted=not pictures.inverted),)


async def _load_image(call: Call) -> Outputs:
    path = call.folders.annotated(str(call.inputs["image"]), call.folders.input)
    width_px, height_px = await asyncio.to_thread(paint.size_px, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    pictures = Pictures(subject=Stored(path=path, sha256=sha256), width_px=width_px, height_px=height_px)
    return (pictures, Thing(kind="MASK", digest=sha256))


async def _save(call: Call, *, root: Path, prefix: str, kind: str, compress_level: int) -> Outputs:
    pictures: Pictures = call.inputs["images"]
    try:
        place = files.Place(root, prefix, width_px=pictures.width_px, height_px=pictures.height_px)
    except files.OutsideFolder as error:
        raise NodeFailed("Exception", str(error)) from error
    counter = place.counter()
    chunks: dict[str, Any] = {}
    if call.embed_metadata:
        chunks = {"prompt": call.graph} | (call.extra_pnginfo or {})
    images = []
    for index in range(pictures.batch):
        name = place.file_name(counter + index, index)
        png = await asyncio.to_thread(paint.png, pictures, index, chunks=chunks, compress_level=compress_level)
        if call.writes_files:
            (place.folder / name).write_bytes(png)
        images.append({"filename": name, "subfolder": place.subfolder, "type": kind})
    call.ui = {"images": images}
    return ()


async def _save_image(call: Call) -> Outputs:
    prefix = str(call.inputs["filename_prefix"])
    return await _save(call, root=call.folders.output, prefix=prefix, kind="output", compress_level=4)


async def _preview_image(call: Call) -> Outputs:
    letters = "".join(random.choice(PREVIEW_LETTERS) for _ in range(5))  # noqa: S311 - a name, not a secret
    prefix = f"ComfyUI_temp_{letters}"
    return await _save(call, root=call.folders.temp, prefix=prefix, kind="temp", compress_level=1)


async def _send_image(call: Call) -> Outputs:
    pictures: Pictures = call.inputs["images"]
    for index in range(pictures.batch):
        png = await asyncio.to_thread(paint.png, pictures, index, chunks={}, compress_level=4)
        await call.step(index + 1, pictures.batch, final=png)
    call.ui = {}
    return ()


async def _probe_progress(call: Call) -> Outputs:
    for done in range(1, call.inputs["steps"] + 1):
        await asyncio.sleep(call.inputs["delay"])
        await call.step(done, call.inputs["steps"])
    return (call.inputs["image"],)


async def _probe_sleep(call: Call) -> Outputs:
    await asyncio.sleep(call.inputs["seconds"])
    return (call.inputs["image"],)


async def _probe_raise(call: Call) -> Outputs:
    match call.inputs["kind"]:
        case "exit":
            raise WorkerGone
        case "oom":
            raise out_of_memory()
        case kind:
            name = "ValueError" if kind == "value" else "RuntimeError"
            raise NodeFailed(name, str(call.inputs["message"]))


ACTS: dict[str, Callable[[Call], Awaitable[Outputs]]] = {
    "CheckpointLoaderSimple": _load_model,
    "UNETLoader": _load_model,
    "CLIPTextEncode": _encode_text,
    "CLIPTextEncodeSDXL": _encode_text,
    "CLIPTextEncodeSDXLRefiner": _encode_text,
    "ConditioningCombine": _combine,
    "EmptyLatentImage": _empty_latent,
    "EmptyImage": _empty_image,
    "KSampler": _sample,
    "KSamplerAdvanced": _sample,
    "VAEDecode": _decode,
    "VAEEncode": _encode,
    "VAEEncodeForInpaint": _encode,
    "ImageScale": _scale,
    "ImageScaleBy": _scale,
    "LatentUpscale": _scale,
    "LatentUpscaleBy": _scale,
    "ImageInvert": _invert,
    "LoadImage": _load_image,
    "SaveImage": _save_image,
    "PreviewImage": _preview_image,
    "SaveImageWebsocket": _send_image,
    "ProbeProgress": _probe_progress,
    "ProbeSleep": _probe_sleep,
    "ProbeRaise": _probe_raise,
}
