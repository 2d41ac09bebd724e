"""Agreement of people: what raters of a study said, as tables; how far they agree, what they hold together, who writes best."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from curation import studies
from curation.pairs import prompt_id_of
from curation.stats import agreement, consensus, ranking
from curation.stats.accuracy import Numbers
from curation.stats.agreement import Ceiling
from curation.stats.figures import Figure, Groups
from curation.store.answers import unpacked_marks
from curation.study_design import COMPARISON, other_side
from curation.workspace import Workspace

_SEED = 20240927
_NO_PROMPT = prompt_id_of(())  # an import may name items without giving prompts: then two of them are not about the same
_FIRST, _SECOND, _TIE, _BOTH_BAD = 1.0, 2.0, 3.0, 4.0  # a comparison as a category, of sides in an order of their own


class Unit(NamedTuple):
    """What several raters gave a value: a response of an item on an aspect, or two responses of an item compared.

    `second` is "" for a rating. Of a comparison `first` comes before `second` by id, whoever stood left on the screen.
    """

    item_id: str
    first: str
    second: str = ""


@dataclass(frozen=True)
class Table:
    """What raters said on one aspect, or of which response is better.

    `values` is (units, raters), NaN where a rater did not answer. A comparison is 1 first, 2 second, 3 tie, 4 both bad; where
    strengths were asked, -3 (first much better) to 3 (second much better).
    """

    name: str
    kind: Literal["rating", "choice", "strength"]
    units: tuple[Unit, ...]
    raters: tuple[str, ...]
    values: Numbers
    subsets: tuple[str, ...]  # of each unit
    prompts: tuple[str, ...]  # of each unit: units of one prompt are redrawn together

    @property
    def groups(self) -> Groups:
        """The prompt of each unit as a number."""
        return np.unique(np.array(self.prompts, dtype=object), return_inverse=True)[1].astype(np.int64)

    @property
    def level(self) -> agreement.Level:
        """The scale on which values are compared first."""
        return "nominal" if self.kind == "choice" else "ordinal"

    def only(self, keep: Sequence[bool]) -> "Table":
        """These units alone."""
        kept = [place for place, one in enumerate(keep) if one]

        def some(row: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(row[place] for place in kept)

        parts = some(self.subsets), some(self.prompts)
        return Table(self.name, self.kind, some(self.units), self.raters, self.values[kept], *parts)


def tables(workspace: Workspace, study: str, *, kinds: tuple[str, ...] = ("item",)) -> dict[str, Table]:
    """Everything that stands, a table for each aspect and one for the comparison; gold and warm-up items are left out."""
    name = f"tables/{'+'.join(kinds)}"
    return studies.kept(workspace, study, name, lambda: _tables(workspace, study, kinds))


def _tables(workspace: Workspace, study: str, kinds: tuple[str, ...]) -> dict[str, Table]:
    items = workspace.studies.items(study)
    cells: dict[str, dict[tuple[Unit, str], float]] = defaultdict(dict)
    for one in workspace.answers.ratings(study):
        if one["item_kind"] in kinds:
            cells[one["aspect"]][Unit(one["item_id"], one["response_id"]), one["person"]] = one["value"]
    compared = [one for one in workspace.answers.preferences(study) if one["item_kind"] in kinds]
    strengths = all(one["strength"] is not None for one in compared)  # else those there are count as choices
    for one in compared:
        unit, value = _compared(one, strengths=strengths)
        cells[COMPARISON][unit, one["person"]] = value
    order = [*(one.name for one in studies.design_of(workspace, study).aspects), *sorted(cells), COMPARISON]
    found = {}
    for name in dict.fromkeys(one for one in order if one in cells):
        kind: Literal["rating", "choice", "strength"] = "rating"
        if name == COMPARISON:
            kind = "strength" if strengths else "choice"
        prompts = {item_id: item_id if item.prompt_id == _NO_PROMPT else item.prompt_id for item_id, item in items.items()}
        found[name] = _table(name, kind, cells[name], {one: item.subset for one, item in items.items()}, prompts)
    return found


def _compared(one: Mapping[str, Any], *, strengths: bool) -> tuple[Unit, float]:
    left, right, choice, strength = one["left_id"], one["right_id"], one["choice"], one["strength"]
    turned = left > right
    unit = Unit(one["item_id"], min(left, right), max(left, right))
    if strengths:
        return unit, float(-strength if turned else strength)
    side = other_side(choice) if turned else choice
    return unit, {"left": _FIRST, "right": _SECOND, "tie": _TIE, "both bad": _BOTH_BAD}[side]


def _table(
    name: str, kind: Literal["rating", "choice", "strength"], cells: Mapping[tuple[Unit, str], float],
    subsets: Mapping[str, str], prompts: Mapping[str, str],
) -> Table:  # fmt: skip
    units = tuple(dict.fromkeys(unit for unit, _ in cells))
    raters = tuple(sorted({rater for _, rater in cells}))
    row = {unit: place for place, unit in enumerate(units)}
    column = {rater: place for place, rater in enumerate(raters)}
    values = np.full((len(units), len(raters)), np.nan)
    for (unit, rater), value in cells.items():
        values[row[unit], column[rater]] = value
    places = [one.item_id for one in units]
    return Table(
        name, kind, units, raters, values, tuple(map(subsets.__getitem__, places)), tuple(map(prompts.__getitem__, places))
    )


# ---- how far they agree


class Measure(NamedTuple):
    """One measure of agreement and what it says."""

    name: str
    figure: Figure
    about: str


def measures(table: Table) -> list[Measure]:
    """Every measure that suits the table, the one to quote first."""
    values, groups = _both_ways(table)
    levels: tuple[agreement.Level, ...] = ("nominal",) if table.kind == "choice" else ("ordinal", "interval", "nominal")
    found = [
        Measure(f"Krippendorff alpha, {level}", agreement.krippendorff(values, level, _rng(), groups=groups), _ALPHA[level])
        for level in levels
    ]
    found.append(Measure("Percent agreement", agreement.percent(values, _rng(), groups=groups), "not corrected for chance"))
    found.append(Measure("Fleiss kappa", agreement.fleiss(values, _rng(), groups=groups), "nominal, any raters"))
    if table.values.shape[1] <= _MANY:
        plain = agreement.pairwise_cohen(values, _rng(), groups=groups)
        found.append(Measure("Cohen kappa", plain, "nominal, the mean over pairs of raters"))
        if table.kind != "choice":
            scale = _scale(table)
            linear = agreement.pairwise_cohen(values, _rng(), weights="linear", categories=scale, groups=groups)
            found.append(Measure("Cohen kappa, linear weights", linear, "ordinal, the mean over pairs of raters"))
            squared = agreement.pairwise_cohen(values, _rng(), weights="quadratic", categories=scale, groups=groups)
            found.append(Measure("Cohen kappa, quadratic weights", squared, "ordinal, the mean over pairs of raters"))
    if table.kind != "choice":
        for method in ("pearson", "spearman"):
            figure = ceiling(table, method).mean
            words = "each rater against the mean of the others: the human ceiling"
            found.append(Measure(f"Leave-one-out {method.title()}", figure, words))
    return [one._replace(figure=_counted(one.figure, table)) for one in found]


def _both_ways(table: Table) -> tuple[Numbers, Groups]:
    """Values and groups, every comparison also seen the other way round.

    Which of two responses is the first is chance: it must move no figure. So either one is taken to win as often by chance.
    """
    if table.kind == "rating":
        return table.values, table.groups
    values = table.values
    turned = (
        -values if table.kind == "strength" else np.select([values == _FIRST, values == _SECOND], [_SECOND, _FIRST], values)
    )
    return np.concatenate([values, turned]), np.concatenate([table.groups, table.groups])


def _counted(figure: Figure, table: Table) -> Figure:
    """The same figure, its n named for what it counts, each comparison once."""
    if table.kind == "rating":
        return figure._replace(of="responses")
    return figure._replace(n=figure.n // 2, of="pairs of responses")


_MANY = 30  # raters, beyond which every pair of them takes minutes and says little
_ALPHA: dict[str, str] = {
    "nominal": "same or not the same",
    "ordinal": "by rank: the measure for a rating scale",
    "interval": "by squared difference",
}


def main_measure(table: Table) -> Figure:
    """Krippendorff's alpha on the table's own scale: one number for a table, a subset, a rater."""
    values, groups = _both_ways(table)
    return _counted(agreement.krippendorff(values, table.level, _rng(), groups=groups), table)


def by_subset(table: Table) -> dict[str, Figure]:
    """The main measure of each subset, where there are two or more."""
    names = sorted(set(table.subsets))
    return {name: main_measure(table.only([one == name for one in table.subsets])) for name in names} if len(names) > 1 else {}


def ceiling(table: Table, method: Literal["pearson", "spearman"] = "pearson") -> Ceiling:
    """Each rater against the mean of the others, and the mean over raters."""
    values, groups = _both_ways(table)
    return agreement.leave_one_out(values, _rng(), method=method, groups=groups)


class RaterRow(NamedTuple):
    """A rater beside the rest: values given, the share of the others who said the same, the correlation with their mean."""

    rater: str
    n: int
    same: Figure
    correlation: Figure | None
    mean_difference: Figure | None  # to the mean of the others, on the units both have; of ratings


def by_rater(table: Table) -> list[RaterRow]:
    """Every rater against the rest, the one who agrees least first."""
    correlations = None if table.kind == "choice" else ceiling(table).raters
    values, groups = _both_ways(table)
    rows = []
    for place, rater in enumerate(table.raters):
        own = values[:, place]
        rest = np.delete(values, place, axis=1)
        same = _counted(agreement.with_others(own, rest, _rng(), groups=groups), table)
        both = ~np.isnan(own) & ~np.isnan(rest).all(axis=1)
        difference = None
        if table.kind == "rating" and both.any():
            away = own[both] - np.nanmean(rest[both], axis=1)
            found = ranking.means(away, np.full(len(away), "all"), np.array(table.prompts, dtype=object)[both], _rng())
            difference = found["all"]
        figure = None if correlations is None else _counted(correlations[place], table)
        rows.append(RaterRow(rater, int((~np.isnan(table.values[:, place])).sum()), same, figure, difference))
    return sorted(rows, key=lambda one: (2.0 if one.same.value is None else one.same.value, one.rater))


def _scale(table: Table) -> Numbers | None:
    """All values of the scale, where they are whole numbers close together: weights count the ones nobody gave, too."""
    known = table.values[~np.isnan(table.values)]
    if not len(known) or np.any(known != np.round(known)) or np.ptp(known) > 100:
        return None
    return np.arange(known.min(), known.max() + 1)


# ---- what they hold together


def labels(workspace: Workspace, study: str) -> list[dict[str, Any]]:
    """One record a unit: what raters hold together, each way of telling marked as such; None where there is none.

    The adjudicated value stands beside the others, never in their place.
    """
    settled = {item_id: unpacked_marks(one.marks) for item_id, one in workspace.studies.settlements(study).items()}
    generators = workspace.studies.generators(study)
    items = workspace.studies.items(study)
    found = []
    for table in tables(workspace, study).values():
        most, mean = consensus.majority(table.values), consensus.mean(table.values)
        likely, sure = _dawid_skene(table)
        for place, unit in enumerate(table.units):
            writers = [generators[unit.item_id].get(one, ("",)) for one in (unit.first, unit.second) if one]
            found.append(
                {
                    "item": unit.item_id, "name": items[unit.item_id].name, "subset": table.subsets[place],
                    "aspect": table.name,
                    "response": unit.first, "against": unit.second or None, "generators": ["+".join(one) for one in writers],
                    "raters": int((~np.isnan(table.values[place])).sum()),
                    "majority": _named(table, most[place]),
                    "mean": None if table.kind == "choice" else _number(mean[place]),
                    "dawid_skene": _named(table, likely[place]), "dawid_skene_probability": _number(sure[place]),
                    "adjudicated": _settled(table, unit, settled),
                }
            )  # fmt: skip
    return found


LABEL_COLUMNS = (
    "item", "name", "subset", "aspect", "response", "against", "generators", "raters", "majority", "mean", "dawid_skene",
    "dawid_skene_probability", "adjudicated",
)  # fmt: skip


def _dawid_skene(table: Table) -> tuple[Numbers, Numbers]:
    nothing = np.full(len(table.units), np.nan)
    if len(np.unique(table.values[~np.isnan(table.values)])) > _CATEGORIES:
        return nothing, nothing
    try:
        label, probability = consensus.dawid_skene(table.values)
    except consensus.NotInstalled:
        return nothing, nothing
    return label, probability


_CATEGORIES = 10  # values for which raters' confusions can be told from a study's answers


def _settled(table: Table, unit: Unit, settled: Mapping[str, Any]) -> Any:
    marks = settled.get(unit.item_id)
    if marks is None:
        return None
    if table.kind == "rating":
        values = [value for response, aspect, value in marks.ratings if (response, aspect) == (unit.first, table.name)]
        return values[0] if values else None
    for left, right, choice, strength in marks.preferences:
        if {left, right} == {unit.first, unit.second} and (table.kind == "choice" or strength is not None):
            about = {"item_id": unit.item_id, "left_id": left, "right_id": right, "choice": choice, "strength": strength}
            return _named(table, _compared(about, strengths=table.kind == "strength")[1])
    return None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _named(table: Table, value: float) -> Any:
    if np.isnan(value):
        return None
    if table.kind != "choice":
        return float(value)
    return {_FIRST: "first", _SECOND: "second", _TIE: "tie", _BOTH_BAD: "both bad"}[float(value)]


# ---- who writes best


class Generators(NamedTuple):
    """Generators compared: mean rating by aspect, win rates, the win matrix, Bradley-Terry strengths."""

    means: dict[str, dict[str, Figure]]
    win_rates: dict[str, Figure]
    matrix: ranking.WinMatrix | None
    strengths: dict[str, Figure]


def generators(workspace: Workspace, study: str) -> Generators:
    """How the generators do, every interval clustered by prompt. A response two generators wrote counts for both."""
    writers = workspace.studies.generators(study)
    found = tables(workspace, study)
    means = {}
    for table in found.values():
        if table.kind != "rating":
            continue
        rows = [
            (table.values[place, column], name, table.prompts[place])
            for place, unit in enumerate(table.units)
            for column in np.flatnonzero(~np.isnan(table.values[place]))
            for name in writers[unit.item_id].get(unit.first, ())
        ]
        values, names, prompts = _columns(rows, 3)
        means[table.name] = ranking.means(values.astype(float), names, prompts, _rng())
    compared = found.get(COMPARISON)
    if compared is None:
        return Generators(means, {}, None, {})
    duels = [
        (one, other, outcome(compared, compared.values[place, column]), compared.prompts[place])
        for place, unit in enumerate(compared.units)
        for column in np.flatnonzero(~np.isnan(compared.values[place]))
        for one in writers[unit.item_id].get(unit.first, ())
        for other in writers[unit.item_id].get(unit.second, ())
        if one != other
    ]
    left, right, won, prompts = _columns(duels, 4)
    rates = ranking.win_rates(left, right, won.astype(float), prompts, _rng())
    matrix = ranking.win_matrix(left, right, won.astype(float))
    strengths = ranking.bradley_terry(left, right, won.astype(float), prompts, _rng())
    return Generators(means, rates, matrix, strengths)


def outcome(table: Table, value: float) -> float:
    """What a comparison means for its first side: 1 won, 0 lost, 0.5 a tie, good or bad."""
    if table.kind == "strength":
        return 1.0 if value < 0 else 0.0 if value > 0 else 0.5
    return {_FIRST: 1.0, _SECOND: 0.0}.get(value, 0.5)


class Contradiction(NamedTuple):
    """A rater who prefers one response and rates the other higher."""

    item_id: str
    rater: str
    preferred: str
    preferred_mean: float
    other_mean: float


class SideBySide(NamedTuple):
    """Ratings and comparisons of the same raters on the same items: how many go the same way, and those that do not.

    `even` are those where the ratings or the comparison see no difference.
    """

    same: int
    against: list[Contradiction]
    even: int
    decided: tuple[tuple[str, bool], ...] = ()  # of each that tells a difference: its prompt, and whether it goes against


def side_by_side(workspace: Workspace, study: str) -> SideBySide:
    """Where ratings and comparisons contradict each other. A response's rating is the mean over what it was rated on."""
    found = tables(workspace, study)
    compared = found.get(COMPARISON)
    sums: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for table in found.values():
        if table.kind == "rating":
            for place, column in np.argwhere(~np.isnan(table.values)):
                unit = table.units[place]
                sums[unit.item_id, unit.first, table.raters[column]].append(float(table.values[place, column]))
    same, even, against = 0, 0, []
    decided: list[tuple[str, bool]] = []
    for place, column in np.argwhere(~np.isnan(compared.values)) if compared is not None else ():
        assert compared is not None
        unit, rater = compared.units[place], compared.raters[column]
        both = [sums.get((unit.item_id, one, rater)) for one in (unit.first, unit.second)]
        if not both[0] or not both[1]:
            continue
        first, second = (sum(one) / len(one) for one in both if one)
        won = outcome(compared, float(compared.values[place, column]))
        if won == 0.5 or first == second:
            even += 1
            continue
        decided.append((compared.prompts[place], (won == 1.0) != (first > second)))
        if not decided[-1][1]:
            same += 1
        else:
            preferred, means = (unit.first, (first, second)) if won == 1.0 else (unit.second, (second, first))
            against.append(Contradiction(unit.item_id, rater, preferred, *means))
    return SideBySide(same, against, even, tuple(decided))


