"""How often reward models prefer the chosen response: on a dataset, on what a release made of it, by subset, flag and length.

Everything is over distinct pairs that the model has scored; every share has its n and 95% interval.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from curation import reward_models
from curation.released import released
from curation.stats import calibration, length_control
from curation.stats import preference_accuracy as stats
from curation.stats.accuracy import Numbers
from curation.stats.figures import Figure, Groups, drawn_units, estimated, replicates
from curation.stats.preference_accuracy import Accuracy
from curation.store.pairs import RowView
from curation.workspace import Workspace

T = TypeVar("T")
_SEED = 20240927
_ENOUGH = 30  # pairs from which a subset may be called the worst
_MANY = 20_000  # pairs beyond which fewer redraws tell as much


@dataclass(frozen=True)
class Table:
    """Pairs with every reward model's margin, score(chosen) - score(rejected): (pairs, models), NaN where not scored.

    NaN, too, where the model was trained on the pair's prompt: what it says there is no test of it. A pair whose label a
    release turned round has its margin turned round too. `lengths` is chosen less rejected, in characters.
    """

    name: str
    pair_ids: tuple[str, ...]
    subsets: tuple[str, ...]
    prompts: Groups
    lengths: Numbers
    filters: tuple[tuple[str, ...], ...]
    models: tuple[str, ...]
    margins: Numbers
    turned: NDArray[np.bool_]  # (pairs,), whether a release turned the label round
    learned: NDArray[np.bool_]  # (pairs, models), whether the model has scored the pair but was trained on its prompt

    def only(self, keep: NDArray[np.bool_]) -> "Table":
        """These pairs alone."""
        kept = np.flatnonzero(keep).tolist()

        def some(row: Sequence[T]) -> tuple[T, ...]:
            return tuple(row[place] for place in kept)

        return replace(
            self, pair_ids=some(self.pair_ids), subsets=some(self.subsets), prompts=self.prompts[kept],
            lengths=self.lengths[kept], filters=some(self.filters), margins=self.margins[kept],
            turned=self.turned[kept], learned=self.learned[kept],
        )  # fmt: skip

    def with_models(self, models: Sequence[str]) -> "Table":
        """The same pairs, these models alone."""
        places = [self.models.index(one) for one in models]
        return replace(self, models=tuple(models), margins=self.margins[:, places], learned=self.learned[:, places])

    def is_turned(self, pair_id: str) -> bool:
        """Whether a release turned this pair's label round."""
        return bool(self.turned[self.pair_ids.index(pair_id)])

    def of(self, model: str) -> Numbers:
        """One model's margins, (pairs,)."""
        return self.margins[:, self.models.index(model)]

    def accuracy(self, model: str) -> Accuracy:
        """Wilson's interval where every pair has a prompt of its own, else whole prompts are redrawn."""
        return _accuracy(self.of(model), self.prompts)

    def repeats(self) -> bool:
        """Whether several pairs have one prompt."""
        return len(np.unique(self.prompts)) < len(self.prompts)


def _accuracy(margins: Numbers, prompts: Groups) -> Accuracy:
    known = ~np.isnan(margins)
    if len(np.unique(prompts[known])) == known.sum():
        return stats.accuracy(margins)
    return stats.clustered_accuracy(margins, prompts, rng())


def table(workspace: Workspace, dataset: str, *, release: str = "", models: Sequence[str] = ()) -> Table:
    """The pairs of a dataset, or those a release keeps, under the labels it has or gave them; these models, or all that
    scored any of it. Raises ValueError for an unknown dataset, release or model, and when one of them, or none, scored it."""
    return kept(workspace, ("table", dataset, release, *models), lambda: _table(workspace, dataset, release, models))


