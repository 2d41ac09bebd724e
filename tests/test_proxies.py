"""Reward models beside people: studies whose truth is known, every figure beside scipy on the raw records, and the verdicts."""

import csv
import gzip
import json
import shutil
from collections import defaultdict
from contextlib import closing

import numpy as np
import pytest
from scipy.stats import kendalltau, pearsonr, rankdata, spearmanr

from curation import charts_rewards, people, proxies, runs
from curation.proxies import Proxy
from curation.ratings_import import import_ratings
from curation.stats.beside_people import Beside
from curation.stats.figures import Figure
from curation.workspace import Workspace
from tests.conftest import Clock
from tests.raters import id_of
from tests.scored import give, known, prefer

pytest_plugins = ("tests.real_ratings",)

PROMPTS, WRITERS, RATERS = 100, ("haiku", "opus", "tiny"), ("ana", "ben", "cy", "dan")
NOISE = 0.8  # of a rater
BY_HAND = {"pearson": pearsonr, "spearman": spearmanr, "kendall": kendalltau}
CHANCE = {"left": 1.0, "right": 0.0, "tie": 0.5, "both bad": 0.5}


class Known:
    """The truth of the simulated studies: by response id its text, prompt, writer, true quality; and all that was said."""

    def __init__(self, seed: int = 8) -> None:
        draw = np.random.default_rng(seed)
        self.draw = draw
        self.text, self.prompt, self.writer, self.quality = {}, {}, {}, {}
        level = dict(zip(WRITERS, (0.2, 0.8, -0.9), strict=True))
        for number in range(PROMPTS):
            for writer in WRITERS:
                text = f"{writer} on {number} {'x' * int(draw.integers(1, 300))}"
                response = id_of(f"prompt {number}", text)
                self.text[response], self.prompt[response], self.writer[response] = text, number, writer
                self.quality[response] = level[writer] + draw.normal()
        self.ids = list(self.text)
        self.ratings = {
            (one, rater): float(np.clip(np.rint(50 + 15 * (self.quality[one] + draw.normal(0, NOISE))), 0, 100))
            for one in self.ids
            for rater in RATERS
            if draw.random() < 0.9
        }
        size = {one: len(self.text[one]) for one in self.ids}
        self.by_length = {
            (one, rater): float(np.rint(size[one] / 4 + draw.normal(0, 15))) for one in self.ids for rater in RATERS
        }
        pairs = [(one, other) for one in self.ids for other in self.ids if self._compared(one, other)]
        self.choices, self.strengths = {}, {}
        for left, right in pairs:
            for rater in RATERS[:3]:
                seen = self.quality[left] - self.quality[right] + draw.normal(0, NOISE)
                self.choices[left, right, rater] = (
                    draw.choice(["tie", "both bad"]) if abs(seen) < 0.15 else "left" if seen > 0 else "right"
                )
                self.strengths[left, right, rater] = int(np.clip(-np.rint(seen * 2), -3, 3))  # left much better is -3

    def _compared(self, one: str, other: str) -> bool:
        """Two of three pairs of a prompt, so that left is not always the first by id."""
        return self.prompt[one] == self.prompt[other] and WRITERS.index(self.writer[one]) + 1 == WRITERS.index(
            self.writer[other]
        )

    def noisy(self, spread: float) -> dict[str, float]:
        return {one: self.quality[one] + self.draw.normal(0, spread) for one in self.ids}


def subset(number: int) -> str:
    return "even" if number % 2 == 0 else "odd"


@pytest.fixture(scope="module")
def truth() -> Known:
    return Known()


