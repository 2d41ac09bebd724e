"""What reward models and algorithms do to a policy: quality against outcome, algorithm by reward model, and what cleaning does.

An outcome is one number a prompt for each policy, by a reward model that was held out; policies that differ by their seed alone
are averaged, and what n counts says how many seeds there were.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from curation import benchmark, outcomes, people, proxies
from curation.outcomes import Made
from curation.stats import preference_accuracy, winrate
from curation.stats.accuracy import Numbers
from curation.stats.figures import Figure
from curation.study_design import COMPARISON
from curation.workspace import Workspace

Measure = Literal["win rate", "gain", "gain at equal KL"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


# ---- one number a prompt


def middle(measure: Measure) -> float:
    """What the measure is where nothing changed."""
    return 0.5 if measure == "win rate" else 0.0


def values(workspace: Workspace, one: Made, gold: str, measure: Measure, *, distance: float = 0.0) -> dict[str, float]:
    """The outcome of a policy by prompt; none where it was not scored, or never came as far as `distance`, in sqrt(KL)."""
    if measure == "win rate":
        return outcomes.credits(workspace, one.generator, gold)
    looked = outcomes.looked(workspace, one.generator, gold)
    if looked.raw is None or not one.moved:
        return {}
    gains = looked.gain(one.last) if measure == "gain" else _at(looked, distance)
    return {} if gains is None else dict(zip(looked.prompts, gains.tolist(), strict=True))


def _at(looked: outcomes.Looked, distance: float) -> Numbers | None:
    """Gains where sqrt(KL) first reaches `distance`, on a straight line between the two points beside it, prompt by prompt."""
    across = outcomes.distances(looked)
    reached = np.flatnonzero(across >= distance - 1e-9)
    if not len(reached) or np.isnan(across).any():
        return None
    after = int(reached[0])
    if after == 0:
        return np.asarray(looked.rewards[0] - looked.rewards[0])
    share = (distance - across[after - 1]) / (across[after] - across[after - 1])
    rewards = looked.rewards[after - 1] * (1 - share) + looked.rewards[after] * share
    return np.asarray(rewards - looked.rewards[0])


def common_distance(workspace: Workspace, some: Iterable[Made], gold: str) -> float | None:
    """The largest sqrt(KL) that all of these came to; None where one has no KL."""
    reach = [outcomes.distances(outcomes.looked(workspace, one.generator, gold)) for one in some if one.moved]
    if not reach or any(np.isnan(one).any() or not len(one) for one in reach):
        return None
    return float(min(one.max() for one in reach))


# ---- over seeds


def over_seeds(columns: Sequence[Mapping[str, float]], *, nothing: str) -> Figure:
    """The mean of one number a prompt for each seed, on the prompts that all seeds have: with two seeds or more the interval is
    over seeds and prompts both (`winrate.over_seeds`), with one over prompts alone, and the figure says that it is one seed."""
    columns = [one for one in columns if one]
    if not columns:
        return Figure(None, None, None, 0, "prompts", nothing)
    table, prompts = _table(columns)
    if not prompts:
        return Figure(None, None, None, 0, "prompts", "the seeds share no prompt")
    if len(columns) > 1:
        return winrate.over_seeds(table)._replace(of=f"seeds, {len(prompts):,} prompts")
    return outcomes.mean_over_prompts(table[0], nothing)._replace(of="prompts, 1 seed")


def _table(columns: Sequence[Mapping[str, float]]) -> tuple[Numbers, list[str]]:
    """One row a column, on the prompts that all have."""
    prompts = sorted(set.intersection(*(set(one) for one in columns)))
    return np.array([[one[prompt] for prompt in prompts] for one in columns], np.float64), prompts


Cell = tuple[str, str]  # algorithm, what it was made to please
Outcomes = dict[int, dict[str, float]]  # by seed and prompt


def cells(
    workspace: Workspace, some: Sequence[Made], gold: str, measure: Measure, *, distance: float = 0.0
) -> dict[str, dict[Cell, Outcomes]]:
    """By data: of each algorithm and reward model (or way of training one), by seed, the outcomes by prompt.

    What a grid made once for all its data stands in each of them. Where a seed was run twice the later one stands.
    """
    judged = [one for one in _optimising(some) if outcomes.standing(workspace, one, gold).gold]
    data = list(dict.fromkeys(one.data for one in judged if one.data)) or [""]
    found: dict[str, dict[Cell, Outcomes]] = {each: defaultdict(dict) for each in data}
    for one in judged:
        told = values(workspace, one, gold, measure, distance=distance)
        for each in ([one.data] if one.data else data) if told else ():
            found[each][one.algorithm, one.pleases][one.seed] = told
    return {each: dict(by_cell) for each, by_cell in found.items() if by_cell}


def _optimising(some: Iterable[Made]) -> list[Made]:
    """Those that a reward model moved, as the grid meant it."""
    return [one for one in some if one.optimised and one.moved and not one.aside]


def interaction(found: Mapping[Cell, Outcomes], measure: Measure) -> dict[Cell, Figure]:
    """The outcome of each algorithm under each reward model."""
    return {cell: within(over_seeds(list(by_seed.values()), nothing=NOTHING), measure) for cell, by_seed in found.items()}


def within(figure: Figure, measure: Measure, *, change: bool = False) -> Figure:
    """The figure with an interval that stays where the measure can be: Student's does not know that a share ends at 0 and 1."""
    if measure != "win rate" or figure.low is None or figure.high is None:
        return figure
    return figure._replace(low=max(figure.low, -1.0 if change else 0.0), high=min(figure.high, 1.0))


