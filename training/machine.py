"""The machine a run will be on: its GPUs, speed and memory. Imports no torch: a GPU is asked in a process of its own."""

import json
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

_TRIES = 20  # at least, of which the best counts: others may be at work here
_GPU_SIGNS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # the drivers of NVIDIA's and AMD's cards, and of Windows' Linux


class Machine(NamedTuple):
    """What a job runs on: floating-point operations a second (bfloat16 on a GPU, float32 on a CPU), bytes a second, bytes."""

    kind: str  # cpu or gpu
    name: str
    cards: int  # GPUs, or 1
    speed: float
    bandwidth: float
    memory: int


class Gpu(NamedTuple):
    """A GPU: its name here, as CUDA_VISIBLE_DEVICES names it, and its UUID, the same in every process of the machine.

    A name tells a card by its place among those that its process may use; where no UUID can be had, the name stands for it.
    """

    name: str
    uuid: str


@cache
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that PyTorch sees here."""
    if not any(map(os.path.exists, _GPU_SIGNS)):
        return ()
    found = _asked(_CARDS)
    count, uuids = found if isinstance(found, list) else (0, [])
    named = [one.strip() for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
    names = named[:count] or [str(number) for number in range(count)]
    return tuple(map(Gpu, names, uuids if len(set(uuids)) == len(names) else names))


_CARDS = """
import json, torch
count, uuids = torch.cuda.device_count(), []
try:
    uuids = [str(torch.cuda.get_device_properties(number).uuid) for number in range(count)]
except Exception:
    pass
print(json.dumps([count, uuids]))
"""


def see_one_gpu(number: str = "") -> None:
    """Leave this process one GPU, the one of this number among those it sees or the first: trainers refuse several that no
    launcher shares out. To be called before PyTorch has asked for any."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = [one.strip() for one in (seen or "").split(",") if one.strip()]
    if seen is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = number or "0"
    elif named:
        if int(number or 0) >= len(named):
            raise ValueError(
                f"device is cuda:{number}, and CUDA_VISIBLE_DEVICES is {seen!r}: expected one of these by its place"
            )
        os.environ["CUDA_VISIBLE_DEVICES"] = named[int(number or 0)]


@cache
def machine(device: str = "auto") -> Machine:
    """This machine, or one of its GPUs, measured in half a second; a GPU takes as long as PyTorch takes to start."""
    if device != "cpu" and gpus():
        found = _asked(_MEASURE)
        if isinstance(found, dict):
            return Machine("gpu", found["name"], len(gpus()), found["speed"], found["bandwidth"], found["memory"])
    return Machine("cpu", f"{os.cpu_count() or 1} CPU cores", 1, *_cpu(), _memory())


_MEASURE = """
import json, time, torch
def best(work, times=5):
    took = []
    for _ in range(times):
        torch.cuda.synchronize(); began = time.perf_counter(); work(); torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return min(took)
x = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
y = torch.empty(2**27, device="cuda", dtype=torch.uint8)
found = {"name": torch.cuda.get_device_name(), "speed": 2 * 4096**3 / best(lambda: x @ x),
         "bandwidth": 2 * 2**27 / best(lambda: y.clone()), "memory": torch.cuda.mem_get_info()[0]}
print(json.dumps(found))
"""


def _asked(code: str) -> Any:
    """The JSON a Python process prints last; None where it fails."""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError, subprocess.TimeoutExpired):
        return None


def _cpu() -> tuple[float, float]:
    """Operations and bytes a second of the CPU, the best of some tries within 0.2 s each."""
    x, y, z = np.ones((384, 384), np.float32), np.ones(2**23, np.float32), np.ones(2**23, np.float32)
    return 2 * 384**3 / _best(lambda: x @ x), 2 * y.nbytes / _best(lambda: np.copyto(z, y))


def _best(work: Any) -> float:
    """The shortest time the work took."""
    took: list[float] = []
    until = time.perf_counter() + 0.2
    while len(took) < _TRIES or time.perf_counter() < until:
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def _memory() -> int:
    """Bytes of memory that are free, or that this container may have."""
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    free = psutil.virtual_memory().available
    return min(free, int(allowed)) if allowed.isdigit() else free