def _table(workspace: Workspace, dataset: str, release: str, models: Sequence[str]) -> Table:
    workspace.pairs.dataset(dataset)
    known = [one.reward_model for one in reward_models.all_models(workspace)]
    for name in models:
        reward_models.model_named(workspace, name)
    changed = released(workspace, dataset, release)
    sizes = {pair_id: (subset, chosen - rejected) for pair_id, subset, chosen, rejected, _ in workspace.pairs.sizes(dataset)}
    sides = [one for one in workspace.pairs.sides(dataset) if one[0] not in changed.dropped]
    ids = [one[0] for one in sides]
    turned = np.array([one in changed.swapped for one in ids])
    sign = np.where(turned, -1.0, 1.0)
    place = {pair_id: number for number, pair_id in enumerate(ids)}
    columns, learned = {}, {}
    for name in models or known:
        column = np.full(len(ids), np.nan)
        for pair_id, chosen, rejected in workspace.scores.of_pairs(dataset, name):
            if pair_id in place:
                column[place[pair_id]] = chosen - rejected
        if not np.isnan(column).all():
            seen = workspace.scores.trained_on(name)
            learned[name] = np.array([one[1] in seen for one in sides]) & ~np.isnan(column)
            columns[name] = np.where(learned[name], np.nan, column * sign)
    what = f"release {release} of {dataset}" if release else dataset
    unscored = next((name for name in models if name not in columns), "" if columns else reward_models.LENGTH)
    if unscored:
        who = f"the reward model {unscored!r} has not" if models else "no reward model has"
        raise ValueError(f"{who} scored {what!r} yet: elephant run score --set reward_model={unscored} dataset={dataset}")
    flagged = workspace.releases.filters_of_pairs(dataset)
    return Table(
        what, tuple(ids), tuple(sizes[one][0] for one in ids),
        np.unique([one[1] for one in sides], return_inverse=True)[1].astype(np.int64),
        np.array([sizes[one][1] for one in ids], np.float64) * sign, tuple(flagged.get(one, ()) for one in ids),
        tuple(columns), np.stack(list(columns.values()), axis=1), turned, np.stack(list(learned.values()), axis=1),
    )  # fmt: skip


def kept(workspace: Workspace, key: tuple[Any, ...], make: Callable[[], T]) -> T:
    """Made when it is first asked for, and again when scores, flags or releases came in."""
    stamp = (workspace.scores.generation, workspace.flags.generation, len(workspace.releases.all()))
    held: dict[Any, tuple[Any, Any]] = workspace.held.setdefault("benchmark", {})
    if key not in held or held[key][0] != stamp:
        held[key] = stamp, make()
    found: T = held[key][1]
    return found


# ---- accuracy


class Ranked(NamedTuple):
    """A reward model's accuracy, and the subset on which it does worst: of those with 30 pairs or more, where there are two;
    None where there is only one subset."""

    model: str
    accuracy: Accuracy
    worst: tuple[str, Figure] | None
    learned: int  # pairs scored but left out, since it was trained on their prompts


def ranking(of: Table) -> list[Ranked]:
    """Reward models by half-tie accuracy, the best first."""
    found = []
    for model in of.models:
        parts = by_subset(of, model)
        known = {name: one.half_ties for name, one in parts.items() if one.half_ties.value is not None}
        large = {name: one for name, one in known.items() if one.n >= _ENOUGH}
        known = large if len(large) > 1 else known
        worst = min(known.items(), key=lambda one: (one[1].value or 0.0, one[0])) if len(known) > 1 else None
        left_out = int(of.learned[:, of.models.index(model)].sum())
        found.append(Ranked(model, of.accuracy(model), worst, left_out))
    return sorted(found, key=_best_first)


def _best_first(one: Ranked) -> tuple[float, str]:
    value = one.accuracy.half_ties.value
    return (1.0 if value is None else -value), one.model


def by_subset(of: Table, model: str) -> dict[str, Accuracy]:
    """Accuracy on each subset, in the order they first appear."""
    names, margins = np.array(of.subsets, dtype=object), of.of(model)
    places = {name: names == name for name in dict.fromkeys(of.subsets)}
    return {name: _accuracy(margins[here], of.prompts[here]) for name, here in places.items()}


