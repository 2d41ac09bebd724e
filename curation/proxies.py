"""Reward models and people: how far a reward model is a fair proxy for the raters of a study."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from curation import benchmark, people, reward_models
from curation.people import Table
from curation.stats import beside_people, calibration, consensus, correlation, length_control
from curation.stats.accuracy import Numbers
from curation.stats.beside_people import Beside
from curation.stats.correlation import METHODS, Method
from curation.stats.figures import Figure
from curation.workspace import Workspace

LENGTH = "length"
MARGIN, SHARE_MARGIN = 0.1, 0.05  # of a correlation, of a share of answers: who is closer to one rater counts as one rater

RULE = (
    "Each clause is read from one 95% interval. People: the model's Spearman correlation with the mean rating, or its share of "
    "answers agreed with less one half; above 0 it “agrees”, below 0 it “goes against people”, else it “does not measurably "
    "agree”. Length: its lead over the length of the response on the same redraws; above 0 “better”, below 0 “worse”, else “no "
    "better”. Rater: the model less one rater, both against the other raters; above 0 “better”, below 0 “less”, else “as well "
    f"as one rater” where it lies above −{MARGIN:g} (of shares −{SHARE_MARGIN:g}) and the model agrees with people at all, and "
    "where it does not more ratings are needed to tell. Where one rater does not measurably agree with the others there is "
    "nothing to be as good as, and that is said instead."
)


class Says(NamedTuple):
    """What a model says of the units of a table, and what there is to set it against; all (units,)."""

    scores: Numbers  # of a comparison: the margin of the first over the second
    lengths: Numbers  # characters; of a comparison the difference
    people: Numbers  # the mean rating; of a comparison the mean outcome, 1 where all prefer the first


@dataclass(frozen=True)
class Proxy:
    """One reward model beside the people of one table. What does not suit the table is empty."""

    model: str
    table: str
    over_all: dict[Method, Figure]
    within: dict[Method, Figure]
    by_generator: dict[Method, Figure]
    at_equal_length: dict[str, Figure]
    with_answers: Figure | None  # comparisons: the share of answers it agrees with
    beside: Beside
    over_length: Figure  # lead over the length of the response
    n: int

    @property
    def main(self) -> Figure:
        """The figure that ranks models."""
        return self.with_answers if self.with_answers is not None else self.over_all["spearman"]

    def verdict(self) -> str:
        """A sentence in plain words, from the intervals alone: see RULE."""
        shares = self.with_answers is not None
        agrees = _agrees(self.main, 0.5 if shares else 0.0)
        length = "" if self.model == LENGTH else _beyond_length(self.over_length)
        rater = _as_a_rater(self.beside, agrees == _AGREES, 0.5 if shares else 0.0, SHARE_MARGIN if shares else MARGIN)
        return "; ".join(filter(None, [agrees, length, rater])) + "."


def says(workspace: Workspace, study: str, table: Table, model: str) -> Says:
    """What a reward model says of each unit of a table of a study's answers; NaN where it has not scored it, or was trained on
    the unit's prompt."""
    texts = {
        response: text
        for content in workspace.studies.contents(study).values()
        for response, text in content.texts.items()
        if text is not None
    }
    lengths = np.array([_length(texts, one.first) - (_length(texts, one.second) if one.second else 0.0) for one in table.units])
    if reward_models.model_named(workspace, model).compares:
        preferences = workspace.scores.preferences(model)
        scores = np.array([_log_odds(preferences, one.first, one.second) for one in table.units])
    else:
        known = workspace.scores.scores(model)
        scores = np.array(
            [known.get(one.first, np.nan) - (known.get(one.second, np.nan) if one.second else 0.0) for one in table.units]
        )
    learned = workspace.scores.trained_on(model)
    scores = np.where([prompt in learned for prompt in table.prompts], np.nan, scores)
    held = consensus.mean(outcomes(table) if table.kind != "rating" else table.values)
    return Says(scores, lengths, held)


def has_scored(workspace: Workspace, study: str, table: Table, model: str) -> bool:
    """Whether a reward model has said anything of a table's units."""
    if model not in workspace.scores.scored_in(study):
        return False
    if reward_models.model_named(workspace, model).compares:
        preferences = workspace.scores.preferences(model)
        return any((one.first, one.second) in preferences for one in table.units)
    known = workspace.scores.scores(model)
    return any(one.first in known and (not one.second or one.second in known) for one in table.units)


