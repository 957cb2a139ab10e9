"""What the server says of itself: its nodes, its machine, its features, its folders. Nothing here changes anything."""

import os
import platform
import sys
from typing import Any

from aiohttp import web

from functions.standin.catalogue import Catalogue
from functions.standin.files import Folders, model_folders

VERSION = "0.3.64"


class About:
    """Handlers that only read."""

    def __init__(self, folders: Folders, catalogue: Catalogue, features: dict[str, Any]) -> None:
        self._folders, self._catalogue, self._features = folders, catalogue, features

    def routes(self) -> list[web.RouteDef]:
        """The routes, without the /api prefix they also have."""
        return [
            web.get("/object_info", self.nodes),
            web.get("/object_info/{node}", self.node),
            web.get("/system_stats", self.system_stats),
            web.get("/features", self.features),
            web.get("/users", self.users),
            web.get("/settings", self.settings),
        ]

    def internal_routes(self) -> list[web.RouteDef]:
        """Routes that have no /api twin."""
        return [
            web.get("/internal/folder_paths", self.folder_paths),
            web.get("/internal/files/{kind}", self.folder_files),
        ]

    async def nodes(self, _: web.Request) -> web.Response:
        """GET /object_info: every node type."""
        return web.json_response({name: self._catalogue.info(name) for name in self._catalogue.names()})

    async def node(self, request: web.Request) -> web.Response:
        """GET /object_info/{node}: one node type, or {}."""
        name = request.match_info["node"]
        return web.json_response({name: self._catalogue.info(name)} if name in self._catalogue else {})

    async def system_stats(self, _: web.Request) -> web.Response:
        """GET /system_stats: the machine as a CPU-only ComfyUI shows it."""
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        total = os.sysconf("SC_PHYS_PAGES") * page_bytes
        free = os.sysconf("SC_AVPHYS_PAGES") * page_bytes
        vram = {"vram_total": total, "vram_free": free, "torch_vram_total": total, "torch_vram_free": free}
        system = {
            "os": os.name,
            "ram_total": total,
            "ram_free": free,
            "comfyui_version": VERSION,
            "required_frontend_version": "1.27.10",
            "installed_templates_version": None,
            "required_templates_version": "0.1.95",
            "python_version": sys.version,
            "pytorch_version": f"none (stand-in, Python {platform.python_version()})",
            "embedded_python": False,
            "argv": sys.argv,
        }
        devices = [{"name": "cpu", "type": "cpu", "index": None, **vram}]
        return web.json_response({"system": system, "devices": devices})

    async def features(self, _: web.Request) -> web.Response:
        """GET /features: what the server can do."""
        return web.json_response(self._features)

    async def users(self, _: web.Request) -> web.Response:
        """GET /users: a single-user server."""
        return web.json_response({"storage": "server", "migrated": False})

    async def settings(self, _: web.Request) -> web.Response:
        """GET /settings: none."""
        return web.json_response({})

    async def folder_paths(self, _: web.Request) -> web.Response:
        """GET /internal/folder_paths: where models of each kind may lie."""
        found = {kind: [str(path) for path in self._folders.directories(kind)] for kind in model_folders()}
        return web.json_response(found)

    async def folder_files(self, request: web.Request) -> web.Response:
        """GET /internal/files/{kind}: the files directly in output, input or temp, newest first."""
        folder = self._folders.by_type(request.match_info["kind"])
        if folder is None:
            return web.json_response({"error": "Invalid directory type"}, status=400)
        entries = sorted(
            (entry for entry in folder.iterdir() if entry.is_file()), key=lambda entry: -entry.stat().st_mtime
        )
        return web.json_response([entry.name for entry in entries])
