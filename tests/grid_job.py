"""A job that stands in for a run of hours in tests of the queue: `python -m tests.grid_job RUN_FOLDER`.

It counts to `steps`, a line in output/steps.txt each, and goes on from the last one when it is resumed. With a `gate` it waits
before its last step until that file is there; with `fails_without` it fails as long as that file is not. Beginning and end go
to `diary`, which all jobs of a test share.
"""

import os
import time
from pathlib import Path

from pydantic import BaseModel

from training import engine
from training.run import Run


class Counting(BaseModel):
    """What it is told."""

    name: str
    steps: int = 2
    gate: str = ""
    fails_without: str = ""
    diary: str


def count(run: Run) -> None:
    """The job."""
    told = Counting.model_validate(run.config())
    _note(told, "begins" + (f" on {os.environ['CUDA_VISIBLE_DEVICES']}" if "CUDA_VISIBLE_DEVICES" in os.environ else ""))
    file = run.output / "steps.txt"
    done = len(file.read_text().splitlines()) if file.exists() else 0
    for step in range(done, told.steps):
        while told.gate and step == told.steps - 1 and not Path(told.gate).exists():
            run.tell(step, told.steps, "steps", "waiting", seconds=0)
            time.sleep(0.005)
        if told.fails_without and not Path(told.fails_without).exists():
            raise ValueError("there is no bread: expected some")
        with file.open("a") as opened:
            opened.write(f"{told.name} {step}\n")
    _note(told, "ends")


def _note(told: Counting, what: str) -> None:
    with Path(told.diary).open("a") as opened:
        opened.write(f"{told.name} {what}\n")


if __name__ == "__main__":
    engine.main(count)