def rows(found: Sequence[Proxy]) -> list[dict[str, str]]:
    """A row a reward model, the nearest to people first: every figure with its interval."""
    table = []
    for one in sorted(found, key=lambda one: (-(one.main.value if one.main.value is not None else -9.0), one.model)):
        row = {"reward model": one.model}
        if one.with_answers is not None:
            row["agrees with answers"] = one.with_answers.words()
        row |= {f"{method.title()}, all": figure.words() for method, figure in one.over_all.items()}
        row |= {f"{method.title()}, within prompts": figure.words() for method, figure in one.within.items()}
        row |= {f"{method.title()}, of generators' means": figure.words() for method, figure in one.by_generator.items()}
        for what, figure in one.at_equal_length.items():
            name = "agrees with the majority, at equal length" if what == "accuracy" else f"{what.title()}, length set aside"
            row[name] = figure.words()
        row["beside the others: model"] = one.beside.model.words()
        row["beside the others: one rater (ceiling)"] = one.beside.rater.words()
        row["model less rater"] = one.beside.difference.words()
        row["lead over length"] = one.over_length.words()
        table.append(row)
    return table


def record(workspace: Workspace, study: str, models: Sequence[str]) -> dict[str, Any]:
    """Every figure as plain values: see `elephant agreement STUDY --reward-model NAME --json`."""
    found: dict[str, Any] = {}
    for name, table in people.tables(workspace, study).items():
        for model in models:
            if has_scored(workspace, study, table, model):
                found.setdefault(name, {})[model] = _record(workspace, study, table, proxy(workspace, study, table, model))
    return found


def _record(workspace: Workspace, study: str, table: Table, one: Proxy) -> dict[str, Any]:
    def records(figures: Mapping[Any, Figure]) -> dict[str, Any]:
        return {str(name): figure.record() for name, figure in figures.items()}

    return {
        "verdict": one.verdict(), "n": one.n, "over_all": records(one.over_all), "within_prompts": records(one.within),
        "length_set_aside": records(one.at_equal_length), "subsets": records(by_subset(workspace, study, table, one.model)),
        "raters": records(by_rater(workspace, study, table, one.model)),
        "generators": records(one.by_generator),
        "with_answers": None if one.with_answers is None else one.with_answers.record(),
        "beside_the_others": records(one.beside._asdict()), "lead_over_length": one.over_length.record(),
    }  # fmt: skip


def _length(texts: dict[str, str], response: str) -> float:
    return float(len(texts[response])) if response in texts else float("nan")


def _log_odds(preferences: dict[tuple[str, str], float], first: str, second: str) -> float:
    """Of a comparison alone: a model that compares says nothing of one response."""
    found = preferences.get((first, second))  # both in the order of their ids
    if found is None:
        return float("nan")
    first_better = np.clip(found, 1e-12, 1 - 1e-12)
    return float(np.log(first_better / (1 - first_better)))


def outcomes(table: Table) -> Numbers:
    """What each comparison means for its first side, (units, raters): 1 preferred, 0 not, 0.5 neither, NaN no answer."""
    known = ~np.isnan(table.values)
    values = np.full(table.values.shape, np.nan)
    values[known] = [people.outcome(table, value) for value in table.values[known].tolist()]
    return values


def proxy(workspace: Workspace, study: str, table: Table, model: str) -> Proxy:
    """A reward model beside the raters, every interval from whole prompts redrawn."""
    told = says(workspace, study, table, model)
    rng, groups = benchmark.rng, table.groups
    n = int((~np.isnan(told.scores)).sum())
    if table.kind != "rating":
        won = outcomes(table)
        lead = beside_people.lead(told.scores, told.lengths, won, rng(), groups=groups)
        side = np.sign(told.people - 0.5)
        towards = np.where(side == 0, np.nan, told.scores * side), np.nan_to_num(told.lengths * side)
        equal = {"accuracy": length_control.length_controlled(*towards, rng(), groups=groups)}
        return Proxy(
            model, table.name, {}, {}, {}, equal, beside_people.with_preferences(told.scores, won, rng(), groups=groups),
            beside_people.preferences(told.scores, won, rng(), groups=groups), _beyond(lead, told, np.sign), n,
        )  # fmt: skip
    overall: dict[Method, Figure] = {
        one: correlation.correlation(told.scores, told.people, rng(), method=one, groups=groups) for one in METHODS
    }
    inside: dict[Method, Figure] = {
        one: correlation.within(told.scores, told.people, groups, rng(), method=one) for one in METHODS
    }
    partial: dict[str, Figure] = {
        one: correlation.partial(told.scores, told.people, told.lengths, rng(), method=one, groups=groups) for one in METHODS
    }
    lead = correlation.difference(told.scores, told.lengths, told.people, rng(), method="spearman", groups=groups)
    return Proxy(
        model, table.name, overall, inside, _by_generator(workspace, study, table, told), partial, None,
        beside_people.correlations(told.scores, table.values, rng(), groups=groups), _beyond(lead, told, _places), n,
    )  # fmt: skip


