"""What came out of alignment as rows for people and as one record for machines: `elephant alignment`, the alignment page."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from curation import outcomes, outcomes_curves, outcomes_grid, outcomes_wins
from curation.benchmark_report import p_value, signed
from curation.charts_alignment import Line
from curation.outcomes import Made
from curation.outcomes_curves import Curve
from curation.outcomes_grid import Cell, Cleaned, Dots, Measure
from curation.outcomes_wins import NOT_GOLD, Duel
from curation.pairs import Turn, unpacked
from curation.stats.figures import Figure
from curation.stats.overoptimisation import FORMS, Point
from curation.stats.winrate import Interaction
from curation.workspace import Workspace

NONE_YET = "none yet"
WINS = "Win rates against the start"
FAMILY = (
    "p is that of a win rate of 1/2: how often two that are even would be as far apart or further, were the sides of whole "
    "prompts swapped by chance. It is adjusted by Holm for all rows of this table by the same judge."
)
NOTES = {WINS: FAMILY}  # what is said under a table


class Choice(NamedTuple):
    """What of the workspace is looked at: the generators of one alignment, or of all of them."""

    alignment: str
    made: tuple[Made, ...]


def alignments(workspace: Workspace) -> list[str]:
    """The names of the grids with policies that have answered, the latest first; "" where some belong to none."""
    names = dict.fromkeys(one.alignment for one in outcomes.made(workspace).values())
    return [*reversed([one for one in names if one]), *(one for one in names if not one)]


def chosen(workspace: Workspace, alignment: str | None) -> Choice:
    """The generators of this grid; of all where it is None. Raises ValueError for a grid that has none."""
    known = list(outcomes.made(workspace).values())
    if alignment is not None and alignment not in {one.alignment for one in known}:
        there = ", ".join(one or "(no grid)" for one in alignments(workspace)) or NONE_YET
        raise ValueError(f"no alignment {alignment!r} with policies that have answered: there is {there}")
    return Choice(alignment or "", tuple(one for one in known if alignment is None or one.alignment == alignment))


def golds(workspace: Workspace, some: Sequence[Made]) -> list[str]:
    """Reward models that are gold to at least one of these, those first that are so to most; then by name."""
    found = outcomes.judges(workspace, [one for one in some if not one.aside])
    counts = {model: sum(one.gold for one in by.values()) for model, by in found.items()}
    plain = {model: model == "length" for model in counts}  # a baseline: the natural choice only where there is no other
    return sorted((one for one, count in counts.items() if count), key=lambda one: (plain[one], -counts[one], one))


def policy_rows(some: Sequence[Made]) -> list[dict[str, str]]:
    """What there is."""
    return [
        {
            "policy": one.generator, "algorithm": one.algorithm, "reward model": one.optimised or "none", "data": one.data,
            "seed": f"{one.seed}", "points": ", ".join(f"{point:,}" for point in one.points),
            "held-out prompts": f"{one.prompts:,}",
        }
        for one in some
    ]  # fmt: skip


def standing_rows(workspace: Workspace, some: Sequence[Made], models: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Of each reward model (or these) what to know of it as a judge: to which it is not gold, and prompts left out."""
    rows = []
    for model, by in outcomes.judges(workspace, some).items():
        if models is not None and model not in models:
            continue
        of: dict[str, list[str]] = {}
        for one in some:
            if one.generator not in by or one.aside:
                continue
            found, seen = by[one.generator], outcomes.learned(workspace, one, model)
            left_out = len({each.prompt_id for each in outcomes.answers(workspace, one.generator)} & seen)
            if found.why:
                of.setdefault(found.why, []).append(one.generator)
            if left_out:
                words = f"{left_out:,} of its prompts are left out, since the reward model or the policy learned from them"
                of.setdefault(words, []).append(one.generator)
        rows += [{"reward model": model, "to know": why, "of": _some(names)} for why, names in of.items()]
    return rows


