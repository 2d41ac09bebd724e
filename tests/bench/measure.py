"""Measuring: a child process's time and peak memory, quantiles, and a table."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import quantiles
from typing import NamedTuple


class Cost(NamedTuple):
    """What a child process took: seconds by the clock, CPU seconds, peak memory in MB."""

    seconds: float
    cpu: float
    peak: float


def child(*arguments: str) -> Cost:
    """Run this Python with these arguments and account for it as the system does."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def p50_p95(values: Sequence[float]) -> tuple[float, float]:
    """The median and the 95th percentile."""
    cuts = quantiles(values, n=20, method="inclusive")
    return cuts[9], cuts[18]


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n")  # noqa: T201
    for line in [headings, ["---"] * len(headings), *rows]:
        print("| " + " | ".join(str(cell) for cell in line) + " |", flush=True)  # noqa: T201
