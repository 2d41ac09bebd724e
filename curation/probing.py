"""What a probing is made of: a model's favourite phrases, and what each probe makes of each pair's chosen response."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from curation import favourites, probes
from curation.pairs import Pair
from curation.probes import PROBES, Spoilt
from curation.workspace import Workspace


class Recipe(NamedTuple):
    """What is needed to make a probing again: the model's favourite phrases; and on how many responses they were learnt."""

    phrases: tuple[str, ...] = ()
    learnt_on: int = 0


def recipe(workspace: Workspace, reward_model: str, pairs: Sequence[Pair]) -> Recipe:
    """The model's favourite phrases: learnt on its scores of half the prompts, to be tried on the other half.

    None of them where it has not scored these pairs, or compares: then there is nothing to learn from.
    """
    scores = workspace.scores.scores(reward_model)
    scored = [
        (side.text, scores[response_id])
        for pair in pairs
        if favourites.halves(pair.prompt_id) == 0
        for response_id, side in ((pair.chosen_id, pair.chosen), (pair.rejected_id, pair.rejected))
        if response_id in scores
    ]
    return Recipe(tuple(one.phrase for one in favourites.favourites(scored)), len(scored)) if scored else Recipe()


def spoilt_of(pairs: Sequence[Pair], phrases: Sequence[str]) -> Iterator[dict[str, Spoilt | None]]:
    """What each probe makes of each pair's chosen response. Favourite phrases are tried only where they were not learnt."""
    others = probes.others_of((one.prompt_id, one.chosen.text) for one in pairs)
    for pair in pairs:
        unseen = phrases if favourites.halves(pair.prompt_id) == 1 else ()
        yield {name: probes.spoil(name, pair.prompt, pair.chosen, others=others, phrases=unseen) for name in PROBES}
