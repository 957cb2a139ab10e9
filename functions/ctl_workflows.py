"""vsgen workflows: the versioned documents that requests name, and graphs are made from."""

from pathlib import Path
from typing import Annotated

import typer

from functions.adapters import postgres, workflows
from functions.ctl_say import Json, say, table

app = typer.Typer(no_args_is_help=True, help=__doc__, rich_markup_mode=None)
Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE...", exists=True, dir_okay=False, help="workflow documents", show_default=False),
]


@app.command()
def publish(
    files: Files = None,
    shipped: Annotated[bool, typer.Option("--shipped", help="those that ship with this release")] = False,
    as_json: Json = False,
) -> None:
    """Publish documents: all of them, or none. The same bytes again change nothing; other bytes under a version that is
    published are refused."""
    documents = [path.read_bytes() for path in files or ()] + (list(workflows.shipped()) if shipped else [])
    if not documents:
        raise typer.BadParameter("name files, or give --shipped")
    with postgres.transaction() as tx:
        published = [workflows.publish(tx, document) for document in documents]
    rows: list[tuple[object, ...]] = [(one.id, one.version, one.title) for one in published]
    record = [{"id": one.id, "version": one.version} for one in published]
    say({"published": record}, as_json, table(("workflow", "version", "title"), rows))