@pytest.fixture(scope="module")
def studied(truth, tmp_path_factory):
    """Four studies, imported, and reward models with scores written by hand."""
    workspace = Workspace(tmp_path_factory.mktemp("proxies") / "workspace", clock=Clock())

    def take(study: str, header: list[str], rows: list[list[object]]) -> None:
        file = workspace.folder / f"{study}.csv"
        with file.open("w", newline="", encoding="utf-8") as lines:
            csv.writer(lines).writerows([header, *rows])
        assert import_ratings(workspace, study, file, person="lead").unused == []

    def about(one: str) -> list[object]:
        number = truth.prompt[one]
        return [f"item {number}", f"prompt {number}", subset(number)]

    def sides(left: str, right: str) -> list[object]:
        return [*about(left), truth.text[left], truth.text[right], truth.writer[left], truth.writer[right]]

    rated = ["item", "prompt", "subset", "response", "generator", "rater", "value"]
    compared = ["item", "prompt", "subset", "left", "right", "left_generator", "right_generator", "rater"]
    with closing(workspace):
        for study, said in (("quality", truth.ratings), ("long", truth.by_length)):
            rows = [[*about(one), truth.text[one], truth.writer[one], rater, value] for (one, rater), value in said.items()]
            take(study, rated, rows)
        for study, said, column in (("choice", truth.choices, "choice"), ("strength", truth.strengths, "strength")):
            rows = [[*sides(left, right), rater, value] for (left, right, rater), value in said.items()]
            take(study, [*compared, column], rows)
        give(workspace, "truth", truth.quality)
        give(workspace, "as-noisy", truth.noisy(NOISE))
        give(workspace, "noisier", truth.noisy(2.0))
        give(workspace, "random", dict(zip(truth.ids, truth.draw.normal(size=len(truth.ids)), strict=True)))
        give(workspace, "against", {one: -score for one, score in truth.noisy(NOISE).items()})
        give(workspace, "size", {one: 3.0 * len(text) - 7 for one, text in truth.text.items()})
        give(
            workspace, "partly", {one: truth.quality[one] for one in truth.ids if truth.prompt[one] < PROMPTS / 2 or one < "8"}
        )
        said = {}
        for left, right, _ in truth.choices:
            said[left, right] = 1 / (1 + np.exp(truth.quality[right] - truth.quality[left] + truth.draw.normal(0, NOISE)))
        prefer(workspace, "judge", said)
        known(workspace, "never")
        yield workspace


def table(workspace: Workspace, study: str) -> people.Table:
    (found,) = people.tables(workspace, study).values()
    return found


@pytest.fixture(scope="module")
def proxy(studied):
    held: dict[tuple[str, str], Proxy] = {}

    def of(study: str, model: str) -> Proxy:
        if (study, model) not in held:
            held[study, model] = proxies.proxy(studied, study, table(studied, study), model)
        return held[study, model]

    return of


class Raw:
    """A model's scores beside the mean ratings, from the records alone: one entry a response that was rated and scored."""

    def __init__(self, truth: Known, said: dict[tuple[str, str], float], scores: dict[str, float]) -> None:
        values = defaultdict(dict)
        for (one, rater), value in said.items():
            values[one][rater] = value
        self.ids = [one for one in values if one in scores]
        self.x = np.array([scores[one] for one in self.ids])
        self.y = np.array([np.mean(list(values[one].values())) for one in self.ids])
        self.length = np.array([len(truth.text[one]) for one in self.ids], float)
        self.prompt = np.array([truth.prompt[one] for one in self.ids])
        self.writer = np.array([truth.writer[one] for one in self.ids])
        self.by_rater = {
            rater: np.array([(scores[one], values[one][rater]) for one in self.ids if rater in values[one]]).T
            for rater in RATERS
        }


def rest(values: np.ndarray, control: np.ndarray) -> np.ndarray:
    """What a straight line in the control leaves."""
    columns = np.stack([np.ones_like(control), control], axis=1)
    return values - columns @ np.linalg.lstsq(columns, values, rcond=None)[0]


# ---- figures