def _some(names: Sequence[str], limit: int = 3) -> str:
    """A few names, and how many more there are."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit:,} more" if len(names) > limit else "")


def typical(some: Sequence[Made], limit: int) -> list[str]:
    """A few to begin with: of the algorithm, data and seed that come first, one for each reward model."""
    moved = [one for one in some if one.moved and one.kind != outcomes.BEST_OF_N] or [one for one in some if one.moved]
    first = max(moved, key=lambda one: len(one.points), default=None)
    if first is None:
        return [one.generator for one in some[:limit]]
    alike = [one for one in moved if (one.algorithm, one.data, one.seed) == (first.algorithm, first.data, first.seed)]
    return [one.generator for one in alike[:limit]]


# ---- curves


def lines(curves: Sequence[Curve], *, optimised: bool = True) -> list[Line]:
    """Curves as the chart draws them: of each policy the held-out reward, and where asked for what was optimised."""
    found = []
    for one in curves:
        if one.found is None:
            continue
        across, points = [point.d for point in one.found.points], list(one.points)
        gold = [point.gold for point in one.found.points]
        if optimised and one.optimised_known and one.model != one.made.optimised:
            proxy = [point.proxy for point in one.found.points]
            found.append(Line(one.made.generator, one.made.optimised, True, across, proxy, points))
        dotted = one.model == one.made.optimised
        found.append(Line(one.made.generator, one.model, dotted, across, gold, points, one.drawn, one.peak))
    return found


def curve_rows(curves: Sequence[Curve]) -> list[dict[str, str]]:
    """A row a policy: how far it went, both rewards at the end, and where the held-out one is highest."""
    rows = []
    for one in curves:
        row = {
            "policy": one.made.generator,
            "optimised": one.made.optimised or "no reward model",
            "KL at the end": kl_words(one),
        }
        if one.found is None:
            rows.append({**row, "optimised reward": "", one.model: f"undefined, because {one.why}", "peak": ""})
            continue
        last, peak = one.found.points[-1], one.found.words
        if not one.standing.gold:
            peak = f"{NOT_GOLD}: {one.standing.why}. {peak}"
        peak += " KL is its upper bound." if one.is_bound else ""
        rows.append({**row, "optimised reward": _optimised(one, last), one.model: last.gold.words(), "peak": peak})
    return rows


def _optimised(one: Curve, at: Point) -> str:
    """The optimised reward at a point; nothing where no reward model was optimised."""
    if one.optimised_known:
        return at.proxy.words()
    return f"undefined, because {one.made.optimised} tells nothing of these responses" if one.made.optimised else ""


def form_rows(curves: Sequence[Curve]) -> list[dict[str, str]]:
    """The forms that were fitted, d being the root of KL."""
    return [
        {"policy": one.made.generator, "form": FORMS[fit.form], "a": fit.a.words(), "b": fit.b.words(),
         "R²": "undefined" if fit.r_squared is None else f"{fit.r_squared:.2f}"}
        for one in curves
        if one.found is not None and (fit := one.found.fit).a.value is not None
    ]  # fmt: skip


def kl_words(one: Curve) -> str:
    """KL at the end, in nats a response: of best-of-n said to be a bound, with what was sampled where it was."""
    if one.found is None:
        return NONE_YET
    kl = one.found.points[-1].kl
    if not one.is_bound:
        return kl.words()
    sampled = ""
    if one.kl_sampled is not None:
        sampled = f"; of best of {one.kl_sampled.n:,}, from log-probabilities: {one.kl_sampled.kl.words()}"
    return f"at most {kl.value:.2f} (the bound of best of {one.points[-1]:,}){sampled}"


def point_rows(curves: Sequence[Curve]) -> list[dict[str, str]]:
    """Every point of every curve."""
    return [
        {
            "policy": one.made.generator, "n" if one.is_bound else "point": f"{point:,}",
            "KL": f"at most {each.kl.value or 0.0:.2f}" if one.is_bound else each.kl.words(),
            "optimised reward": _optimised(one, each), one.model: each.gold.words(),
        }
        for one in curves
        if one.found is not None
        for point, each in zip(one.points, one.found.points, strict=True)
    ]  # fmt: skip


# ---- win rates


def win_rows(workspace: Workspace, duels: Sequence[Duel], *, without: str = "") -> list[dict[str, str]]:
    """A row a comparison and judge, p adjusted for all of them by that judge: `FAMILY` says so. `without` is a column that
    says what its readers know anyway; so does one that is empty, and both would take the room of the rest."""
    known, equal = outcomes.made(workspace), any(one.at_equal_length is not None for one in duels)
    tests = outcomes_wins.adjusted(duels)
    sizes = {each.over for each in tests if each.over}
    p, over = (f"p, Holm over {max(sizes):,}", "") if len(sizes) == 1 else ("p, Holm", ", over {:,}")
    rows = [
        {
            "policy": one.one.words(known[one.one.generator]), "against": one.other.words(known[one.other.generator]),
            "judged by": one.judge if one.by == "reward model" else f"{one.judge} ({one.by})", "win rate": one.rate.words(),
            p: f"undefined, because {one.even.undefined}" if test.p is None else p_value(test.p) + over.format(test.over),
            **({"at equal length": NONE_YET if one.at_equal_length is None else one.at_equal_length.words()} if equal else {}),
            "to know": one.why,
        }
        for one, test in zip(duels, tests, strict=True)
    ]  # fmt: skip
    said = [name for name in (rows[0] if rows else ()) if name != without and any(row[name] for row in rows)]
    return [{name: row[name] for name in said} for row in rows]


def win_dots(duels: Sequence[Duel], *, equal_length: bool = False) -> dict[str, dict[str, Figure]]:
    """Win rates by judge, and then by the policy that is set against its start, or by the other one."""
    found: dict[str, dict[str, Figure]] = {}
    for one in duels:
        figure = one.at_equal_length if equal_length else one.rate
        if figure is not None:
            judge = one.judge if one.by == "reward model" else f"{one.judge} ({one.by})"
            found.setdefault(f"{judge}, not gold" if one.why.startswith(NOT_GOLD) else judge, {})[one.other.generator] = figure
    return found


# ---- quality, algorithms, cleaning


def dot_rows(found: Dots, quality: str, outcome: str) -> list[dict[str, str]]:
    """Reward models with what they are worth and what came of them."""
    return [{"reward model": name, quality: one.words(), outcome: other.words()} for name, (one, other) in found.dots.items()]


def interaction_rows(cells: Mapping[Cell, Figure]) -> list[dict[str, str]]:
    """Algorithms as rows, reward models as columns."""
    algorithms, models = (list(dict.fromkeys(cell[side] for cell in cells)) for side in (0, 1))
    return [{"algorithm": a, **{m: cells[a, m].words() if (a, m) in cells else NONE_YET for m in models}} for a in algorithms]


def beyond_rows(found: Interaction) -> list[dict[str, str]]:
    """What each cell is beyond the sum of its algorithm's and its reward model's effect."""
    rest = {cell: one.beyond_additive for cell, one in found.cells.items()}
    return interaction_rows(rest) if any(one.value is not None for one in rest.values()) else []


def interaction_words(found: Interaction) -> str:
    """Whether reward models do the same under every algorithm."""
    if found.f is None:
        return f"Whether algorithm and reward model interact is undefined, because {found.undefined}."
    seeds = next(iter(found.cells.values())).beyond_additive.n
    runs = f"{seeds * len(found.cells):,} runs ({seeds:,} seeds of each)"
    return f"Interaction of algorithm and reward model, over {runs} on these prompts: F {found.f:.2f}, p {p_value(found.p)}."


def cleaning_rows(found: Sequence[Cleaned]) -> list[dict[str, str]]:
    """The effect of cleaning, a row an algorithm and kind of reward model."""
    return [
        {
            "algorithm": one.algorithm, "made to please": one.what, "data": f"{one.release} less {one.data}",
            "original": one.original.words(), "cleaned": one.cleaned.words(), "cleaned less original": signed(one.difference),
            "seeds": f"{one.seeds}", "p": p_value(one.p), "p (Holm)": p_value(one.adjusted),
        }
        for one in found
    ]  # fmt: skip


# ---- responses


class Shown(NamedTuple):
    """A prompt with what policies answered: who at which point and what, and of each its scores and how far it is; and who did
    not answer it."""

    prompt: tuple[Turn, ...]
    responses: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    absent: tuple[str, ...]


def responses(workspace: Workspace, prompt_id: str, sides: Sequence[tuple[str, int]]) -> Shown:
    """What these generators answered to a prompt at these points, of several samples the first; of best-of-n, whose picks bear
    the number of the sample that was picked, that pick. Raises ValueError where nobody answered it."""
    turns: tuple[Turn, ...] = ()
    shown: list[tuple[str, str]] = []
    notes, absent = list[str](), list[str]()
    for generator, point in sides:
        one = outcomes.named(workspace, generator)
        found = next((row for row in workspace.policies.written(generator, point) if row.prompt_id == prompt_id), None)
        title = f"{generator}, {'its start' if one.moved and point == one.start else f'at {point:,}'}"
        if found is None:
            absent.append(title)
            continue
        turns = unpacked(found.turns)
        far = next(
            row.log_ratio
            for row in outcomes.answers(workspace, generator)
            if (row.point, row.prompt_id, row.sample) == (point, prompt_id, found.sample)
        )
        scores = [
            f"{model} {told:.3g}"
            for model in outcomes.scorers(workspace, generator)
            if (told := outcomes.score_of(workspace, model, found.response_id)) is not None
        ]
        shown.append((title, found.text))
        notes.append(" · ".join([*scores, *([f"log ratio {far:.2f} nats"] if far is not None else [])]))
    if not turns:
        raise ValueError(f"none of {', '.join(name for name, _ in sides)} has answered the prompt {prompt_id!r}")
    return Shown(turns, tuple(shown), tuple(notes), tuple(absent))


class Ordered(NamedTuple):
    """A prompt in a list to choose from: its last turn, and by how much a gold reward model's score changed on it."""

    prompt_id: str
    asked: str
    change: float | None