NOTHING = "no held-out prompt has this outcome"


def beyond_additive(found: Mapping[Cell, Outcomes]) -> winrate.Interaction | None:
    """Whether a reward model does the same under every algorithm; None where nothing was run, or nothing shares a prompt."""
    runs = [(cell, seed, told) for cell, by_seed in found.items() for seed, told in by_seed.items()]
    if not runs:
        return None
    table, prompts = _table([told for _, _, told in runs])
    if not prompts:
        return None
    algorithms, models = (np.array([cell[side] for cell, _, _ in runs], dtype=object) for side in (0, 1))
    return winrate.interaction(table, algorithms, models, np.array([seed for _, seed, _ in runs]))


# ---- what cleaning does


class Cleaned(NamedTuple):
    """The outcome on a release less that on what it was made of, of one algorithm and one kind of reward model.

    `p` is that of no difference, over seeds and prompts, None for one seed; `adjusted` is Holm's over all that are told."""

    algorithm: str
    what: str  # what was pleased: a reward model, a way of training one on the data, or the labels
    data: str
    release: str
    original: Figure
    cleaned: Figure
    difference: Figure
    seeds: int
    p: float | None
    adjusted: float | None = None


def cleaning(
    workspace: Workspace, some: Sequence[Made], gold: str, measure: Measure, *, distance: float = 0.0
) -> list[Cleaned]:
    """Release minus original, paired by seed and prompt, for every algorithm and reward model (or recipe) that has both."""
    groups: dict[tuple[str, str, str], dict[str, Outcomes]] = defaultdict(lambda: defaultdict(dict))
    cleaned = {one.data: one.cleaned for one in some}
    for one in some:
        if one.moved and one.data and outcomes.standing(workspace, one, gold).gold:
            told = values(workspace, one, gold, measure, distance=distance)
            if told:
                groups[one.alignment, one.algorithm, one.pleases][one.data][one.seed] = told
    rows = []
    for (_, algorithm, what), by_data in groups.items():
        before = next((data for data in by_data if not cleaned[data]), None)
        for after in (data for data in by_data if cleaned[data] and before is not None):
            found = _cleaned(by_data[before or ""], by_data[after], measure)
            if found is not None:
                rows.append(Cleaned(algorithm, what, before or "", after, *found))
    adjusted = preference_accuracy.holm([one.p for one in rows])
    return [one._replace(adjusted=p) for one, p in zip(rows, adjusted, strict=True)]