@pytest.mark.parametrize("model", ["as-noisy", "partly"])
def test_every_figure_is_scipys_on_the_raw_records(studied, truth, proxy, model):
    raw = Raw(truth, truth.ratings, studied.scores.scores(model))
    found = proxy("quality", model)
    n = len(raw.ids)
    assert found.n == n == (3 * PROMPTS if model == "as-noisy" else len(studied.scores.scores("partly")))
    assert {name: one.value for name, one in found.over_all.items()} == pytest.approx(
        {name: method(raw.x, raw.y).statistic for name, method in BY_HAND.items()}
    )
    assert all((one.n, one.of) == (n, "responses") for one in found.over_all.values())
    partial = {
        "pearson": pearsonr(rest(raw.x, raw.length), rest(raw.y, raw.length)).statistic,
        "spearman": pearsonr(*(rest(rankdata(one), rankdata(raw.length)) for one in (raw.x, raw.y))).statistic,
    }
    together, of_scores, of_people = (
        kendalltau(*two).statistic for two in ((raw.x, raw.y), (raw.x, raw.length), (raw.y, raw.length))
    )
    partial["kendall"] = (together - of_scores * of_people) / np.sqrt((1 - of_scores**2) * (1 - of_people**2))
    assert {name: one.value for name, one in found.at_equal_length.items()} == pytest.approx(partial)
    several = np.isin(raw.prompt, [one for one in set(raw.prompt) if (raw.prompt == one).sum() > 1])
    inside = defaultdict(list)
    for one in set(raw.prompt[several]):
        x, y = raw.x[raw.prompt == one], raw.y[raw.prompt == one]
        inside["pearson"].append(np.stack([x - x.mean(), y - y.mean()]))
        inside["spearman"].append(np.stack([rankdata(side) - rankdata(side).mean() for side in (x, y)]))
        inside["kendall"].append(np.stack([np.sign(np.subtract.outer(side, side)).ravel() for side in (x, y)]))
    for name, parts in inside.items():
        x, y = np.concatenate(parts, axis=1)
        assert found.within[name].value == pytest.approx((x @ y) / np.sqrt((x @ x) * (y @ y)))
        assert found.within[name].n == several.sum()
    means = [[side[raw.writer == one].mean() for one in WRITERS] for side in (raw.x, raw.y)]
    for method, by_hand in BY_HAND.items():
        figure = found.by_generator[method]
        assert (figure.value, figure.low, figure.n) == (pytest.approx(by_hand(*means).statistic), None, 3)
    lead = spearmanr(raw.x, raw.y).statistic - spearmanr(raw.length, raw.y).statistic
    assert found.over_length.value == pytest.approx(lead)
    for figure in (*found.over_all.values(), *found.within.values(), *found.at_equal_length.values(), found.over_length):
        assert figure.low < figure.value < figure.high


def test_each_rater_and_each_subset_has_scipys_correlation_of_its_own(studied, truth):
    raw, of = Raw(truth, truth.ratings, studied.scores.scores("as-noisy")), table(studied, "quality")
    by_rater = proxies.by_rater(studied, "quality", of, "as-noisy")
    assert {name: (one.value, one.n) for name, one in by_rater.items()} == {
        name: (pytest.approx(spearmanr(*both).statistic), len(both[0])) for name, both in raw.by_rater.items()
    }
    by_subset = proxies.by_subset(studied, "quality", of, "as-noisy")
    assert set(by_subset) == {"even", "odd"}
    for name, figure in by_subset.items():
        inside = np.array([subset(one) == name for one in raw.prompt])
        assert figure.value == pytest.approx(spearmanr(raw.x[inside], raw.y[inside]).statistic)
        assert figure.n == inside.sum()
    assert proxies.by_subset(studied, "quality", of.only([one == "odd" for one in of.subsets]), "as-noisy") == {}


@pytest.mark.parametrize("model", ["truth", "as-noisy", "random"])
def test_the_rater_beside_a_model_that_scored_everything_is_the_human_ceiling(studied, proxy, model):
    ceiling = people.ceiling(table(studied, "quality"), "spearman").mean
    assert proxy("quality", model).beside.rater[:4] == pytest.approx(ceiling[:4])


