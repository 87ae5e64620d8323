"""How busy one driver keeps hundreds of workers: `python -m tests.bench.driver`, and a row of `make bench`.

The driver, Ray and what travels are real; the workers are simulated: a few processes in which each of them sleeps for
as long as its cell would take a GPU by the cost model of `docs/cluster.md`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Annotated, Any, cast

import ray
import typer

from explorer.experiments.cluster.dispatch import dispatch
from explorer.experiments.cluster.worker import installed
from explorer.experiments.cluster.workers import RayCrew
from scripts.docs.costs import SHAPES
from tests.bench.timing import Row, figures, row

HOSTS = 2
TARGET = 0.95  # share of the workers' time
CELL_BYTES, ANSWER_BYTES = 2500, 6000  # of some 70 values
UNLIKE = 0.2  # by how much workers differ in speed


def host_class() -> type[Any]:
    """The class of the actors in which workers sleep; each worker does one thing after the other."""

    class Host:
        def __init__(self) -> None:
            self.turns: dict[int, Any] = {}

        async def sleep(self, expected: dict[str, str], subject: str, cell: tuple[int, float, str, int]) -> str:
            import asyncio

            worker, seconds, _, size = cell
            async with self.turns.setdefault(worker, asyncio.Lock()):
                await asyncio.sleep(seconds)
            return f"{seconds} " + "y" * size

    return Host


@dataclass(frozen=True)
class SimulatedCrew:
    """Many workers in a few of Ray's actors; a cell is the seconds that it takes."""

    ray: RayCrew
    size: int

    def send(self, worker: int, cell: float) -> Hashable:
        """Let one sleep."""
        speed = 1 + UNLIKE * (2 * Random(worker).random() - 1)
        asked = (worker, cell * speed, "x" * CELL_BYTES, ANSWER_BYTES)
        actor = self.ray.actors[worker % len(self.ray.actors)]
        return cast("Hashable", actor.sleep.remote(installed(), self.ray.subject, asked))

    def finished(self, tickets: Sequence[Hashable], seconds: float) -> Iterable[tuple[Hashable, str]]:
        """Who is awake."""
        return self.ray.finished(tickets, seconds)

    def cancel(self, tickets: Collection[Hashable]) -> None:
        """Let them sleep."""


def simulate(workers: int, cells: Sequence[float]) -> tuple[float, float, float]:
    """Seconds that workers were there for, that they slept for, and of the driver's processor."""
    ray.init("local", num_cpus=HOSTS, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    try:
        actor = ray.remote(host_class()).options(num_cpus=0, max_concurrency=4 * workers)
        crew = SimulatedCrew(RayCrew([actor.remote() for _ in range(HOSTS)], ray.put("x" * 200_000)), workers)
        list(dispatch(crew, [0.0] * workers))
        wall, spent = time.perf_counter(), time.process_time()
        slept = 0.0
        for _, answer in dispatch(crew, cells):
            slept += float(answer.split(maxsplit=1)[0])
        return workers * (time.perf_counter() - wall), slept, time.process_time() - spent
    finally:
        ray.shutdown()


def driver_row(workers: int = 512, rounds: int = 25) -> Row:
    """Workers' time over the time that they sleep; `rounds` cells for each worker."""
    cells = list(islice(SHAPES[0].cells(), workers * rounds))
    there, slept, spent = simulate(workers, cells)
    note = (
        f"{len(cells):,} cells of {slept / len(cells):.1f} s on average, {1000 * spent / len(cells):.2f} ms of the "
        "driver's processor for each; all effects of a 7 B model on as many GPUs, the GPUs simulated"
    )
    what = f"{workers} workers of one driver are there"
    return row(what, "they work", figures([(there, slept)], "s"), 1 / TARGET, note)


def main(
    workers: Annotated[int, typer.Option(min=1, help="Simulated workers.")] = 512,
    rounds: Annotated[int, typer.Option(min=1, help="Cells for each of them.")] = 25,
) -> None:
    """Measure and print."""
    found = driver_row(workers, rounds)
    print(f"busy {100 / cast('float', found['ratio']):.1f} % of the time; {found['note']}")


if __name__ == "__main__":
    typer.run(main)
