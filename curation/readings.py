"""What models make of texts, a row of numbers for each: every text is read once, and kept on disk by content and model.

    FOLDER/<model>/model.json  *.npz  some texts each: `keys` (n, 16) digests of the texts, `rows` (n, width) float16

A file appears whole or not at all, so a reading that was stopped goes on where it was. The folder may be deleted.
"""

import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

Tell = Callable[[int, int], None]  # characters read, characters to read

_DIGEST = 16
_CHARACTERS, _TEXTS = 1 << 16, 2048  # what one file holds at most


class Reader(Protocol):
    """A model that gives each text a row of numbers."""

    @property
    def key(self) -> str:
        """Names the model and whatever else its numbers depend on: they are kept under this name."""

    @property
    def described(self) -> str:
        """The model, in words for people."""

    @property
    def cost(self) -> float:
        """Milliseconds a thousand characters take, roughly: from it the time a run needs is told."""

    def read(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row for each text, in their order."""


class Readings:
    """The rows of the texts that were asked for. Without a folder nothing is kept beyond this object's life."""

    def __init__(self, reader: Reader, folder: Path | None = None) -> None:
        self.reader = reader
        self._folder = None if folder is None else folder / blake2b(reader.key.encode(), digest_size=8).hexdigest()
        self._places: dict[bytes, int] = {}  # digest to row
        self._rows: NDArray[np.float16] = np.empty((0, 0), np.float16)

    def missing(self, texts: Iterable[str]) -> dict[bytes, str]:
        """Texts by their digest that were never read, each once; what is on disk of the others is at hand afterwards."""
        wanted = {_digest(text): text for text in texts}
        self._load({digest for digest in wanted if digest not in self._places})
        return {digest: text for digest, text in wanted.items() if digest not in self._places}

    def fill(self, texts: Iterable[str], tell: Tell = lambda done, total: None) -> None:
        """Read what was never read, the longest first; afterwards all these texts are at hand."""
        missing = self.missing(texts)
        order = sorted(missing, key=lambda digest: (-len(missing[digest]), digest))
        done, total = 0, sum(map(len, missing.values()))
        for part in _parts(order, missing):
            tell(done, total)
            some = [missing[digest] for digest in part]
            rows = np.asarray(self.reader.read(some), np.float16)
            if rows.shape[:1] != (len(some),) or not np.isfinite(rows).all():
                raise ValueError(f"{self.reader.described} gave numbers that cannot be used for {len(some)} texts")
            self._keep(part, rows)
            done += sum(map(len, some))
        tell(total, total)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The rows of texts that were filled in before. Raises KeyError for any other."""
        return self._rows[[self._places[_digest(text)] for text in texts]].astype(np.float32)

    def _keep(self, digests: Sequence[bytes], rows: NDArray[np.float16]) -> None:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            about = self._folder / "model.json"
            if not about.exists():
                about.write_text(json.dumps({"key": self.reader.key, "described": self.reader.described}))
            half = self._folder / f"{uuid4().hex}.part"
            try:
                with half.open("wb") as file:
                    keys = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, _DIGEST)
                    np.savez(file, keys=keys, rows=rows)
                os.replace(half, half.with_suffix(".npz"))
            finally:
                half.unlink(missing_ok=True)
        self._add([(digests, rows)])

    def _load(self, wanted: set[bytes]) -> None:
        """Bring in what the disk has of these digests."""
        if self._folder is None or not wanted:
            return
        found = []
        for file in sorted(self._folder.glob("*.npz")):
            try:
                with np.load(file) as kept:
                    raw, rows = kept["keys"].tobytes(), kept["rows"]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                file.unlink(missing_ok=True)  # half of a file, after a power cut: those texts are read again
                continue
            digests = [raw[start : start + _DIGEST] for start in range(0, len(raw), _DIGEST)]
            here = [place for place, digest in enumerate(digests) if digest in wanted]
            if here:
                found.append(([digests[place] for place in here], rows[here]))
                wanted.difference_update(found[-1][0])
        self._add(found)

    def _add(self, found: Sequence[tuple[Sequence[bytes], NDArray[np.float16]]]) -> None:
        if not found:
            return
        start, have = len(self._places), self._rows
        for digests, _ in found:
            self._places.update({digest: start + number for number, digest in enumerate(digests)})
            start += len(digests)
        rows = [rows for _, rows in found]
        if start > len(have):  # grown by half at a time, so that adding part after part stays linear
            grown = np.empty((max(start, 3 * len(have) // 2), rows[0].shape[1]), np.float16)
            if len(have):
                grown[: len(have)] = have
            self._rows = grown
        at = start - sum(map(len, rows))
        for one in rows:
            self._rows[at : at + len(one)] = one
            at += len(one)


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()


def _parts(order: Sequence[bytes], texts: dict[bytes, str]) -> Iterator[list[bytes]]:
    """Runs of digests of which each makes one file."""
    part: list[bytes] = []
    held = 0
    for digest in order:
        if part and (held + len(texts[digest]) > _CHARACTERS or len(part) == _TEXTS):
            yield part
            part, held = [], 0
        part.append(digest)
        held += len(texts[digest])
    if part:
        yield part
