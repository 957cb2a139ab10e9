"""vsgen gpu: nodes of the GPU pools, taken out of service for maintenance and put back."""

from dataclasses import asdict
from typing import Annotated

import typer

from functions.adapters import nodes
from functions.ctl_say import Json, say, table

app = typer.Typer(no_args_is_help=True, help=__doc__, rich_markup_mode=None)
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="the node's name in the cluster")]


@app.command()
def cordon(
    node: NodeName,
    reason: Annotated[str, typer.Option(help="why, for whoever finds the node cordoned")] = "",
    drain: Annotated[
        bool, typer.Option(help="evict its runners too: their jobs go on elsewhere, at no attempt")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let no new runner onto a node. What runs there ends in peace, unless --drain sends it away."""
    cordoned = nodes.cordon(node, reason=reason)
    drained = nodes.drain(node) if drain else nodes.Drained()
    lines = [f"{node} is cordoned", *(f"evicted {pod}" for pod in drained.evicted)]
    lines += [f"{pod} stays: {why}" for pod, why in drained.kept.items()]
    if drain and not (drained.evicted or drained.kept):
        lines.append("no runner was on it")
    say(asdict(cordoned) | {"drained": asdict(drained) if drain else None}, as_json, "\n".join(lines))
    if drained.kept:
        raise typer.Exit(1)


@app.command()
def uncordon(node: NodeName, as_json: Json = False) -> None:
    """Let runners onto a node again."""
    say(asdict(nodes.uncordon(node)), as_json, f"{node} takes runners again")


@app.command("list")
def listing(as_json: Json = False) -> None:
    """Every node of the GPU pools: whether it is ready, whether it takes runners, and why not."""
    found = nodes.listing()
    rows: list[tuple[object, ...]] = [
        (one.name, one.pool, "ready" if one.ready else "not ready", "cordoned" if one.cordoned else "open", one.reason)
        for one in found
    ]
    text = table(("node", "pool", "health", "runners", "reason"), rows) if rows else "no node has a GPU pool's label"
    say({"nodes": [asdict(one) for one in found]}, as_json, text)
