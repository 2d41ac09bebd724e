"""What a GGUF file says at its beginning: numbers and texts by key, and how many weights it holds.

The package gguf, which opens the weights themselves, takes seconds for it: it keeps each of 49,152 words by itself.
"""

from math import prod
from pathlib import Path
from struct import calcsize, unpack
from struct import error as StructError
from typing import IO, Any

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # by their code
_TEXT, _LIST = 8, 9


def header(path: Path) -> tuple[dict[str, Any], int]:
    """Keys with their values (of a list, its length) and the number of weights. Raises ValueError for another kind of file."""
    try:
        with path.open("rb") as file:
            magic, version, tensors, keys = unpack("<4sIQQ", file.read(24))
            if magic == b"GGUF" and version in (2, 3):
                found = {_text(file): _value(file, _number(file, "I")) for _ in range(keys)}
                return found, sum(_weights(file) for _ in range(tensors))
    except (StructError, KeyError) as broken:
        raise ValueError(f"{str(path)!r} ends, or goes wrong, before its weights begin") from broken
    raise ValueError(f"{str(path)!r} is no GGUF file of version 2 or 3")


def _number(file: IO[bytes], kind: str) -> Any:
    return unpack(f"<{kind}", file.read(calcsize(kind)))[0]


def _text(file: IO[bytes]) -> str:
    return file.read(_number(file, "Q")).decode("utf-8", "replace")


def _value(file: IO[bytes], code: int) -> Any:
    if code == _TEXT:
        return _text(file)
    if code != _LIST:
        return _number(file, _NUMBERS[code])
    inside, count = unpack("<IQ", file.read(12))
    if inside in _NUMBERS:
        file.seek(count * calcsize(_NUMBERS[inside]), 1)
    else:
        for _ in range(count):
            _value(file, inside)
    return count


def _weights(file: IO[bytes]) -> int:
    """The size of one tensor; its name, type and place are passed over."""
    _text(file)
    shape = [_number(file, "Q") for _ in range(_number(file, "I"))]
    file.seek(12, 1)
    return prod(shape)
