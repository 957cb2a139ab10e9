"""The README's table of values, made from the comments in values.yaml that begin with `# --`.

python tests/charts/values_table.py    writes it between the README's two markers
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "visionsuit-generator"
BEGIN, END = "<!-- values -->\n", "<!-- /values -->\n"
_KEY = re.compile(r"( *)([A-Za-z0-9_]+):")
_COMMENT = re.compile(r" *# (-- )?(.*)")


def explained(text: str) -> Iterator[tuple[str, str]]:
    """Each value that a comment explains: its path with dots, and the explanation."""
    path: list[tuple[int, str]] = []
    comment = ""
    for line in text.splitlines():
        if said := _COMMENT.fullmatch(line):
            comment = said[2] if said[1] else f"{comment} {said[2]}" if comment else ""
        elif key := _KEY.match(line):
            depth = len(key[1])
            path = [*(one for one in path if one[0] < depth), (depth, key[2])]
            if comment:
                yield ".".join(name for _, name in path), comment
            comment = ""
        else:
            comment = ""


def table(text: str) -> str:
    """The table in Markdown."""
    values = yaml.safe_load(text)
    rows = ["| value | default | what it is |", "| --- | --- | --- |"]
    rows += [f"| `{path}` | {_default(values, path)} | {about} |" for path, about in explained(text)]
    return "\n".join(rows) + "\n"


def _default(values: Any, path: str) -> str:
    for name in path.split("."):
        values = values[name]
    return "" if values in ("", {}, []) else f"`{json.dumps(values)}`".replace("|", "\\|")


def renewed(readme: str, text: str) -> str:
    """The README with the table of these values."""
    before, _, rest = readme.partition(BEGIN)
    return before + BEGIN + table(text) + END + rest.partition(END)[2]


if __name__ == "__main__":
    path = CHART / "README.md"
    path.write_text(renewed(path.read_text(), (CHART / "values.yaml").read_text()))
