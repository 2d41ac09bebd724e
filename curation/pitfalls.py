"""Pitfalls of reward models: how often each prefers a spoilt response to the original, by probe.

The originals are the chosen responses of a dataset's pairs. A probing is an ordinary scoring run: spoilt responses are scored
and stored by their content, and made again from the same recipe when the result is read.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from curation import benchmark, probing, scoring
from curation.pairs import Pair
from curation.probes import PROBES, Spoilt
from curation.stats.accuracy import Numbers
from curation.stats.pitfalls import Pitfall, share_preferred
from curation.workspace import Workspace


class Example(NamedTuple):
    """An original and what a probe made of it, with how much higher the spoilt one scores."""

    pair: Pair
    spoilt: Spoilt
    higher: float


@dataclass(frozen=True)
class Probed:
    """One reward model's probing: the pairs, what each probe made of them, and the scores; NaN where there is none."""

    reward_model: str
    what: str
    pairs: tuple[Pair, ...]
    spoilt: dict[str, tuple[Spoilt | None, ...]]  # by probe, of each pair
    original: Numbers  # (pairs,); 0 for a model that compares
    scores: dict[str, Numbers]  # by probe, (pairs,); for a model that compares the log odds of the spoilt one
    phrases: tuple[str, ...]  # its favourites
    no_phrases: str = ""  # why there are none, where there are none

    def pitfalls(self) -> dict[str, Pitfall]:
        """By probe, how often the spoilt response scores higher."""
        prompts = np.unique([one.prompt_id for one in self.pairs], return_inverse=True)[1].astype(np.int64)
        found = {name: share_preferred(self.original, self.scores[name], benchmark.rng(), groups=prompts) for name in PROBES}
        if self.no_phrases:
            share = found["favourite"].share._replace(undefined=self.no_phrases)
            found["favourite"] = found["favourite"]._replace(share=share)
        return found

    def examples(self, probe: str, *, limit: int = 20) -> list[Example]:
        """The pairs whose spoilt response is preferred most, the worst first."""
        higher = self.scores[probe] - self.original
        order = np.argsort(-np.nan_to_num(higher, nan=-np.inf), kind="stable")[:limit]
        found = []
        for place in order.tolist():
            spoilt = self.spoilt[probe][place]
            if spoilt is not None and np.isfinite(higher[place]):
                found.append(Example(self.pairs[place], spoilt, float(higher[place])))
        return found


def probed(workspace: Workspace, dataset: str, reward_model: str) -> Probed | None:
    """The largest probing of a dataset's pairs by this reward model; None where there is none."""
    return benchmark.kept(workspace, ("probed", dataset, reward_model), lambda: _probed(workspace, dataset, reward_model))


def _probed(workspace: Workspace, dataset: str, reward_model: str) -> Probed | None:
    told = largest(workspace, dataset, reward_model)
    if told is None:
        return None
    wanted = scoring.Wanted.model_validate({name: told[name] for name in scoring.Wanted.model_fields if name in told})
    pairs, phrases = scoring.labelled_pairs(workspace, wanted), tuple(told.get("phrases", ()))
    made = list(probing.spoilt_of(pairs, phrases))
    spoilt = {name: tuple(one[name] for one in made) for name in PROBES}
    if workspace.scores.model(reward_model).compares:
        preferences = workspace.scores.preferences(reward_model)
        scores = {
            name: np.array([_odds(preferences, *both) for both in zip(pairs, spoilt[name], strict=True)]) for name in PROBES
        }
        original = np.zeros(len(pairs))
    else:
        known = workspace.scores.scores(reward_model)
        scores = {
            name: np.array([known.get(one.response_id, np.nan) if one else np.nan for one in spoilt[name]]) for name in PROBES
        }
        original = np.array([known.get(pair.chosen_id, np.nan) for pair in pairs])
    why = _why_none(workspace.scores.model(reward_model).compares, told.get("learnt_on", 0)) if not phrases else ""
    return Probed(reward_model, str(told["in words"]), tuple(pairs), spoilt, original, scores, phrases, why)


def _why_none(compares: bool, learnt_on: int) -> str:
    if compares:
        return "a model that compares gives no scores to learn phrases from"
    return "no phrase stands out in its scores" if learnt_on else "it had not scored these responses when it was probed"


def largest(workspace: Workspace, dataset: str, reward_model: str) -> dict[str, Any] | None:
    """What the largest probing of a dataset by this reward model was told, of equally large ones the latest."""
    told = [json.loads(one.what) for one in workspace.scores.runs() if one.reward_model == reward_model]
    found = [one for one in told if one.get("probes") and one.get("dataset") == dataset]
    return max(reversed(found), key=lambda one: one.get("count") or math.inf, default=None)


def _odds(preferences: dict[tuple[str, str], float], pair: Pair, spoilt: Spoilt | None) -> float:
    """Log odds that the spoilt response is the better one."""
    if spoilt is None:
        return float("nan")
    one, other = pair.chosen_id, spoilt.response_id
    found = preferences.get((min(one, other), max(one, other)))
    if found is None:
        return float("nan")
    better = np.clip(found if other < one else 1 - found, 1e-12, 1 - 1e-12)
    return float(np.log(better / (1 - better)))