def test_units_with_few_raters_are_not_set_beside_a_rater_but_count_elsewhere(studied, truth):
    of = table(studied, "quality")
    alone = of.values.copy()
    alone[:30, 1:] = np.nan  # one rater
    few = people.Table(of.name, of.kind, of.units, of.raters, alone, of.subsets, of.prompts)
    found = proxies.proxy(studied, "quality", few, "truth")
    assert found.beside.model.n <= 3 * PROMPTS - 30
    assert found.n == len(of.units) > found.beside.model.n


# ---- comparisons


def preferred(truth: Known, study: str) -> list[tuple[str, str, float]]:
    """What each rater's answer means for the left response: 1, 0, or 0.5 where it decides nothing."""
    if study == "choice":
        return [(left, right, CHANCE[said]) for (left, right, _), said in truth.choices.items()]
    return [(left, right, (1 - np.sign(said)) / 2) for (left, right, _), said in truth.strengths.items()]


@pytest.mark.parametrize("study", ["choice", "strength"])
@pytest.mark.parametrize("model", ["as-noisy", "size", "partly", "judge"])
def test_answers_agreed_with_are_counted_one_by_one_whoever_stood_left(studied, truth, proxy, study, model):
    scores = studied.scores.scores(model)
    judged = studied.scores.preferences(model)

    def margin(left: str, right: str) -> float | None:
        if model == "judge":
            return judged[left, right] - 0.5 if left < right else 0.5 - judged[right, left]
        return scores[left] - scores[right] if left in scores and right in scores else None

    decided = [(left, right, won) for left, right, won in preferred(truth, study) if won != 0.5]
    sides = {left < right for left, right, _ in decided}
    assert sides == {True, False}
    same = [
        (np.sign(said) + 1) / 2 if won == 1 else (1 - np.sign(said)) / 2
        for left, right, won in decided
        if (said := margin(left, right)) is not None
    ]
    found = proxy(study, model)
    assert (found.with_answers.value, found.with_answers.n) == (pytest.approx(np.mean(same)), len(same))
    assert found.main is found.with_answers
    others = defaultdict(list)
    for left, right, won in decided:
        others[left, right].append(won)
    model_share, rater_share = [], []
    for (left, right), won in others.items():
        said = margin(left, right)
        if len(won) > 1 and said is not None:
            side = (np.sign(said) + 1) / 2
            for place, own in enumerate(won):
                rest = won[:place] + won[place + 1 :]
                model_share.append(1 - np.mean(np.abs(np.array(rest) - side)))
                rater_share.append(np.mean(np.array(rest) == own))
    assert found.beside.model.value == pytest.approx(np.mean(model_share))
    assert found.beside.rater.value == pytest.approx(np.mean(rater_share))
    longer = [
        1 - abs(won - (np.sign(len(truth.text[left]) - len(truth.text[right])) + 1) / 2)
        for left, right, won in decided
        if margin(left, right) is not None
    ]
    assert found.over_length.value == pytest.approx(np.mean(same) - np.mean(longer))


def test_a_model_that_compares_says_nothing_of_single_responses(studied):
    ratings, choices = table(studied, "quality"), table(studied, "choice")
    assert not proxies.has_scored(studied, "quality", ratings, "judge")
    assert proxies.has_scored(studied, "choice", choices, "judge")
    assert np.isnan(proxies.says(studied, "quality", ratings, "judge").scores).all()
    assert not proxies.has_scored(studied, "quality", ratings, "never")
    assert proxies.has_scored(studied, "quality", ratings, "partly")


def test_a_model_that_scored_one_side_of_every_comparison_has_said_nothing_of_them(studied, truth):
    give(studied, "left-only", {left: 1.0 for left, _, _ in truth.choices if truth.writer[left] == WRITERS[0]})
    assert not proxies.has_scored(studied, "choice", table(studied, "choice"), "left-only")


# ---- verdicts