def prompts(workspace: Workspace, generator: str, gold: str) -> list[Ordered]:
    """The prompts a generator answered, those first on which the gold reward model's score fell most (or rose least)."""
    one = outcomes.named(workspace, generator)
    change: dict[str, float] = {}
    if gold:
        looked = outcomes.looked(workspace, generator, gold)
        if looked.raw is not None:
            change = dict(zip(looked.prompts, looked.gain(one.last).tolist(), strict=True))
    asked = {row.prompt_id: unpacked(row.turns) for row in workspace.policies.written(generator, one.last)}
    found = [
        Ordered(prompt_id, turns[-1].content if turns else "(no prompt)", change.get(prompt_id))
        for prompt_id, turns in asked.items()
    ]
    return sorted(found, key=lambda each: (each.change is None, each.change or 0.0, each.prompt_id))


# ---- all of it


class Judged(NamedTuple):
    """What is looked at, and by whom: the generators, the reward models that may judge them, the one that does, and the
    distance at which gains are compared."""

    made: tuple[Made, ...]
    golds: list[str]
    gold: str
    distance: float


def judged(workspace: Workspace, alignment: str | None, gold: str) -> Judged:
    """The generators of a grid with their judge. Raises ValueError as `chosen` does, and for a judge that none of them has."""
    some = chosen(workspace, alignment).made
    known = golds(workspace, some)
    if gold and any(one.compares for one in workspace.scores.models() if one.reward_model == gold):
        raise ValueError(f"{gold!r} compares and gives no score: its win rates stand beside those of a gold that scores")
    if gold and gold not in outcomes.judges(workspace, some):
        raise ValueError(f"{gold!r} has scored none of these responses: there is {', '.join(known) or NONE_YET}")
    gold = gold or next(iter(known), "")
    optimised = [one for one in some if one.optimised]
    distance = outcomes_grid.common_distance(workspace, optimised, gold) if gold else None
    return Judged(some, known, gold, distance or 0.0)