def going_against(both: SideBySide) -> Figure:
    """Of the answers whose ratings and comparison both tell a difference, the share that tell it the other way round."""
    outcomes = np.array([float(against) for _, against in both.decided])
    return ranking.win_rate(outcomes, np.array([prompt for prompt, _ in both.decided], dtype=object), _rng())


def beside(who: Generators) -> list[dict[str, Any]]:
    """A row a generator: mean rating on each aspect, win rate and strength, each with its rank, so that it shows where the
    ways of asking rank generators differently."""
    columns = {f"mean {aspect}": found for aspect, found in who.means.items()}
    columns |= {"win rate": who.win_rates, "Bradley-Terry": who.strengths}
    columns = {name: found for name, found in columns.items() if found}
    ranks = {name: {one: place for place, (one, _) in enumerate(ranked(found), start=1)} for name, found in columns.items()}
    rows = []
    for generator in dict.fromkeys(name for found in columns.values() for name in found):
        row: dict[str, Any] = {"": generator}
        for name, found in columns.items():
            figure = found.get(generator)
            row[name] = "" if figure is None else f"{figure.words()} · rank {ranks[name][generator]}"
        rows.append(row)
    return rows


def cell(matrix: ranking.WinMatrix, one: str, other: str) -> str:
    """Wins of one generator against another: "12.5 of 20"; "" where they never met."""
    row, column = matrix.names.index(one), matrix.names.index(other)
    met = int(matrix.counts[row, column])
    return f"{matrix.wins[row, column]:g} of {met:,}" if met else ""


