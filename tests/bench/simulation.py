"""`make simulate`: the fairness simulation's table on standard output, and its picture.

python -m bench.simulation [--picture docs/queue-fairness.svg] [--json]
"""

import json
import logging
import os
import random
import statistics
from pathlib import Path
from typing import Annotated

import typer

from bench import fairness, picture
from bench.fairness import Asked
from bench.servers import Servers

WORST = "unluckiest user"
Found = dict[float, dict[str, dict[str, tuple[float, float]]]]


def main(
    out: Annotated[Path, typer.Option("--picture", help="where the picture goes")] = Path("docs/queue-fairness.svg"),
    as_json: Annotated[bool, typer.Option("--json", help="one JSON line a load, who and order, for machines")] = False,
) -> None:
    """Simulate 50 users, one of whom floods, under three orders."""
    logging.disable(logging.WARNING)
    with Servers() as servers:
        pools = f"{fairness.POOL}*{fairness.WORKERS}"
        os.environ |= {
            "REDIS_URL": servers.redis_url,
            "POOLS": pools,
            "LEASE_S": "86400",
        }  # simulated time is no lease's
        found = {load: _waits(servers, load) for load in fairness.LOADS}
    out.parent.mkdir(parents=True, exist_ok=True)
    caption = f"Waiting for a GPU while one of 50 users asks for {fairness.FLOOD} pictures at once"
    out.write_text(picture.draw({load: _without(by_who, WORST) for load, by_who in found.items()}, caption=caption))
    if as_json:
        for load, by_who in found.items():
            for who, by_order in by_who.items():
                for order, (median, p95) in by_order.items():
                    said = {"load": load, "who": who, "order": order, "median_min": median, "p95_min": p95}
                    print(json.dumps(said))
    else:
        print(table(found))


def _waits(servers: Servers, load: float) -> dict[str, dict[str, tuple[float, float]]]:
    """Median and 95th percentile in minutes, by who waits and under which order, over all seeds."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name, order in fairness.ORDERS.items():
        waited: dict[str, list[float]] = {}
        medians: list[float] = []
        for seed in range(fairness.SEEDS):
            servers.empty()
            asked: list[Asked] = fairness.stream(load, random.Random(seed))
            waits = fairness.simulate(order(), asked)
            assert len(waits) == len(asked), "every job is rendered in the end"
            for who, some in fairness.groups(asked, waits).items():
                waited.setdefault(who, []).extend(some)
            medians.append(fairness.unluckiest(asked, waits))
        for who, some in waited.items():
            found.setdefault(who, {})[name] = (_minutes(statistics.median(some)), _minutes(_p95(some)))
        found.setdefault(WORST, {})[name] = (_minutes(statistics.median(medians)), _minutes(max(medians)))
    return found


def table(found: Found) -> str:
    """Markdown: a row for who waits at which load, a column an order, each median / 95th percentile."""
    lines = [f"| load | who | {' | '.join(fairness.ORDERS)} |", "| --- | --- |" + " --- |" * len(fairness.ORDERS)]
    for load, by_who in found.items():
        for number, (who, by_order) in enumerate(by_who.items()):
            cells = " | ".join(f"{median:g} / {p95:g}" for median, p95 in by_order.values())
            lines.append(f"| {f'{load:.0%}' if number == 0 else ''} | {who} | {cells} |")
    return "\n".join(lines)


def _without(by_who: dict[str, dict[str, tuple[float, float]]], who: str) -> dict[str, dict[str, tuple[float, float]]]:
    return {name: by_order for name, by_order in by_who.items() if name != who}


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def _minutes(seconds: float) -> float:
    return round(seconds / 60, 1)


if __name__ == "__main__":
    typer.run(main)
