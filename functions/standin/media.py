"""The doors for files: /view, /upload/image, and what /models tells of the model folders."""

import asyncio
import filecmp
import io
import mimetypes
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

from aiohttp import web
from PIL import Image

from functions.standin.files import FINGERPRINT_BYTES, Folders, model_folders, safetensors_header

NEVER_SHOWN = {"text/html", "text/html-sandboxed", "application/xhtml+xml", "text/javascript", "text/css"}


class Media:
    """Handlers over one set of folders."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    def routes(self) -> list[web.RouteDef]:
        """The routes, without the /api prefix they also have."""
        return [
            web.get("/view", self.view),
            web.post("/upload/image", self.upload),
            web.get("/models", self.kinds),
            web.get("/models/{folder}", self.models),
            web.get("/embeddings", self.embeddings),
            web.get("/experiment/models", self.model_directories),
            web.get("/experiment/models/{folder}", self.model_files),
            web.get("/view_metadata/{folder}", self.model_metadata),
        ]

    async def view(self, request: web.Request) -> web.StreamResponse:
        """A file, or a re-encoded preview or one channel of it; the refusals are 400, 403 and 404, all empty."""
        name = request.query.get("filename")
        if name is None:
            return web.Response(status=404)
        root = self._folders.by_type(request.query.get("type", "output"))
        if not name or name.startswith("/") or ".." in name or root is None:
            return web.Response(status=400)
        folder = (root / request.query.get("subfolder", "")).resolve()
        if not folder.is_relative_to(root):
            return web.Response(status=403)
        path = folder / Path(name).name
        if not path.is_file():
            return web.Response(status=404)
        told = {"Content-Disposition": f'filename="{path.name}"'}
        channel = request.query.get("channel", "rgba")
        if "preview" in request.query:
            body, kind = await asyncio.to_thread(_preview, path, request.query["preview"], channel)
        elif channel in ("rgb", "a"):
            body, kind = await asyncio.to_thread(_channel, path, channel), "image/png"
        else:
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            told["Content-Type"] = "application/octet-stream" if kind in NEVER_SHOWN else kind
            return web.FileResponse(path, headers=told)
        return web.Response(body=body, content_type=kind, headers=told)

    async def upload(self, request: web.Request) -> web.Response:
        """Keep an uploaded file; other bytes under a taken name get a number, so the returned name counts."""
        post = await request.post()
        image = post.get("image")
        kind = str(post.get("type", "input"))
        root = self._folders.by_type(kind)
        if root is None:
            raise KeyError(f"no folder of type {kind!r}")  # the real server answers 500 here too
        if not isinstance(image, web.FileField) or not image.filename:
            return web.Response(status=400)
        subfolder = str(post.get("subfolder", ""))
        path = (root / subfolder / image.filename).resolve()
        if not path.is_relative_to(root):
            return web.Response(status=400)
        path.parent.mkdir(parents=True, exist_ok=True)
        overwrite = post.get("overwrite") in ("true", "1")
        name = await asyncio.to_thread(_keep, path, image.file, overwrite=overwrite)
        return web.json_response({"name": name, "subfolder": subfolder, "type": kind})

    async def kinds(self, _: web.Request) -> web.Response:
        """The names of the model folders."""
        return web.json_response(list(model_folders()))

    async def models(self, request: web.Request) -> web.Response:
        """The files of one kind."""
        kind = request.match_info["folder"]
        if kind not in model_folders():
            return web.Response(status=404)
        return web.json_response(self._folders.models(kind))

    async def embeddings(self, _: web.Request) -> web.Response:
        """Embeddings by name, without extension."""
        return web.json_response([str(Path(name).with_suffix("")) for name in self._folders.models("embeddings")])

    async def model_directories(self, _: web.Request) -> web.Response:
        """Each kind with the directories its files may lie in."""
        return web.json_response(
            [
                {"name": kind, "folders": [str(path) for path in self._folders.directories(kind)]}
                for kind in model_folders()
                if kind not in ("configs", "custom_nodes")
            ]
        )

    async def model_files(self, request: web.Request) -> web.Response:
        """The files of one kind with size in bytes and times in unix seconds; dangling links are left out."""
        kind = request.match_info["folder"]
        if kind not in model_folders():
            return web.Response(status=404)
        directories = self._folders.directories(kind)
        found: list[dict[str, Any]] = []
        for name in self._folders.models(kind):
            for place, directory in enumerate(directories):
                if (directory / name).is_file():
                    stat = (directory / name).stat()
                    times = {"modified": stat.st_mtime, "created": stat.st_ctime}
                    found.append({"name": name, "pathIndex": place, **times, "size": stat.st_size})
                    break
        return web.json_response(found)

    async def model_metadata(self, request: web.Request) -> web.Response:
        """What a safetensors file says of itself; 404 where there is no such file or it says nothing."""
        kind, name = request.match_info["folder"], request.query.get("filename", "")
        if kind not in model_folders() or not name.endswith(".safetensors"):
            return web.Response(status=404)
        if name not in self._folders.models(kind):
            return web.Response(status=404)
        try:
            path = self._folders.find_model(kind, name)
        except FileNotFoundError:
            return web.Response(status=404)
        with path.open("rb") as file:
            header = safetensors_header(file.read(FINGERPRINT_BYTES))
        if "__metadata__" not in header:
            return web.Response(status=404)
        return web.json_response(header["__metadata__"])


def _keep(path: Path, source: IO[bytes], *, overwrite: bool) -> str:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as arrived:
        shutil.copyfileobj(source, arrived)
    fresh = Path(arrived.name)
    target, number = path, 0
    while target.exists() and not overwrite:
        if filecmp.cmp(target, fresh, shallow=False):
            fresh.unlink()
            return target.name
        number += 1
        target = path.with_name(f"{path.stem} ({number}){path.suffix}")
    fresh.chmod(0o644)
    fresh.replace(target)
    return target.name


def _preview(path: Path, wish: str, channel: str) -> tuple[bytes, str]:
    parts = wish.split(";")
    kind = parts[0] if parts[0] in ("webp", "jpeg") and channel != "a" else "webp"
    quality = int(parts[-1]) if parts[-1].isdigit() else 90
    buffer = io.BytesIO()
    with Image.open(path) as image:
        shown = image.convert("RGB") if kind == "jpeg" or channel == "rgb" else image
        shown.save(buffer, format=kind, quality=quality)
    return buffer.getvalue(), f"image/{kind}"


def _channel(path: Path, channel: str) -> bytes:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        if channel == "rgb":
            shown = image.convert("RGB")
        else:
            alpha = image.getchannel("A") if image.mode == "RGBA" else Image.new("L", image.size, 255)
            shown = Image.new("RGBA", image.size)
            shown.putalpha(alpha)
        shown.save(buffer, format="PNG")
    return buffer.getvalue()