def ranked(strengths: Mapping[str, Figure]) -> list[tuple[str, Figure]]:
    """Generators by strength, the strongest first; those without one at the end."""
    return sorted(strengths.items(), key=lambda one: (one[1].value is None, -(one[1].value or 0), one[0]))


def described(table: Table) -> str:
    """What a table holds: "60 responses, 5 raters, 180 values"."""
    what = {"rating": "responses", "choice": "pairs of responses", "strength": "pairs of responses"}[table.kind]
    values = int((~np.isnan(table.values)).sum())
    return f"{len(table.units):,} {what}, {len(table.raters):,} raters, {values:,} values"


# ---- all of it, for a file or the command line


def report(workspace: Workspace, study: str) -> dict[str, Any]:
    """Every figure of the agreement page as plain values: see `elephant agreement STUDY --json`."""
    workspace.studies.check(study)
    questions = {}
    for name, table in tables(workspace, study).items():
        questions[name] = {
            "kind": table.kind, "units": len(table.units), "raters": len(table.raters),
            "values": int((~np.isnan(table.values)).sum()),
            "measures": {one.name: one.figure.record() for one in measures(table)},
            "subsets": {subset: figure.record() for subset, figure in by_subset(table).items()},
            "by_rater": [
                {
                    "rater": one.rater, "n": one.n, "same_as_others": one.same.record(),
                    "correlation": None if one.correlation is None else one.correlation.record(),
                    "mean_difference": None if one.mean_difference is None else one.mean_difference.record(),
                }
                for one in by_rater(table)
            ],
        }  # fmt: skip
    who, both = generators(workspace, study), side_by_side(workspace, study)
    return {
        "study": study,
        "questions": questions,
        "generators": {
            "means": {aspect: _records(found) for aspect, found in who.means.items()},
            "win_rates": _records(who.win_rates),
            "bradley_terry": _records(who.strengths),
            "win_matrix": None if who.matrix is None else {
                "names": who.matrix.names, "wins": who.matrix.wins.tolist(), "counts": who.matrix.counts.tolist()
            },
        },
        "ratings_and_comparisons": {
            "same": both.same, "against": len(both.against), "even": both.even, "share_against": going_against(both).record(),
        },
    }  # fmt: skip


def _records(figures: Mapping[str, Figure]) -> dict[str, dict[str, Any]]:
    return {name: figure.record() for name, figure in figures.items()}


def _columns(rows: Iterable[tuple[Any, ...]], count: int) -> list[np.ndarray[Any, Any]]:
    columns = list(zip(*rows, strict=True)) or [()] * count
    return [np.array(column, dtype=object if column and isinstance(column[0], str) else float) for column in columns]


def _rng() -> np.random.Generator:
    return np.random.default_rng(_SEED)  # the same answers give the same intervals
