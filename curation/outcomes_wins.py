"""Win rates of policies against their starts and each other: by reward models, by models that compare, and by people.

Paired by prompt: each response of the one with each of the other to the same prompt, a tie one half, whole prompts redrawn.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from curation import benchmark, outcomes, people, proxies, reward_models
from curation.outcomes import Made
from curation.stats import preference_accuracy, winrate
from curation.stats.accuracy import Numbers
from curation.stats.figures import Figure
from curation.study_design import COMPARISON
from curation.workspace import Workspace

By = Literal["reward model", "judge", "people"]
_RESPONSES = 4  # of each side to a prompt that are set against one another where length is controlled
NOT_GOLD = "not gold"


class Side(NamedTuple):
    """What a generator answered at one point."""

    generator: str
    point: int

    def words(self, one: Made) -> str:
        """As a table names it."""
        return f"{one.generator}, start" if one.moved and self.point == one.start else one.generator


class Duel(NamedTuple):
    """How often the first side wins against the second, by one judge; at equal length where that was asked for."""

    one: Side
    other: Side
    judge: str
    by: By
    rate: Figure
    even: winrate.Even  # the test of `rate`, not of that at equal length
    at_equal_length: Figure | None
    why: str  # what to know of the judge


class Adjusted(NamedTuple):
    """The p of a win rate of 1/2 by Holm, None where there is no test, and over how many tests it is."""

    p: float | None
    over: int


def adjusted(shown: Sequence[Duel]) -> list[Adjusted]:
    """Of win rates that are shown together, in their order: the tests of each judge are one family. Holm's adjustment holds
    however they hang together, such as by their start; a rate without a test does not count."""
    found: dict[int, Adjusted] = {}
    for judge in {(one.judge, one.by) for one in shown}:
        family = [place for place, one in enumerate(shown) if (one.judge, one.by) == judge]
        told = [shown[place].even.p for place in family]
        over = sum(p is not None for p in told)
        found.update((place, Adjusted(p, over)) for place, p in zip(family, preference_accuracy.holm(told), strict=True))
    return [found[place] for place in range(len(shown))]


@dataclass(frozen=True)
class Pairs:
    """Responses of two sides to the same prompts, each with each; all (pairs,). `lengths` is the first's tokens less the
    other's."""

    prompts: tuple[str, ...]
    ids: tuple[tuple[str, str], ...]
    lengths: Numbers


def against_start(
    workspace: Workspace, one: Made, *, models: Sequence[str] | None = None, equal_length: bool = False
) -> list[Duel]:
    """A policy at its end against its start, by everybody who has compared them or scored both; of reward models that score
    by these alone where they are given."""
    if not one.moved:
        return []
    sides = Side(one.generator, one.last), Side(one.generator, one.start)
    return duels(workspace, *sides, models=models, equal_length=equal_length)


def against_others(
    workspace: Workspace, one: Made, others: Sequence[Made], *, models: Sequence[str] | None = None, equal_length: bool = False
) -> list[Duel]:
    """A policy at its end against each of these at theirs."""
    mine = Side(one.generator, one.last)
    sides = [Side(each.generator, each.last) for each in others if each.generator != one.generator]
    return [duel for side in sides for duel in duels(workspace, mine, side, models=models, equal_length=equal_length)]


def duels(
    workspace: Workspace, one: Side, other: Side, *, models: Sequence[str] | None = None, equal_length: bool = False
) -> list[Duel]:
    """One side against another by every reward model that scored both (or these of them), every model that compared them, and
    people.

    What it is at equal length takes a regression for each redraw: it is told where it is asked for.
    """
    marks = tuple(workspace.answers.mark(name) for name, _, _ in workspace.studies.all())
    key = ("duels", one, other, None if models is None else tuple(models), equal_length, marks)
    return outcomes.kept(workspace, key, lambda: list(_duels(workspace, one, other, models, equal_length=equal_length)))


def _duels(workspace: Workspace, one: Side, other: Side, wanted: Sequence[str] | None, *, equal_length: bool) -> Iterator[Duel]:
    sides = [outcomes.named(workspace, side.generator) for side in (one, other)]
    met = pairs(workspace, one, other)
    if not met.ids:
        return
    models = set(outcomes.scorers(workspace, one.generator)) & set(outcomes.scorers(workspace, other.generator))
    models &= models if wanted is None else set(wanted)
    comparing = [model.reward_model for model in reward_models.all_models(workspace) if model.compares]
    for model in [*sorted(models), *comparing]:
        p = _preferences(workspace, met, model, compares=model in comparing)
        seen = workspace.scores.trained_on(model)
        learned = np.array([prompt in seen for prompt in met.prompts])
        by: By = "judge" if model in comparing else "reward model"
        notes = [_why(workspace, side, model) for side in sides]
        notes += ["prompts it was trained on are left out"] if learned.any() else []
        notes += _to_know(workspace, model, sides) if model in comparing else []
        yield from _duel(one, other, model, by, np.where(learned, np.nan, p), met, notes, equal_length=equal_length)
    for name, _, _ in workspace.studies.all():
        p, raters = _people(workspace, name, met)
        notes = [f"{raters:,} rater{'s' if raters > 1 else ''}; of several answers the mean"]
        yield from _duel(one, other, name, "people", p, met, notes, equal_length=equal_length)


