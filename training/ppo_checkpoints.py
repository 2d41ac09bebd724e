"""Checkpoints of a policy that learns by PPO: whole folders, of which the last two are kept.

checkpoints/checkpoint-N/state.pt      after step N: weights, value head, optimiser, KL control, scale of scores, counts
checkpoints/checkpoint-N/random-R.pt   the random states of process R
"""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.processes import Processes

_STATE = "state.pt"
_KEPT = 2


def save(folder: Path, step: int, state: dict[str, Any], share: Processes) -> None:
    """Keep what goes on from after this step. Every process calls it; the folder appears whole or not at all."""
    whole = folder / f"checkpoint-{step}"
    half = whole.with_suffix(".part")
    if share.first:
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        _write(half / _STATE, state)
    share.wait()
    _write(half / f"random-{share.rank}.pt", _random())
    share.wait()
    if share.first:
        shutil.rmtree(whole, ignore_errors=True)
        os.replace(half, whole)
        for old in sorted(folder.glob("checkpoint-*"), key=_step)[:-_KEPT]:
            shutil.rmtree(old)
    share.wait()


def last(folder: Path) -> Path | None:
    """The latest checkpoint; half-written ones are none."""
    return max((one for one in folder.glob("checkpoint-*") if one.suffix != ".part"), key=_step, default=None)


def load(checkpoint: Path, share: Processes) -> dict[str, Any]:
    """The state that was kept, on the CPU: on a GPU it would stand beside what it is copied into; the random states become
    this process's."""
    found: dict[str, Any] = torch.load(checkpoint / _STATE, map_location="cpu", weights_only=True)
    beside = checkpoint / f"random-{share.rank}.pt"
    if beside.exists():  # it may go on with more processes than before
        _set_random(torch.load(beside, weights_only=True))
    return found


def _write(path: Path, what: dict[str, Any]) -> None:
    with path.open("wb") as file:
        torch.save(what, file)
        file.flush()
        os.fsync(file.fileno())


def _random() -> dict[str, Any]:
    name, numbers, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, torch.from_numpy(np.array(numbers, np.int64)), *rest),
        "python": random.getstate(),
    }


def _set_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, numbers, *rest = state["numpy"]
    np.random.set_state((name, numbers.numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removesuffix(".part").rpartition("-")[2])