def sentence(one: Proxy) -> str:
    """The rule, written once more from its words."""
    nothing = 0.5 if one.with_answers is not None else 0.0
    main, lead, apart = one.main, one.over_length, one.beside.difference
    clauses = ["agrees with people" if main.low > nothing else "does not measurably agree with people"]
    if main.high < nothing:
        clauses = ["goes against people"]
    if one.model != "length":
        clauses.append(
            "no better than length" if lead.low <= 0 <= lead.high else f"{'better' if lead.low > 0 else 'worse'} than length"
        )
    if apart.low > 0:
        clauses.append("better than one rater does")
    elif apart.high < 0:
        clauses.append("less than one rater does")
    elif one.beside.rater.low <= nothing:
        clauses.append("one rater does not measurably agree with the others either")
    else:
        near = apart.low > (-0.05 if one.with_answers is not None else -0.1) and clauses[0] == "agrees with people"
        clauses.append("as well as one rater does" if near else "more ratings are needed to tell it from one rater")
    return "; ".join(clauses) + "."


@pytest.mark.parametrize(
    ("study", "model", "clauses"),
    [
        ("quality", "truth", ("agrees with people", "better than length", "better than one rater does")),
        ("quality", "as-noisy", ("agrees with people", "better than length", "as well as one rater does")),
        ("quality", "noisier", ("agrees with people", "better than length", "less than one rater does")),
        ("quality", "random", ("does not measurably agree with people", "no better than length", "less than one rater does")),
        ("quality", "against", ("goes against people", "worse than length", "less than one rater does")),
        ("quality", "size", ("does not measurably agree with people", "no better than length", "less than one rater does")),
        ("long", "size", ("agrees with people", "no better than length", "better than one rater does")),
        ("long", "truth", ("does not measurably agree with people", "worse than length", "less than one rater does")),
        ("choice", "truth", ("agrees with people", "better than length", None)),
        ("choice", "judge", ("agrees with people", "better than length", None)),
        ("choice", "random", ("does not measurably agree with people", "no better than length", "less than one rater does")),
        ("choice", "size", (None, "no better than length", "less than one rater does")),
        ("choice", "against", ("goes against people", "worse than length", "less than one rater does")),
        ("strength", "truth", ("agrees with people", "better than length", None)),
    ],
)
def test_the_verdict_recovers_what_was_planted_and_follows_from_the_intervals(proxy, study, model, clauses):
    one = proxy(study, model)
    told = one.verdict()
    assert told == sentence(one)
    for said, expected in zip(told.removesuffix(".").split("; "), clauses, strict=True):
        assert expected in (None, said)


def test_a_model_equal_to_the_true_quality_agrees_better_than_one_rater_who_is_the_ceiling(proxy):
    beside = proxy("quality", "truth").beside
    assert beside.model.low > beside.rater.value
    assert beside.difference.value == pytest.approx(beside.model.value - beside.rater.value)
    assert proxy("quality", "size").over_length == (
        0.0,
        0.0,
        0.0,
        3 * PROMPTS,
        "responses",
        "",
    )  # the same order: known, not estimated
    assert proxy("choice", "size").over_length[:3] == (0.0, 0.0, 0.0)


def figure(low: float | None, high: float | None) -> Figure:
    value = 0.0 if low is None or high is None else (low + high) / 2
    return Figure(value, low, high, 50, "responses", "" if low is not None else "every redraw gives the same value")