def by_flag(of: Table, model: str) -> dict[str, Accuracy]:
    """Accuracy on the pairs that each filter flags, and on those that none does ("no flag")."""
    places: dict[str, list[int]] = {}
    for place, some in enumerate(of.filters):
        for name in some or ("no flag",):
            places.setdefault(name, []).append(place)
    if list(places) in ([], ["no flag"]):
        return {}
    margins, last = of.of(model), {"no flag": places.pop("no flag", [])}
    return {name: _accuracy(margins[here], of.prompts[here]) for name, here in {**places, **last}.items()}


class Parts(NamedTuple):
    """Accuracy before and after cleaning, in parts, since the two are over different pairs.

    `from_labels` is what turning labels round changes on the pairs kept; `from_dropping` what leaving pairs out changes under
    the labels there were. The gain of the whole is their sum.
    """

    original: Figure  # all pairs, labels as they were
    dropped: Figure  # the pairs left out, labels as they were
    kept_as_were: Figure  # the pairs kept, labels as they were
    cleaned: Figure  # the pairs kept, labels as released
    swapped: int  # pairs scored whose label was turned round
    from_labels: Figure
    from_dropping: Figure


def original_and_cleaned(workspace: Workspace, dataset: str, release: str, model: str) -> Parts:
    """A model's half-tie accuracy on a dataset and on what a release made of it. Raises ValueError as `table` does."""
    before = table(workspace, dataset, models=(model,))
    after = table(workspace, dataset, release=release, models=(model,))
    stay = np.isin(np.array(before.pair_ids), np.array(after.pair_ids))
    kept_before = before.only(stay)
    credit = (np.sign(before.of(model)) + 1) / 2
    new, old = (np.sign(after.of(model)) + 1) / 2, credit[stay]
    scored = ~np.isnan(new)
    turned = int(after.turned[scored].sum())
    labels = stats.mean((new - old)[scored], rng(), "pairs", stats.NOTHING_SCORED, groups=after.prompts[scored])
    return Parts(
        before.accuracy(model).half_ties, before.only(~stay).accuracy(model).half_ties, kept_before.accuracy(model).half_ties,
        after.accuracy(model).half_ties, turned, labels if turned else _certain(labels),
        _difference_of_means(credit, stay, before.prompts),
    )  # fmt: skip


def _certain(nothing: Figure) -> Figure:
    """A change of exactly nothing, as no label was turned round: that is known, not estimated."""
    return nothing if nothing.value is None else nothing._replace(low=0.0, high=0.0, undefined="")


def _difference_of_means(credit: Numbers, stay: NDArray[np.bool_], prompts: Groups) -> Figure:
    """The mean over the pairs that stay less the mean over all of them, on the same redraws."""
    known = ~np.isnan(credit)
    credit, stay, prompts = credit[known], stay[known], prompts[known]
    if not len(credit) or not stay.any():
        return Figure(None, None, None, len(credit), "pairs", stats.NOTHING_SCORED)
    if stay.all():
        return Figure(0.0, 0.0, 0.0, len(credit), "pairs")

    def difference(weights: Numbers) -> Numbers:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((weights @ (credit * stay)) / (weights @ stay) - (weights @ credit) / weights.sum(axis=1))

    redrawn = replicates(difference, len(credit), rng(), groups=prompts)
    return estimated(redrawn, len(credit), "pairs", stats.NOTHING_SCORED, units=drawn_units(len(credit), prompts))


# ---- models beside one another


class Duel(NamedTuple):
    """Two models on the pairs both scored: McNemar's exact test, by prompts where several pairs have one; its p adjusted by
    Holm over all these comparisons."""

    one: str
    other: str
    test: stats.McNemar
    adjusted: float | None


def duels(of: Table) -> list[Duel]:
    """Every two models."""
    pairs = list(combinations(of.models, 2))
    tests = [stats.mcnemar(of.of(one), of.of(other), groups=of.prompts) for one, other in pairs]
    return [Duel(*pair, test, p) for pair, test, p in zip(pairs, tests, stats.holm([one.p for one in tests]), strict=True)]


class BestOf(NamedTuple):
    """Accuracy of picking the best of k responses, over prompts that have more than two."""

    figure: Figure
    responses: float  # the mean number of responses a prompt to pick from