def parts(workspace: Workspace, alignment: str, gold: str, measure: Measure) -> dict[str, list[dict[str, str]]]:
    """Everything as tables under their titles. Raises ValueError as `judged` does."""
    some, _, gold, distance = judged(workspace, alignment, gold)
    found = {"Policies": policy_rows(some), "To know of the judge": standing_rows(workspace, some, [gold])}
    if not gold:
        return found
    curves = [outcomes_curves.curve(workspace, one, gold) for one in some if one.moved]
    wins = [duel for one in some for duel in outcomes_wins.against_start(workspace, one, models=[gold])]
    found[f"Reward against KL, by {gold}, in standard deviations of the start's scores"] = curve_rows(curves)
    found[WINS] = win_rows(workspace, wins, without="against")
    for data, cells in outcomes_grid.cells(workspace, some, gold, measure, distance=distance).items():
        on = f" on {data}" if data else ""
        found[f"Algorithm by reward model{on}: {measure} by {gold}"] = interaction_rows(
            outcomes_grid.interaction(cells, measure)
        )
    cleaned = outcomes_grid.cleaning(workspace, some, gold, measure, distance=distance)
    found[f"What cleaning does: {measure} by {gold}"] = cleaning_rows(cleaned)
    return found


def record(workspace: Workspace, alignment: str | None, gold: str = "", measure: Measure = "win rate") -> dict[str, Any]:
    """Every figure as plain values: see `elephant alignment --json`. Raises ValueError as `judged` does."""
    some, known, gold, distance = judged(workspace, alignment, gold)
    by_data = outcomes_grid.cells(workspace, some, gold, measure, distance=distance) if gold else {}
    cleaned = outcomes_grid.cleaning(workspace, some, gold, measure, distance=distance) if gold else []
    wins = [duel for one in some for duel in outcomes_wins.against_start(workspace, one)]
    return {
        "alignment": alignment, "gold": gold or None, "measure": measure, "policies": [one._asdict() for one in some],
        "to_know_of_judges": standing_rows(workspace, some),
        "curves": [outcomes_curves.curve(workspace, one, model).record() for one in some if one.moved for model in known],
        "win_rates": [
            {
                "policy": one.one._asdict(), "against": one.other._asdict(), "judge": one.judge, "by": one.by,
                "win_rate": one.rate.record(), "p": one.even.p, "p_holm": test.p, "holm_over": test.over,
                "prompts": one.even.n, "p_undefined": one.even.undefined, "to_know": one.why,
            }
            for one, test in zip(wins, outcomes_wins.adjusted(wins), strict=True)
        ],
        "algorithm_by_reward_model": [
            {"data": data, "algorithm": a, "reward_model": m, **figure.record()}
            for data, cells in by_data.items()
            for (a, m), figure in outcomes_grid.interaction(cells, measure).items()
        ],
        "cleaning": [
            {
                "algorithm": one.algorithm, "made_to_please": one.what, "data": one.data, "release": one.release,
                "seeds": one.seeds, "original": one.original.record(), "cleaned": one.cleaned.record(),
                "difference": one.difference.record(), "p": one.p, "p_holm": one.adjusted,
            }
            for one in cleaned
        ],
    }  # fmt: skip