@pytest.mark.parametrize(
    ("main", "lead", "apart", "told"),
    [
        ((0.1, 0.3), (0.1, 0.2), (0.01, 0.2), "agrees with people; better than length; better than one rater does."),
        ((0.1, 0.3), (-0.1, 0.2), (-0.04, 0.2), "agrees with people; no better than length; as well as one rater does."),
        ((0.1, 0.3), (-0.3, -0.1), (-0.09, -0.01), "agrees with people; worse than length; less than one rater does."),
        (
            (0.1, 0.3), (0.0, 0.1), (-0.1, 0.2),
            "agrees with people; no better than length; more ratings are needed to tell it from one rater.",
        ),
        ((0.0, 0.3), (0.1, 0.2), (None, None), "does not measurably agree with people; better than length."),
        (
            (-0.3, 0.0), (0.1, 0.2), (-0.04, 0.0),
            "does not measurably agree with people; better than length; more ratings are needed to tell it from one rater.",
        ),
        ((-0.3, -0.1), (None, None), (None, None), "goes against people."),
        (
            (None, None), (None, None), (None, None),
            "whether it agrees with people cannot be told, because every redraw gives the same value.",
        ),
    ],
)  # fmt: skip
def test_each_clause_is_read_from_its_interval(main, lead, apart, told):
    beside = Beside(figure(0.1, 0.2), figure(0.1, 0.2), figure(*apart))
    rated = Proxy("m", "t", {"spearman": figure(*main)}, {}, {}, {}, None, beside, figure(*lead), 50)
    assert rated.verdict() == told
    if main[0] is not None:
        half, rater = figure(main[0] + 0.5, main[1] + 0.5), figure(0.6, 0.7)
        compared = Beside(figure(0.6, 0.7), rater, figure(*apart))
        assert Proxy("m", "t", {}, {}, {}, {}, half, compared, figure(*lead), 50).verdict() == told


def test_of_shares_one_rater_is_nearer_and_a_rater_who_agrees_with_nobody_is_nobody_to_be_as_good_as():
    def verdict(rater, apart, *, shares):
        beside = Beside(figure(0.6, 0.7), rater, figure(*apart))
        main, over_all = (figure(0.6, 0.7), {}) if shares else (None, {"spearman": figure(0.6, 0.7)})
        return Proxy("m", "t", over_all, {}, {}, {}, main, beside, figure(None, None), 50).verdict()

    assert verdict(figure(0.6, 0.7), (-0.09, 0.2), shares=False) == "agrees with people; as well as one rater does."
    needed = "agrees with people; more ratings are needed to tell it from one rater."
    assert verdict(figure(0.6, 0.7), (-0.09, 0.2), shares=True) == needed
    neither = "agrees with people; one rater does not measurably agree with the others either."
    assert verdict(figure(0.48, 0.6), (-0.01, 0.2), shares=True) == neither
    assert verdict(figure(-0.1, 0.3), (-0.01, 0.2), shares=False) == neither
    assert verdict(figure(None, None), (-0.01, 0.2), shares=False) == neither


def test_length_itself_is_not_set_beside_length():
    beside = Beside(*[figure(0.1, 0.2)] * 3)
    one = Proxy("length", "t", {"spearman": figure(0.1, 0.2)}, {}, {}, {}, None, beside, figure(0.0, 0.0), 50)
    assert one.verdict() == "agrees with people; better than one rater does."
    for words in (
        "agrees",
        "goes against people",
        "does not measurably agree",
        "better",
        "worse",
        "no better",
        "less",
        "−0.1",
        "−0.05",
    ):
        assert words in proxies.RULE


# ---- reading, ranking, records


def test_disagreements_are_the_units_furthest_apart_in_rank(studied, truth):
    of = table(studied, "quality")
    told = proxies.says(studied, "quality", of, "partly")
    raw = Raw(truth, truth.ratings, studied.scores.scores("partly"))
    apart = (rankdata(raw.x) - rankdata(raw.y)) / len(raw.ids)
    found = proxies.disagreements(told, of, limit=12)
    assert [abs(one.apart) for one in found] == pytest.approx(sorted(np.abs(apart), reverse=True)[:12])
    for one in found:
        place = raw.ids.index(one.unit.first)
        assert (one.score, one.people, one.apart) == (raw.x[place], pytest.approx(raw.y[place]), pytest.approx(apart[place]))
    nothing = proxies.Says(np.full(3, np.nan), np.zeros(3), np.zeros(3))
    assert proxies.disagreements(nothing, of) == []