def _cleaned(before: Outcomes, after: Outcomes, measure: Measure) -> tuple[Figure, Figure, Figure, int, float | None] | None:
    """Before, after, after less before, the number of seeds that have both, and p; None without any."""
    seeds = sorted(before.keys() & after.keys())
    if not seeds:
        return None
    apart = [
        {prompt: after[seed][prompt] - before[seed][prompt] for prompt in before[seed].keys() & after[seed].keys()}
        for seed in seeds
    ]
    one, other = (within(over_seeds([side[seed] for seed in seeds], nothing=NOTHING), measure) for side in (before, after))
    difference = within(over_seeds(apart, nothing="the two share no prompt"), measure, change=True)
    p = winrate.p_of_no_effect(_table(apart)[0])
    return one, other, difference, len(seeds), p


# ---- quality against outcome


def qualities(
    workspace: Workspace, models: Sequence[str], *, dataset: str, release: str = "", study: str = ""
) -> dict[str, dict[str, Figure]]:
    """How good reward models are, each way of telling by name and then model: what was never measured is not in it."""
    marks = (workspace.answers.mark(study) if study else None, len(workspace.releases.all()), workspace.flags.generation)
    key = ("qualities", dataset, release, study, marks, *models)
    return outcomes.kept(workspace, key, lambda: _qualities(workspace, models, dataset, release, study))


def _qualities(
    workspace: Workspace, models: Sequence[str], dataset: str, release: str, study: str
) -> dict[str, dict[str, Figure]]:
    found: dict[str, dict[str, Figure]] = {}
    for name, made_of in (("accuracy, original", ""), ("accuracy, cleaned", release)):
        if not dataset or (name == "accuracy, cleaned" and not release):
            continue
        for model in models:
            try:
                table = benchmark.table(workspace, dataset, release=made_of, models=(model,))
            except ValueError:  # it has not scored it
                continue
            found.setdefault(name, {})[model] = table.accuracy(model).half_ties
            (ranked,) = benchmark.ranking(table)
            if ranked.worst is not None and not made_of:
                found.setdefault("accuracy, worst subset", {})[model] = ranked.worst[1]
    if study:
        for name, table_of in people.tables(workspace, study).items():
            what = "agreement with people" if name == COMPARISON else f"correlation with people, {name}"
            for model in models:
                if proxies.has_scored(workspace, study, table_of, model):
                    found.setdefault(what, {})[model] = proxies.proxy(workspace, study, table_of, model).main
    return found


class Dots(NamedTuple):
    """Reward models with their quality and what came of optimising them; and the correlations of the two over them."""

    dots: dict[str, tuple[Figure, Figure]]
    correlations: winrate.Quality


def quality_and_outcome(quality: Mapping[str, Figure], outcome: Mapping[str, Figure]) -> Dots:
    """The reward models that have both."""
    dots = {name: (quality[name], outcome[name]) for name in sorted(quality.keys() & outcome.keys())}
    x, y = (np.array([_number(both[side]) for both in dots.values()], np.float64) for side in (0, 1))
    return Dots(dots, winrate.quality_against_outcome(x, y))


def _number(one: Figure) -> float:
    return np.nan if one.value is None else one.value


def by_model(
    workspace: Workspace, some: Sequence[Made], gold: str, measure: Measure, *, algorithm: str = "", distance: float = 0.0
) -> dict[str, Figure]:
    """The outcome of optimising each reward model by one algorithm, or the mean over those that all of them were run with.

    Where one was optimised on several data they are averaged. Each reward model stands for itself: one that a grid trained for
    each seed has that seed alone.
    """
    found: dict[str, dict[str, dict[int, list[dict[str, float]]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for one in _optimising(some):
        if outcomes.standing(workspace, one, gold).gold:
            told = values(workspace, one, gold, measure, distance=distance)
            if told:
                found[one.optimised][one.algorithm][one.seed].append(told)
    shared = set.intersection(*(set(one) for one in found.values())) if found else set()
    result = {}
    for model, by_algorithm in found.items():
        parts = [by_algorithm[name] for name in ([algorithm] if algorithm else sorted(shared)) if name in by_algorithm]
        seeds = sorted(set.intersection(*(set(one) for one in parts))) if parts else []
        if seeds:
            columns = [_averaged([told for one in parts for told in one[seed]]) for seed in seeds]
            result[model] = within(over_seeds(columns, nothing=NOTHING), measure)
    return result


def _averaged(some: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of several numbers a prompt, of prompts that have all of them."""
    return {prompt: float(np.mean([one[prompt] for one in some])) for prompt in set.intersection(*(set(one) for one in some))}