def _duel(
    one: Side, other: Side, judge: str, by: By, p: Numbers, met: Pairs, notes: Sequence[str], *, equal_length: bool
) -> Iterator[Duel]:
    """Nothing where the judge has said nothing."""
    if np.isnan(p).all():
        return
    prompts = np.array(met.prompts, dtype=object)
    equal = winrate.length_controlled(p, met.lengths, prompts, benchmark.rng()) if equal_length else None
    why = "; ".join(dict.fromkeys(filter(None, notes)))
    rate = winrate.from_preferences(p, prompts, benchmark.rng()).rate
    yield Duel(one, other, judge, by, rate, winrate.p_of_even(p, prompts, benchmark.rng()), equal, why)


def _why(workspace: Workspace, one: Made, model: str) -> str:
    found = outcomes.standing(workspace, one, model)
    return "" if found.gold else f"{NOT_GOLD}: {found.why}"


def _to_know(workspace: Workspace, model: str, sides: Sequence[Made]) -> list[str]:
    """What the scorings in which a model compared these found, such as answers without a verdict."""
    asked = [({*map(str.strip, what.get("policies", "").split(","))}, words) for what, words in workspace.scores.to_know(model)]
    return [words for names, words in asked if all(names & {one.generator, one.policy} for one in sides)]


def pairs(workspace: Workspace, one: Side, other: Side) -> Pairs:
    """Each response of one side with each of the other to the same prompt, of prompts that neither has learned from."""
    seen = set[str]().union(*(outcomes.learned(workspace, outcomes.named(workspace, side.generator)) for side in (one, other)))
    of: list[dict[str, list[tuple[str, int]]]] = []
    for side in (one, other):
        by_prompt: dict[str, list[tuple[str, int]]] = {}
        for row in outcomes.answers(workspace, side.generator):
            if row.point == side.point and row.prompt_id not in seen:
                by_prompt.setdefault(row.prompt_id, []).append((row.response_id, row.tokens))
        of.append(by_prompt)
    rows = [
        (prompt, (mine[0], theirs[0]), float(mine[1] - theirs[1]))
        for prompt in sorted(of[0].keys() & of[1].keys())
        for mine in of[0][prompt][:_RESPONSES]
        for theirs in of[1][prompt][:_RESPONSES]
    ]
    prompts, ids, lengths = zip(*rows, strict=True) if rows else ((), (), ())
    return Pairs(tuple(prompts), tuple(ids), np.array(lengths, np.float64))


def _preferences(workspace: Workspace, met: Pairs, model: str, *, compares: bool) -> Numbers:
    """1 where the first of a pair scores higher, 0.5 for a tie, 0 for less; of a model that compares its P(first is better),
    0.5 for twice the same text; NaN where it has said nothing."""
    if not compares:
        scores = outcomes.scores_by(workspace, model)
        ours, theirs = (np.array([scores.get(both[side], np.nan) for both in met.ids]) for side in (0, 1))
        return winrate.preferred(ours, theirs)
    known = workspace.scores.preferences(model)
    return np.array([0.5 if one == other else _first_better(known, one, other) for one, other in met.ids])


def _first_better(known: Mapping[tuple[str, str], float], one: str, other: str) -> float:
    found = known.get((min(one, other), max(one, other)))
    return np.nan if found is None else found if one < other else 1 - found


def _people(workspace: Workspace, study: str, met: Pairs) -> tuple[Numbers, int]:
    """The share of answers that prefer the first of each pair that people of a study compared, a tie one half; and how many
    people that were."""
    table = people.tables(workspace, study).get(COMPARISON)
    if table is None:
        return np.full(len(met.ids), np.nan), 0
    found, raters, wanted = {}, set[int](), {frozenset(both) for both in met.ids}
    for unit, row in zip(table.units, proxies.outcomes(table), strict=True):
        known = np.flatnonzero(~np.isnan(row))
        if len(known) and {unit.first, unit.second} in wanted:
            found[unit.first, unit.second] = float(row[known].mean())
            raters.update(known.tolist())
    return np.array([_first_better(found, one, other) if one != other else np.nan for one, other in met.ids]), len(raters)
