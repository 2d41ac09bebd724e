"""Leases of a machine's GPUs: of all grids of one user, one at a time has a card, as long as a job of its runs there.

A lease is a lock on a file in the machine's temporary folder, as grids of different workspaces share the cards too. The grid
locks it, the job's process inherits the locked file, the grid closes its own. So the system ends the lease with the job's
process, however that ends, and not before: a job that outlives a killed grid keeps its card. Linux and macOS have such locks.
"""

import fcntl
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Taken(Exception):
    """Somebody else has the card. The text is what they gave as their name, or empty where that is not known."""


class Lease(NamedTuple):
    """Open files that are locked: they stay so until each process that has them is over or has closed them."""

    files: tuple[int, ...] = ()

    def close(self) -> None:
        """Let go of it here; who inherited it keeps it."""
        for one in self.files:
            os.close(one)


def machines_folder() -> Path:
    """Where the leases of this machine and user are."""
    return Path(tempfile.gettempdir()) / f"elephant-room-{os.getuid()}"


def take(folder: Path, card: str, who: str, *, sharing: int = 1) -> Lease:
    """The lease of a card, for one of so many jobs that may share it; with 1 nobody else has it.

    Raises Taken where others have it, OSError where the folder or its locks cannot be used.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():  # the name can be guessed: anybody may have made it
        raise OSError(f"{folder} is not a folder of this user")
    name = re.sub(r"[^\w-]", "-", card)
    if sharing == 1:
        return Lease((_locked(folder / f"gpu-{name}", fcntl.LOCK_EX, who),))
    among = _locked(folder / f"gpu-{name}", fcntl.LOCK_SH, "")  # it keeps out those who want the card for themselves
    try:
        return Lease((among, _one_of(sharing, folder / f"gpu-{name}", who)))
    except BaseException:
        os.close(among)
        raise


def _one_of(count: int, file: Path, who: str) -> int:
    """One of so many places on a card."""
    for number in range(1, count):
        with suppress(Taken):
            return _locked(file.with_name(f"{file.name}.{number}"), fcntl.LOCK_EX, who)
    return _locked(file.with_name(f"{file.name}.{count}"), fcntl.LOCK_EX, who)


def _locked(file: Path, how: int, who: str) -> int:
    """A file, opened, locked and with a name in it. Raises Taken, with the name that is in it, where others have it."""
    opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(opened, how | fcntl.LOCK_NB)
        if not file.exists() or not os.path.samestat(os.fstat(opened), file.stat()):
            raise Taken  # what clears old files away took it in between: the next look makes a new one
        with suppress(OSError):  # on a full disk it is locked without a name
            os.ftruncate(opened, 0)
            os.pwrite(opened, who.encode(), 0)
    except BlockingIOError:
        name = os.pread(opened, 1000, 0).decode(errors="replace")
        os.close(opened)
        raise Taken(name) from None
    except BaseException:
        os.close(opened)
        raise
    return opened
