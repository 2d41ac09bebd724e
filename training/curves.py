"""The curves of a training run, metrics.jsonl: one line a step, read back as columns while the run goes on.

A line is an object with `step` and numbers; what a step did not measure is not in its line.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"
Number = float | int | None


class Curves:
    """The writer's side. On opening, lines of steps after `step` are dropped: a resumed run does these again."""

    def __init__(self, folder: Path, *, after: int = 0) -> None:
        self._path = folder / METRICS
        self.last: Mapping[str, Number] = {}  # the last line that is kept
        if self._path.is_file():
            self.last = _keep_until(self._path, after)

    def add(self, step: int, numbers: Mapping[str, Number]) -> None:
        """Append a step's line. Numbers that are no numbers (None, NaN, infinite) are left out."""
        kept = {name: value for name, value in numbers.items() if value is not None and math.isfinite(value)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **kept}) + "\n")


def check_loss(step: int, logs: Mapping[str, float], rate: float) -> float:
    """The loss of what a trainer logged after a step. Raises ValueError where it, or its gradient's length, is no number."""
    loss = logs["loss"]
    if not (math.isfinite(loss) and math.isfinite(logs.get("grad_norm", 0.0))):
        raise ValueError(
            f"the loss of step {step:,} is {loss} (gradient {logs.get('grad_norm')}): expected a number. A lower "
            f"learning_rate than {rate:g} may help"
        )
    return loss


def columns(folder: Path) -> dict[str, list[Number]]:
    """What a run folder's metrics say so far: `step` and every other name, all of one length, None where not measured."""
    lines = list(_lines(folder / METRICS))
    names = dict.fromkeys(["step", *(name for line in lines for name in line)])
    return {name: [line.get(name) for line in lines] for name in names}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines only: the last one may be being written."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and "step" in found:
            yield found


def _keep_until(path: Path, step: int) -> Mapping[str, Number]:
    """Replace the file by one that ends with this step, in one move; returns its last line."""
    kept = [line for line in _lines(path) if line["step"] <= step]
    half = path.with_suffix(".part")
    half.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    os.replace(half, path)
    return kept[-1] if kept else {}
