"""The performance table: `make bench`, or rows of it with `BENCH=claim_vs_floor_1,jobs_vs_huey`.

One JSON line a row on standard output, or a table for people; exit code 0 when every row that could be judged meets its
goal, 1 when one does not, 2 when a name is unknown. A row that noise or a missing peer kept from being judged has
`"ok": null` and says why; it fails nothing, and claims nothing.
"""

import importlib
import json
import logging
import sys
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.row import Measure, Row
from bench.servers import Servers

#: Each has its rows in `ROWS`.
PARTS = ("queue", "growth", "warmth", "scaling", "ledger", "lifecycle")


def main(
    names: Annotated[str, typer.Option("--rows", envvar="BENCH", help="rows to measure, comma-separated")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON line a row, as it comes; the default")] = False,
    table: Annotated[bool, typer.Option("--table", help="a table for people, at the end")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="the same, for a README")] = False,
    listing: Annotated[bool, typer.Option("--list", help="only name the rows there are, with their goals")] = False,
) -> None:
    """Measure, each row against its reference, side by side."""
    logging.disable(logging.WARNING)
    rows: list[Measure] = [row for part in PARTS for row in importlib.import_module(f"bench.{part}").ROWS]
    if listing:
        for row in rows:
            print(f"{row.name:24} {row.goal!s:>8}  {row.about}")
        return
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := set(wanted) - {row.name for row in rows}:
        print(f"no such row: {', '.join(sorted(unknown))}; --list names them", file=sys.stderr)
        raise typer.Exit(2)
    told: list[Row] = []
    with Servers() as servers:
        for row in rows:
            if wanted and row.name not in wanted:
                continue
            began_s = time.monotonic()
            found = row.run(row, servers)
            servers.dismiss()
            told.append(found)
            if as_json or not (table or markdown):
                print(json.dumps(found.told()), flush=True)
            print(f"{row.name}: {time.monotonic() - began_s:.0f} s", file=sys.stderr)
    if table:
        _show(told)
    if markdown:
        print(_markdown(told))
    raise typer.Exit(int(any(row.ok is False for row in told)))


def _cells(row: Row) -> list[str]:
    found = row.told()
    ours, reference = (
        f"{found[key]:,} {unit}".rstrip() if found[key] is not None else "-"
        for key, unit in (("value", row.unit), ("reference_value", ""))
    )
    verdict = {True: "met", False: "missed", None: "for information" if row.goal == "none" else "not judged"}[row.ok]
    return [row.name, ours, f"{reference} ({row.reference})", str(found["ratio"] or "-"), row.goal, verdict]


HEADINGS = ("row", "ours", "reference", "ratio", "goal", "")


def _show(rows: list[Row]) -> None:
    table = Table(*HEADINGS, "note", box=None)
    for row in rows:
        table.add_row(*_cells(row), row.note)
    Console(width=180).print(table)


def _markdown(rows: list[Row]) -> str:
    lines = [HEADINGS, ["---"] * len(HEADINGS), *([f"`{row.name}`", *_cells(row)[1:]] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    typer.run(main)
