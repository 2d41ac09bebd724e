"""Several processes, a GPU each, that train one model: each computes a share, sums go over all of them.

One process alone needs none of this and is the same code.
"""

import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import ProcessException, spawn

from training.run import Cancelled

_PATIENCE = timedelta(hours=12)  # the others wait while one looks at held-out prompts


class Processes:
    """The processes at work together, as one of them sees them."""

    def __init__(self, state: Any = None) -> None:
        """`state` is accelerate's; without one this process is alone."""
        self._state = state
        self.count: int = state.num_processes if state is not None else 1
        self.rank: int = state.process_index if state is not None else 0
        self.device: str = str(state.device) if state is not None else "auto"

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of this tensor over all processes."""
        if self._state is None:
            return value
        from accelerate.utils import reduce

        summed: torch.Tensor = reduce(value, "sum")
        return summed

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        if self._state is None:
            return flag
        return bool(self.total(torch.tensor(float(flag), device=self.device)))

    def gathered(self, values: list[float]) -> list[float]:
        """The lists of all processes, one after the other."""
        if self._state is None:
            return values
        from accelerate.utils import gather_object

        found: list[float] = gather_object(values)
        return found

    def wait(self) -> None:
        """Go on when all have come here."""
        if self._state is not None:
            self._state.wait_for_everyone()


ALONE = Processes()
Job = Callable[[Path, Processes], None]


def together(job: Job, folder: Path, count: int, *, on_gpu: bool = True) -> None:
    """Do a job in so many processes at once, each with a GPU of its own (or none).

    Raises what the first to fail raised, where it is a ValueError, OSError or MemoryError, with its sentence.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    context = torch.multiprocessing.get_context("spawn")
    reasons = context.SimpleQueue()
    arguments = (job, folder, told, on_gpu, reasons)
    started = spawn(_one, args=arguments, nprocs=count, join=False)  # type: ignore[no-untyped-call]
    try:
        while not started.join():
            pass
    except ProcessException:
        if not reasons.empty():
            raise reasons.get() from None
        raise


def _one(rank: int, job: Job, folder: Path, told: dict[str, str], on_gpu: bool, reasons: Any) -> None:
    """The body of a process."""
    from accelerate import PartialState

    os.environ.update(told, RANK=str(rank), LOCAL_RANK=str(rank))
    state = PartialState(cpu=not on_gpu, timeout=_PATIENCE)
    try:
        job(folder, Processes(state))
    except (ValueError, OSError, MemoryError, Cancelled) as error:
        reasons.put(type(error)(*error.args))
        raise
    finally:
        state.destroy_process_group()
