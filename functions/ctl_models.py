"""vsgen models: checkpoints and LoRAs that requests may name."""

from typing import Annotated

import typer

from functions.ctl_say import Json, say, table

app = typer.Typer(no_args_is_help=True, help="Checkpoints and LoRAs that requests may name.")


@app.command()
def sync(
    stand_in: Annotated[
        bool, typer.Option("--stand-in", help="first put a few bytes that ComfyUI's stand-in takes for a checkpoint")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make known what lies in the models bucket under checkpoints/, loras/ and vae/. Nothing is copied or renamed."""
    from functions.adapters import models, postgres

    if stand_in:
        models.put_stand_in()
    with postgres.transaction() as tx:
        found = models.discover(tx)
    say({"discovered": found}, as_json, f"{found} new or replaced")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Every model that is known, with its place and what is known of its content."""
    from functions.adapters import models, postgres

    with postgres.transaction() as tx:
        known = models.every(tx)
    rows: list[tuple[object, ...]] = [
        (m.kind, m.name, m.object_key or "in ComfyUI", (m.sha256 or "not read yet")[:12]) for m in known
    ]
    text = table(("kind", "name", "object", "sha256"), rows) if rows else "none: try `vsgen models sync`"
    say({"models": [vars(model) for model in known]}, as_json, text)