def _beyond(figure: Figure, told: Says, order: Callable[[Numbers], Numbers]) -> Figure:
    """A lead over length of exactly nothing where the model says what length says: that is known, not estimated."""
    both = ~np.isnan(told.scores) & ~np.isnan(told.lengths)
    same = np.array_equal(order(told.scores[both]), order(told.lengths[both]))
    return figure._replace(low=0.0, high=0.0, undefined="") if same and figure.value is not None else figure


def _by_generator(workspace: Workspace, study: str, table: Table, told: Says) -> dict[Method, Figure]:
    writers = workspace.studies.generators(study)
    rows = [(place, name) for place, unit in enumerate(table.units) for name in writers[unit.item_id].get(unit.first, ())]
    places = np.array([place for place, _ in rows], np.int64)
    names = np.array([name for _, name in rows], dtype=object)
    given = told.scores[places], told.people[places], names
    return {one: beside_people.of_means(*given, benchmark.rng(), groups=table.groups[places], method=one) for one in METHODS}


def by_subset(workspace: Workspace, study: str, table: Table, model: str) -> dict[str, Figure]:
    """The main figure on each subset, where there are two or more."""
    told, names = says(workspace, study, table, model), np.array(table.subsets, dtype=object)
    subsets = list(dict.fromkeys(table.subsets))
    return {name: _main(told, table, names == name) for name in subsets} if len(subsets) > 1 else {}


def by_rater(workspace: Workspace, study: str, table: Table, model: str) -> dict[str, Figure]:
    """The main figure against each rater alone."""
    told = says(workspace, study, table, model)
    found = {}
    for place, rater in enumerate(table.raters):
        own = table.values[:, place]
        if table.kind == "rating":
            found[rater] = correlation.correlation(told.scores, own, benchmark.rng(), method="spearman", groups=table.groups)
        else:
            won = outcomes(table)[:, [place]]
            found[rater] = beside_people.with_preferences(told.scores, won, benchmark.rng(), groups=table.groups)
    return found


def _main(told: Says, table: Table, keep: Any) -> Figure:
    scores = np.where(keep, told.scores, np.nan)
    if table.kind == "rating":
        return correlation.correlation(scores, told.people, benchmark.rng(), method="spearman", groups=table.groups)
    return beside_people.with_preferences(scores, outcomes(table), benchmark.rng(), groups=table.groups)


def confidence(told: Says, table: Table) -> list[calibration.Bin]:
    """How often a model's preference is that of the majority against how sure σ(|margin|) it is; comparisons alone.

    Pairs on which people are split evenly have no side to be right about.
    """
    sides = np.sign(told.people - 0.5)
    margins = np.where(sides == 0, np.nan, told.scores * sides)
    return [] if table.kind == "rating" else calibration.calibration(margins)


class Disagreement(NamedTuple):
    """A unit on which model and people part: where each puts it among all units, 0 lowest to 1 highest."""

    unit: people.Unit
    score: float
    people: float
    apart: float  # the model's place less the people's


def disagreements(told: Says, table: Table, *, limit: int = 30) -> list[Disagreement]:
    """The units on which the model is furthest from people, either way, the furthest first."""
    known = np.flatnonzero(~np.isnan(told.scores) & ~np.isnan(told.people))
    if not len(known):
        return []
    places = [_places(side[known]) for side in (told.scores, told.people)]
    apart = places[0] - places[1]
    order = np.argsort(-np.abs(apart), kind="stable")[:limit]
    return [
        Disagreement(table.units[known[one]], float(told.scores[known[one]]), float(told.people[known[one]]), float(apart[one]))
        for one in order.tolist()
    ]


def _places(values: Numbers) -> Numbers:
    """Where each value stands among all, 0 to 1."""
    ranks: Numbers = correlation.midranks(values, np.ones((1, len(values))))[0]
    return ranks / len(values)


# ---- in words


_AGREES = "agrees with people"


def _agrees(figure: Figure, nothing: float) -> str:
    if figure.value is None or figure.low is None or figure.high is None:
        return f"whether it agrees with people cannot be told, because {figure.undefined}"
    if figure.low > nothing:
        return _AGREES
    return "goes against people" if figure.high < nothing else "does not measurably agree with people"


def _beyond_length(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return "better than length" if figure.low > 0 else "worse than length" if figure.high < 0 else "no better than length"


def _as_a_rater(beside: Beside, agrees: bool, nothing: float, margin: float) -> str:
    less = beside.difference
    if less.low is None or less.high is None:
        return ""
    if less.low > 0:
        return "better than one rater does"
    if less.high < 0:
        return "less than one rater does"
    if beside.rater.low is None or beside.rater.low <= nothing:
        return "one rater does not measurably agree with the others either"
    if agrees and less.low > -margin:
        return "as well as one rater does"
    return "more ratings are needed to tell it from one rater"
