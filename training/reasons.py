"""Why a training run cannot go on, in a sentence that says what to change: a full disk, a full memory."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from training.run import Cancelled, Run

_FULL_MEMORY = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")  # the last is a GPU library's word


@contextmanager
def plain_reasons(run: Run, smaller: str) -> Iterator[None]:
    """Turns a full disk and a full memory into sentences that say what can be done.

    `smaller` says what to make smaller: "less than 8 pairs at once (batch)".
    """
    try:
        yield
    except (Cancelled, ValueError):
        raise
    except Exception as error:
        if is_full_disk(error):
            _clear_halves(run)  # the room they took is needed to write down how the run ended
            free = shutil.disk_usage(run.folder).free / 1e9
            raise OSError(
                f"the disk with {run.folder} is full ({free:.1f} GB free): make room and resume the run, which goes on from "
                "its last checkpoint"
            ) from error
        if is_full_memory(error):
            where = "memory" if isinstance(error, MemoryError) or "alloc_cpu" in str(error) else "GPU's memory"
            raise MemoryError(f"the {where} is full: expected {smaller}") from error
        raise


def _clear_halves(run: Run) -> None:
    """Remove what was half written."""
    for half in run.folder.rglob("*.part"):
        if half.is_dir():
            shutil.rmtree(half, ignore_errors=True)
        else:
            half.unlink(missing_ok=True)


def is_full_disk(error: BaseException) -> bool:
    """Whether it is a disk without room that an error speaks of: each library that writes says it in its own way."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error) for words in ("No space left", "file write failed", "unexpected pos"))


def is_full_memory(error: BaseException) -> bool:
    """Whether it is a full memory, the GPU's or the machine's: PyTorch's allocator on a CPU raises a bare RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL_MEMORY)
