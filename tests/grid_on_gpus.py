"""A grid on GPUs that are not there: `python -m tests.grid_on_gpus RUN_FOLDER`, with their names and UUIDs in GPUS."""

import os

from training import engine, grid
from training.machine import Gpu
from training.run import Run


def work(run: Run) -> None:
    """The grid's own job, which asks what cards there are."""
    cards = [one.split("=") for one in os.environ["GPUS"].split()]
    grid.gpus = lambda: tuple(Gpu(name, uuid) for name, uuid in cards)
    grid.work(run)


if __name__ == "__main__":
    engine.main(work)
