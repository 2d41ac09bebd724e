"""Filter: labels that models who never saw them vote against."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curation.filters.base import Flag, Numbers, Read, ReadingFilter, several
from curation.pairs import Pair
from curation.readings import Reader
from training.embeddings import PACKAGED, Embedder, asked
from training.rewards.sentence_features import side

SCORES = "scores.parquet"  # in a run's input: pair_id, reward_model, chosen, rejected
FEWEST = 60  # pairs of a subset from which a committee can learn anything
_REGULAR = 1.0  # inverse strength of the heads' L2 penalty


class Contested(ReadingFilter):
    """Labels that models vote against: the scores of two or more reward models where they are given, else a built-in
    committee of small Bradley-Terry heads on sentence embeddings, each pair judged only by heads that were not trained
    on it. Every subset is judged by itself: the labels of harmless and helpful data pull apart. A committee is right
    more often than a coin, not much more: a flag asks for a second look."""

    name = "contested"

    threshold: float = Field(0.75, ge=0, le=1, description="the score from which a finding is a flag: 0.75 is odds of 3 to 1")
    blocks: int = Field(6, ge=4, le=10, description="parts a subset is cut into; each half of them trains one head")
    scores: str = Field(
        "",
        description="reward models' scores: models:NAME,NAME or models:all of this workspace, or a file with pair_id, "
        "reward_model, chosen, rejected",
    )
    model: str = Field(PACKAGED, min_length=1, description="the embeddings: minilm, a folder, or a sentence-transformers id")

    def reader(self) -> Reader | None:
        return None if self.scores else Embedder(self.model)

    def texts(self, pair: Pair) -> Sequence[str]:
        return () if self.scores else (asked(pair.prompt), pair.chosen.text, pair.rejected.text)

    def judged(self, pairs: Iterable[Pair], read: Read, given: Path | None = None) -> Iterator[Flag]:
        if self.scores:
            if given is None or not (given / SCORES).is_file():
                raise ValueError(f"the scores of {self.scores!r} did not come with the run")
            yield from self._by_reward_models(pairs, given / SCORES)
        else:
            yield from self._by_committee(pairs, read)

    def remark(self, found: int, total: int) -> str:
        """How many pairs could be judged, where not all could."""
        if found == total:
            return ""
        why = "too few have two reward models' scores" if self.scores else f"a subset wants {FEWEST} for a committee"
        return f"{found:,} of {total:,} pairs judged: {why}"

    def _by_committee(self, pairs: Iterable[Pair], read: Read) -> Iterator[Flag]:
        ids, subsets, blocks, features = [], [], [], []
        for some in several(pairs):
            features.append(_features(some, read))
            ids += [pair.pair_id for pair in some]
            subsets += [pair.subset for pair in some]
            blocks += [_block(pair, self.blocks) for pair in some]
        if not ids:
            return
        all_features, places = np.concatenate(features), defaultdict(list)
        for place, subset in enumerate(subsets):
            places[subset].append(place)
        for subset, here in places.items():
            if len(here) < FEWEST:
                continue
            margins = _margins(all_features[here], np.array(blocks)[here], self.blocks)
            for place, votes in zip(here, margins, strict=True):
                strength = _strength(votes[~np.isnan(votes)])
                if strength is not None:
                    yield self._finding(ids[place], subset, strength, "heads that never saw it")

    def _by_reward_models(self, pairs: Iterable[Pair], file: Path) -> Iterator[Flag]:
        """Each reward model's margins are measured in their own standard deviation within the subset."""
        import pyarrow.parquet as pq

        margins: dict[str, dict[str, float]] = defaultdict(dict)
        for row in pq.read_table(file).to_pylist():
            margins[row["pair_id"]][row["reward_model"]] = row["chosen"] - row["rejected"]
        subsets: dict[str, list[str]] = defaultdict(list)
        for pair in pairs:
            if len(margins.get(pair.pair_id, {})) >= 2:
                subsets[pair.subset].append(pair.pair_id)
        for subset, ids in subsets.items():
            models = sorted({model for pair_id in ids for model in margins[pair_id]})
            table = np.array([[margins[pair_id].get(model, np.nan) for model in models] for pair_id in ids])
            spread = np.nanstd(table, axis=0)
            table = table / np.where(spread > 0, spread, 1.0)
            for pair_id, votes in zip(ids, table, strict=True):
                strength = _strength(votes[~np.isnan(votes)])
                if strength is not None:
                    yield self._finding(pair_id, subset, strength, "reward models")

    def _finding(self, pair_id: str, subset: str, strength: "Strength", who: str) -> Flag:
        detail = json.dumps({"subset": subset, **strength.rounded()})
        reason = (
            f"{strength.against} of {strength.votes} {who} prefer the rejected side "
            f"(preference strength {strength.mean:+.2f}, sd {strength.sd:.2f})"
        )
        return Flag(pair_id, self.name, "pair", 1 / (1 + math.exp(min(50.0, strength.mean))), reason, detail)


class Strength(NamedTuple):
    """Preference strength of a pair, as in arXiv 2401.06080: mean and standard deviation of score(chosen) -
    score(rejected) over models, and how many of their votes go against the label. A tie is half a vote against."""

    mean: float
    sd: float
    against: float
    votes: int

    def rounded(self) -> dict[str, Any]:
        return {"mean": round(self.mean, 4), "sd": round(self.sd, 4), "against": self.against, "votes": self.votes}


def _strength(margins: NDArray[Any]) -> Strength | None:
    """None where fewer than two models judged the pair."""
    if len(margins) < 2:
        return None
    against = float(np.sum(margins < 0) + np.sum(margins == 0) / 2)
    return Strength(
        float(margins.mean()), float(margins.std(ddof=1)), int(against) if against == int(against) else against, len(margins)
    )


def _block(pair: Pair, blocks: int) -> int:
    """The part a pair belongs to. Pairs of one conversation share their first turn, and so their part."""
    first = next((one.content for one in pair.prompt if one.role == "user"), pair.pair_id)
    return crc32(first.encode("utf-8", "surrogatepass")) % blocks


def _features(pairs: Sequence[Pair], read: Read) -> Numbers:
    """What distinguishes chosen from rejected, (pairs, dimensions): embeddings and what can be counted, as differences."""
    prompts = read([asked(pair.prompt) for pair in pairs])
    chosen, rejected = [pair.chosen.text for pair in pairs], [pair.rejected.text for pair in pairs]
    return side(chosen, prompts, read(chosen)) - side(rejected, prompts, read(rejected))


def _margins(features: Numbers, blocks: NDArray[Any], count: int) -> Numbers:
    """Log odds that each head gives each label, (pairs, heads); nan where the head was trained on the pair.

    A head is a Bradley-Terry model, P(chosen wins) = sigma(w . (f(chosen) - f(rejected))), trained on one choice of half
    the blocks: with 6 blocks there are 20 heads, and 10 of them judge each pair.
    """
    from sklearn.linear_model import LogisticRegression

    margins = np.full((len(features), math.comb(count, count // 2)), np.nan, np.float32)
    for head, half in enumerate(combinations(range(count), count // 2)):
        seen = np.isin(blocks, half)
        if seen.sum() < FEWEST // 3 or seen.all():
            continue
        signs = np.where(np.arange(seen.sum()) % 2, 1.0, -1.0).astype(np.float32)  # half are turned round: two classes
        model = LogisticRegression(C=_REGULAR, fit_intercept=False, max_iter=300, tol=1e-3)
        model.fit(features[seen] * signs[:, None], signs)
        margins[~seen, head] = features[~seen] @ model.coef_[0].astype(np.float32)
    return margins
