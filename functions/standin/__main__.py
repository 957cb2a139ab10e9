"""Start the stand-in: `python -m functions.standin --base-directory DIR --port 8188`.

A server that answers as ComfyUI 0.3.64 does, without a GPU, a model or torch. See --help for the switches.
"""

import argparse
import asyncio
import logging
import os
import sys
import time
from collections.abc import Coroutine
from pathlib import Path

DESCRIPTION = """\
A stand-in for ComfyUI 0.3.64: the same HTTP routes, websocket frames, files and pitfalls, and a landscape where a
diffusion model would paint. Everything it reads and writes lies below --base-directory: models/ (checkpoints, loras,
vae ...), input/, output/ and temp/ (emptied at start). A few bytes do for a model file; an empty file, a dangling link
and a truncated safetensors file fail in the loader.
"""


def _epilog() -> str:
    from functions.standin.behaviour import MEANINGS

    told = "\n".join(f"  {kind:<18} {meaning}" for kind, meaning in MEANINGS.items())
    return f"""\
faults, with --fault (repeatable) or at run time:
{told}

  each may carry `times` (how often it strikes, default 1); those that strike a running prompt `after_steps` (default
  0: before its first sampler step); worker_dead with after_steps ends inside a node, without before taking a prompt

  --fault die
  --fault '{{"fault": "out_of_memory", "times": 2, "after_steps": 1}}'
  --fault '{{"fault": "history_lag", "lag_ms": 800}}'

at run time:
  curl -d '{{"step_ms": 5, "fault": "stall", "after_steps": 3}}' localhost:8188/standin/behaviour
  curl -d '{{"gpu": {{"temperature_c": 93}}}}' localhost:8188/standin/behaviour    has a GPU that tells of itself
  curl -d '{{"clear": true}}' localhost:8188/standin/behaviour      disarms all, releases a stalled prompt
  curl localhost:8188/standin/behaviour                          shows what is armed
"""


def parser() -> argparse.ArgumentParser:
    """The command line; ComfyUI's own spellings are understood where they mean something here."""
    told = argparse.ArgumentParser(
        prog="python -m functions.standin",
        description=DESCRIPTION,
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    told.add_argument("--host", "--listen", default="127.0.0.1", help="address to listen on (%(default)s)")
    told.add_argument("--port", type=int, default=8188, help="port to listen on (%(default)s)")
    told.add_argument("--base-directory", type=Path, required=True, help="where models/, input/, output/, temp/ lie")
    told.add_argument("--step-ms", type=int, default=60, help="time one sampler step takes, ms (%(default)s)")
    told.add_argument("--load-ms", type=int, default=0, help="time a checkpoint takes to load, ms (%(default)s)")
    told.add_argument("--startup-ms", type=int, default=0, help="refuse connections this long first, ms (%(default)s)")
    told.add_argument("--fault", action="append", default=[], metavar="NAME|JSON", help="arm a fault; see below")
    previews = ("none", "auto", "latent2rgb", "taesd")
    told.add_argument("--preview-method", choices=previews, default="none", help="none: no previews (%(default)s)")
    caches = told.add_mutually_exclusive_group()
    caches.add_argument("--cache-none", action="store_true", help="keep no results: a repeated graph runs again")
    caches.add_argument(
        "--cache-lru", type=int, default=0, metavar="N", help="keep the last N results, not just the latest prompt's"
    )
    told.add_argument("--max-upload-size", type=float, default=100, metavar="MB", help="largest body, MB (%(default)s)")
    told.add_argument("--disable-metadata", action="store_true", help="write PNGs without text chunks")
    return told


def main() -> int:
    """Serve until ended. SIGTERM ends it at once, SIGINT with exit code 0; a broken-down server exits with 1."""
    options = parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    time.sleep(options.startup_ms / 1000)

    from functions.standin.behaviour import Behaviour, Change
    from functions.standin.files import Folders
    from functions.standin.server import Server

    behaviour = Behaviour(step_ms=options.step_ms, load_ms=options.load_ms)
    try:
        for text in options.fault:
            change = text if text.startswith("{") else f'{{"fault": "{text}"}}'
            behaviour.apply(Change.model_validate_json(change))
    except ValueError as error:
        parser().error(f"--fault: {error}")
    folders = Folders(options.base_directory)
    folders.prepare()
    server = Server(
        folders=folders,
        behaviour=behaviour,
        keep="none" if options.cache_none else "lru" if options.cache_lru else "latest",
        keep_results=options.cache_lru,
        previews=options.preview_method != "none",
        embed_metadata=not options.disable_metadata,
        max_upload_bytes=round(options.max_upload_size * (1 << 20)),
    )
    try:
        asyncio.run(_until_broken(server.serve(host=options.host, port=options.port)))
    except KeyboardInterrupt:
        return 0
    return 1


async def _until_broken(serving: Coroutine[None, None, None]) -> None:
    try:
        await serving
    except Exception:
        logging.getLogger(__name__).exception("no frame can be sent any more; the process ends, as the real one does")
        os._exit(1)  # an orderly end would go on answering while it tidies up


if __name__ == "__main__":
    sys.exit(main())
