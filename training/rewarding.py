"""A reward model at hand inside another run: responses of a policy to scores, whatever its tokenizer and template are."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from training import beside, loading
from training.policy_settings import Named
from training.rewards.base import Conversation, Family, Message, Numbers, Scorer, Scores
from training.rewards.registry import family

_SUMMARY = "output/summary.json"  # of a run that trains a reward model


def family_of(named: Named) -> Family:
    """What the name means. Raises ValueError where the run that should have trained it has not, where its files have changed
    since it was registered, and for a model that only compares."""
    kind, settings = named.family, dict(named.settings)
    if named.run:
        kind, settings = _trained(named)
    found = family(kind, settings)
    if found.compares:
        raise ValueError(f"{named.name} only compares two responses: expected a reward model that gives a response a score")
    now = loading.fingerprint_of_all(found.sources()) if named.fingerprint else ""
    if now != named.fingerprint:
        raise ValueError(
            f"the files of {named.name!r} have changed since it was registered ({named.fingerprint}, now {now}): "
            "register them under another name"
        )
    return found


class Rewarder:
    """A loaded reward model that scores what a policy answers."""

    def __init__(self, named: Named, *, device: str = "auto") -> None:
        opened = family_of(named).load(device=device)
        assert isinstance(opened, Scorer)  # family_of refuses the others
        self.name, self._scorer = named.name, opened

    def scores(self, prompts: Sequence[Conversation], texts: Sequence[str]) -> Numbers:
        """The scores of these responses, (n,). Raises ValueError where one is no number."""
        return self.scored(prompts, texts).values

    def scored(self, prompts: Sequence[Conversation], texts: Sequence[str]) -> Scores:
        """The same, with how many texts were cut to the model's length and how many tokens were computed."""
        responses = [(Message("assistant", text),) for text in texts]
        found = self._scorer.score(prompts, responses) if texts else Scores(np.empty(0), 0, 0)
        lost = np.flatnonzero(~np.isfinite(found.values))
        if len(lost):
            raise ValueError(
                f"{self.name} gave {found.values[lost[0]]} for {texts[lost[0]][:60]!r}: expected a number. Weights that "
                "overflow in bfloat16 often do not in float32 (dtype=float32)"
            )
        return found

    @property
    def scorer(self) -> Scorer:
        """The loaded model itself."""
        return self._scorer


@contextmanager
def opened(named: Named, *, device: str = "auto") -> Iterator[Rewarder]:
    """A reward model for as long as a `with` lasts; its memory is given back afterwards."""
    rewarder = Rewarder(named, device=device)
    try:
        yield rewarder
    finally:
        del rewarder
        emptied()


def emptied() -> None:
    """Give back the memory of models that nobody holds any more."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _trained(named: Named) -> tuple[str, dict[str, Any]]:
    """Family and settings of a reward model that a run trained, its folders named in full."""
    folder = Path(named.run)
    try:
        summary = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"reward model {named.name!r} is not there: run {folder.name}, which trains it, is not done") from None
    settings = {
        name: str(folder / value) if isinstance(value, str) and value and (folder / value).is_dir() else value
        for name, value in summary["settings"].items()
    }
    return str(summary["family"]), beside.resolved(settings, folder.parent)  # an ensemble's members lie in other runs
