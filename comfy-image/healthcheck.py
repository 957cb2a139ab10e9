"""Whether ComfyUI still works: `python healthcheck.py [URL]` ends with 0 when it does, with 1 and a reason when not.

An open port is not enough: when its worker thread dies, ComfyUI goes on answering while prompts pile up for ever. What
gives it away is a prompt that waits at two looks in a row although nothing runs. Needs the standard library alone.
"""

import argparse
import http.client
import json
import sys
import time
import urllib.request

TIMEOUT_S = 2.0


def stuck(url: str) -> set[str]:
    """The ids of the prompts that wait although nothing runs; OSError or ValueError when this is no ComfyUI."""
    with urllib.request.urlopen(f"{url}/queue", timeout=TIMEOUT_S) as answer:  # noqa: S310 - the address is ours
        queue = json.load(answer)
    try:
        return set() if queue["queue_running"] else {str(item[1]) for item in queue["queue_pending"]}
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"no ComfyUI queue: {error!r}") from error


def main() -> str | None:
    """Look once, and again when something waits; gives what is wrong."""
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("url", nargs="?", default="http://127.0.0.1:8188", help="%(default)s")
    told.add_argument("--pause-s", type=float, default=2.0, help="between the two looks, seconds (%(default)s)")
    options = told.parse_args()
    try:
        waiting = stuck(options.url)
        if waiting:
            time.sleep(options.pause_s)
            waiting &= stuck(options.url)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"ComfyUI does not answer: {error}"
    if waiting:
        return f"ComfyUI's worker is dead: {len(waiting)} prompts wait and none runs"
    return None


if __name__ == "__main__":
    sys.exit(main())
