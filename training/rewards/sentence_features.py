"""What is seen of a response by a head on sentence embeddings: its meaning, its nearness to the prompt, what can be counted.

Every number is about as large as the difference of two embeddings along one dimension: one penalty suits all.
"""

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]

_WORD = re.compile(r"\w+")
_SORRY = re.compile(r"(?i)\b(?:can['’]?t|won['’]?t|cannot|unable|sorry|afraid)\b")
_WARNING = re.compile(r"(?i)\b(?:shouldn['’]?t|illegal|wrong|dangerous|harm\w*)\b")
_UNSURE = re.compile(r"(?i)\b(?:maybe|perhaps|might|could|probably|i think|i['’]m not sure|i don['’]t know)\b")
_ASKS_BACK = re.compile(
    r"(?i)\b(?:do you mean|could you|can you (?:tell|give|explain)|what do you mean|i don['’]t understand)\b"
)
_ITEM = re.compile(r"(?m)^\s*(?:[-*•]|\d+[.)])")
_SENTENCE = re.compile(r"[.!?]+(?:\s|$)")
_ME, _YOU = frozenset({"i", "me", "my"}), frozenset({"you", "your"})
_COMMON = frozenset(
    _WORD.findall(
        "the a an to of and or in is it that you i for on with be are as this have do not what how can my your me if but so at"
    )
)


def side(texts: Sequence[str], prompts: Features, vectors: Features) -> Features:
    """Embeddings, nearness to the prompt and seven counted things of responses, (n, dimensions + 8).

    `prompts` and `vectors` are the embeddings of what was asked and of the responses, unit vectors (n, dimensions).
    """
    near = np.sum(prompts * vectors, axis=1, keepdims=True)
    return np.concatenate([vectors, 4 * near, np.array([counted(text) for text in texts], np.float32)], axis=1)


def counted(text: str) -> list[float]:
    """Length, lines, how many words are new, and four signs."""
    words = _WORD.findall(text.lower())
    return [
        math.log1p(len(words)), math.log1p(text.count("\n")), 4 * len(set(words)) / max(1, len(words)),
        float("?" in text), float("!" in text), float(any(map(str.isdigit, text))), float(bool(_SORRY.search(text))),
    ]  # fmt: skip


def manner(asked: str, text: str) -> list[float]:
    """How a response is put: its size, sentences and lists, questions and doubts, whom it speaks of, what it takes up of the
    words that were asked."""
    words = _WORD.findall(text.lower())
    sentences = max(1, len(_SENTENCE.findall(text)))
    return [
        math.log1p(len(text)), math.log1p(len(text)) ** 2 / 10, math.log1p(sentences), min(3.0, len(words) / sentences / 10),
        4 * text.count(",") / max(1, len(words)), sum(map(len, words)) / max(1, len(words)) / 2,
        math.log1p(len(_ITEM.findall(text))), 4 * text.count('"') / max(1, len(words)),
        float(text.rstrip().endswith("?")), math.log1p(text.count("?")), float(bool(_ASKS_BACK.search(text))),
        math.log1p(len(_SORRY.findall(text)) + len(_WARNING.findall(text))), math.log1p(len(_UNSURE.findall(text))),
        5 * _share(words, _ME), 5 * _share(words, _YOU), math.log1p(sum(map(str.isdigit, words))), *_taken_up(asked, words),
    ]  # fmt: skip


def _share(words: Sequence[str], of: frozenset[str]) -> float:
    return sum(word in of for word in words) / max(1, len(words))


def _taken_up(asked: str, words: Sequence[str]) -> list[float]:
    """Twice the share of what was asked that the response speaks of, and of the response that speaks of it."""
    theirs = {word for word in _WORD.findall(asked.lower()) if word not in _COMMON}
    ours = [word for word in words if word not in _COMMON]
    return [2 * len(theirs & set(ours)) / max(1, len(theirs)), 2 * sum(word in theirs for word in ours) / max(1, len(ours))]