def test_rows_come_the_nearest_to_people_first(proxy):
    found = proxies.rows([proxy("quality", one) for one in ("random", "against", "truth", "as-noisy")])
    assert [row["reward model"] for row in found] == ["truth", "as-noisy", "random", "against"]
    assert found[0]["model less rater"] == proxy("quality", "truth").beside.difference.words()
    (row,) = proxies.rows([proxy("choice", "judge")])
    assert row["agrees with answers"] == proxy("choice", "judge").with_answers.words()
    assert "Pearson, all" not in row


def test_the_record_is_json_with_every_figure_of_what_was_scored(studied, proxy):
    found = proxies.record(studied, "quality", ["truth", "never", "judge"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    ((name, models),) = found.items()
    assert (name, set(models)) == ("overall", {"truth"})
    one, told = proxy("quality", "truth"), models["truth"]
    assert told["verdict"] == one.verdict()
    assert told["over_all"] == {method: figure.record() for method, figure in one.over_all.items()}
    assert told["generators"] == {method: figure.record() for method, figure in one.by_generator.items()}
    assert set(told["raters"]) == set(RATERS)
    assert set(told["subsets"]) == {"even", "odd"}
    assert told["beside_the_others"]["difference"] == one.beside.difference.record()
    (compared,) = proxies.record(studied, "choice", ["judge", "never"]).values()
    assert set(compared) == {"judge"}
    assert json.loads(json.dumps(compared, allow_nan=False)) == compared


def test_a_point_of_the_scatter_is_the_unit_it_came_from(studied):
    of = table(studied, "quality")
    told = proxies.says(studied, "quality", of, "partly")
    chart = charts_rewards.against_people(told.scores, told.people, names=["<b>"] * len(of.units), score="s", rating="r")
    points = chart.data[-1]
    assert len(points.x) == len(studied.scores.scores("partly"))
    for x, y, (place, name) in zip(points.x, points.y, points.customdata, strict=True):
        assert (told.scores[int(place)], told.people[int(place)]) == (x, y)
        assert name == "&lt;b&gt;"


# ---- a published study


def test_length_beside_the_raters_of_squality(real_squality, data, tmp_path, at_once):
    folder = tmp_path / "workspace"
    shutil.copytree(real_squality.folder, folder)
    with gzip.open(data / "ratings" / "squality.csv.gz", "rt", encoding="utf-8", newline="") as file:
        said = [row for row in csv.DictReader(file) if row["aspect"] == "overall"]
    values, sizes = defaultdict(list), {}
    for row in said:
        values[row["item_id"], row["generator"]].append(float(row["value"]))
        sizes[row["item_id"], row["generator"]] = len(row["response"])
    x, y = np.array([(sizes[one], np.mean(values[one])) for one in values]).T
    with closing(Workspace(folder)) as workspace:
        runs.start_run(workspace, "score", {"reward_model": "length", "study": "squality"})
        assert runs.settle(workspace)
        assert workspace.scores.counts()["length"][0] == len({row["response"] + row["item_id"] for row in said})
        tables = people.tables(workspace, "squality")
        assert set(tables) == {"correctness", "overall", "selection"}
        one = proxies.proxy(workspace, "squality", tables["overall"], "length")
        assert one.n == 300
        assert {name: figure.value for name, figure in one.over_all.items()} == pytest.approx(
            {name: method(x, y).statistic for name, method in BY_HAND.items()}
        )
        assert one.at_equal_length["pearson"].value is None  # nothing of length is left once length is set aside
        assert one.over_length[:3] == (0.0, 0.0, 0.0)
        assert one.beside.rater[:3] == pytest.approx(people.ceiling(tables["overall"], "spearman").mean[:3])
        assert one.verdict() == sentence(one)
        told = proxies.says(workspace, "squality", tables["overall"], "length")
        assert np.array_equal(told.scores, told.lengths)
        assert {figure.n for figure in one.by_generator.values()} == {3}
        assert one.by_generator["pearson"].value is not None