def best_of(workspace: Workspace, dataset: str, model: str, *, release: str = "") -> BestOf | None:
    """Over prompts with three responses or more, of which some were only ever chosen and some only ever rejected: is the
    top-scored one of the first? None where there is no such prompt, or the model gives no scores. Of a release, over the
    pairs that it keeps and under its labels. Prompts the model was trained on are left out."""
    if reward_models.model_named(workspace, model).compares or not workspace.pairs.several(dataset):
        return None
    key = ("best of", dataset, release, model)
    return kept(workspace, key, lambda: _best_of(workspace, dataset, model, release))


def _best_of(workspace: Workspace, dataset: str, model: str, release: str) -> BestOf | None:
    scores, changed = workspace.scores.scores(model), released(workspace, dataset, release)
    learned = workspace.scores.trained_on(model)
    chosen, rejected = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for pair_id, prompt, *sides in workspace.pairs.sides(dataset):
        if pair_id not in changed.dropped and prompt not in learned:
            better, worse = reversed(sides) if pair_id in changed.swapped else sides
            chosen[prompt].add(better)
            rejected[prompt].add(worse)
    rows = [
        (number, scores.get(response, np.nan), response in best)
        for number, (best, worst) in enumerate((chosen[one], rejected[one]) for one in chosen)
        if len(best | worst) > 2 and best - worst and worst - best
        for response in sorted(best ^ worst)
    ]
    if not rows:
        return None
    groups, values, best = (np.array(column) for column in zip(*rows, strict=True))
    return BestOf(stats.best_of(values, best, groups, rng()), len(rows) / len(np.unique(groups)))


def against(workspace: Workspace, dataset: str, of: Table, model: str, *, limit: int = 30) -> list[tuple[RowView, float]]:
    """The pairs on which a model goes most against the label, the furthest first: a row each, with its margin."""
    margins = of.of(model)
    order = [place for place in np.argsort(np.nan_to_num(margins, nan=np.inf))[:limit].tolist() if margins[place] < 0]
    rows: dict[str, RowView] = {}
    for row in workspace.pairs.page(dataset, limit=10_000, pairs=[of.pair_ids[place] for place in order]):
        rows.setdefault(row.pair_id, row)
    return [(rows[of.pair_ids[place]], float(margins[place])) for place in order]


# ---- how a model's margins behave


class Behaviour(NamedTuple):
    """Calibration of sigma(margin), and what length has to do with it."""

    curve: list[calibration.Bin]
    brier: Figure
    error: Figure  # expected calibration error
    by_length: list[length_control.LengthBin]
    at_equal_length: Figure


def behaviour(workspace: Workspace, of: Table, model: str) -> Behaviour:
    """How sure the model is and how often it is right; accuracy by length difference, and with length controlled.

    What sigma of a margin would have to be a probability for is undefined where the model's scores are no log odds.
    """
    log_odds = reward_models.are_log_odds(reward_models.model_named(workspace, model))
    key = ("behaviour", of.name, of.pair_ids, model)
    return kept(workspace, key, lambda: _behaviour(of, model, log_odds=log_odds))


def _behaviour(of: Table, model: str, *, log_odds: bool) -> Behaviour:
    margins, resamples = of.of(model), 1000 if len(of.pair_ids) <= _MANY else 200
    by_length = length_control.by_length_difference(margins, of.lengths)
    equal = length_control.length_controlled(margins, of.lengths, rng(), groups=of.prompts, resamples=resamples // 5)
    if not log_odds:
        none = Figure(None, None, None, int((~np.isnan(margins)).sum()), "pairs", "its scores are no log odds")
        return Behaviour([], none, none, by_length, equal)
    return Behaviour(
        calibration.calibration(margins), calibration.brier(margins, rng(), groups=of.prompts, resamples=resamples),
        calibration.expected_calibration_error(margins, rng(), groups=of.prompts, resamples=resamples), by_length, equal,
    )  # fmt: skip


def rng() -> np.random.Generator:
    """The same scores give the same intervals."""
    return np.random.default_rng(_SEED)
