"""What came out of alignment, on policies whose scores were planted: against brute force, through the store, end to end."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import permutation_test
from statsmodels.stats.multitest import multipletests

from curation import outcomes, outcomes_curves, outcomes_grid, outcomes_report, outcomes_wins, run_views, runs
from curation.benchmark_report import p_value
from curation.cli_outcomes import alignment as command
from curation.outcomes_wins import Side
from curation.pairs import unpacked
from curation.stats import best_of_n
from curation.store.scores import RewardModel
from curation.workspace import Workspace
from tests.aligned import aligned, asked, samples_file
from tests.conftest import Clock, import_rows, numbered
from tests.raters import answer_all, item, set_up
from tests.scored import give, known, prefer
from training.policy_settings import PolicySettings
from training.run import Run

PROMPTS = asked(12)
RNG = np.random.default_rng(5)
HARD = RNG.normal(0, 1, 40)
NOISE = RNG.normal(0, 0.3, (40, 201, 3))


def proxy(p, point, s=0, *_):
    return HARD[p] + 0.3 * np.sqrt(point) + NOISE[p, point, s]


def gold(p, point, s=0, *_):
    return 0.5 * HARD[p] - 0.02 * point + 0.1 * np.sqrt(point) + NOISE[p, -point - 1, s]


def cell(algorithm="ppo", model="proxy", data="small", seed=0, recipe="", **more):
    return {
        "alignment": "grid", "algorithm": algorithm, "reward_model": model, "recipe": recipe, "data": data, "seed": seed, **more
    }  # fmt: skip


def made(workspace, name):
    return outcomes.named(workspace, name)


# ---- what a reward model says of a policy


def test_rewards_are_in_standard_deviations_of_the_starts_responses_and_paired_by_prompt(workspace):
    aligned(workspace, "one", {"proxy": proxy, "gold": gold}, prompts=PROMPTS, points=(0, 4, 9), samples=2, optimised="proxy")
    looked = outcomes.looked(workspace, "one", "gold")
    start = np.array([[gold(p, 0, s) for s in (0, 1)] for p in range(12)])
    end = np.array([[gold(p, 9, s) for s in (0, 1)] for p in range(12)])
    place = {one.prompt_id: number for number, one in enumerate(PROMPTS)}
    order = [place[prompt] for prompt in looked.prompts]
    assert sorted(order) == list(range(12))
    np.testing.assert_allclose(looked.gain(9), ((end - start).mean(axis=1) / start.std(ddof=1))[order])
    np.testing.assert_allclose(looked.kl[:, 0], [0.0, 0.4, 0.9])
    np.testing.assert_allclose(outcomes.distances(looked), np.sqrt([0.0, 0.4, 0.9]))


def test_prompts_that_the_judge_or_the_policy_learned_from_are_left_out_and_counted(workspace):
    import_rows(workspace, numbered(3))
    pairs = [pair_id for _, pair_id, _, _ in workspace.pairs.rows_in_order("small")]
    workspace.scores.register(
        RewardModel("gold", "classifier", "{}", False, "", "", "", 0, "", "lead", workspace.clock()), trained_on=pairs[:1]
    )
    seen = workspace.pairs.pair(pairs[0])
    (learned,) = [one for one in asked(1, "Question") if one]
    prompts = [*PROMPTS[:4], learned._replace(prompt_id=seen.prompt_id)]
    aligned(workspace, "one", {"proxy": proxy, "gold": gold}, prompts=prompts, optimised="proxy", learned=PROMPTS[:1])
    looked = outcomes.looked(workspace, "one", "gold")
    assert set(looked.prompts) == {one.prompt_id for one in PROMPTS[1:4]}
    assert looked.learned == 2
    (row,) = outcomes_report.standing_rows(workspace, [made(workspace, "one")], ["gold"])
    assert "2 of its prompts are left out" in row["to know"]
    duels = outcomes_wins.against_start(workspace, made(workspace, "one"))
    assert {one.judge: one.rate.n for one in duels} == {"gold": 3, "proxy": 4}


@pytest.mark.parametrize(
    ("model", "gold", "why"),
    [
        ("shares", False, "it shares members with both, which was optimised"),
        ("proxy", False, "it is the reward model that was optimised"),
        ("twin", False, "it has the weights of proxy, which was optimised"),
        ("part", False, "proxy, which was optimised, is a member of it"),
        ("other", True, ""),
    ],
)
def test_who_may_judge_as_gold(workspace, model, gold, why):
    def register(name, family="classifier", settings="{}", fingerprint=""):
        at = workspace.clock()
        workspace.scores.register(RewardModel(name, family, settings, False, "", fingerprint, "", 0, "", "lead", at))

    register("proxy", settings='{"source": "here"}', fingerprint="abc")
    register("twin", fingerprint="abc")
    register("part", "ensemble", json.dumps({"members": [{"family": "classifier", "source": "here"}]}), "def")
    register("other", fingerprint="ghi")
    first, second, third = ({"family": "classifier", "source": name} for name in ("first", "second", "third"))
    register("both", "ensemble", json.dumps({"members": [first, second]}), "1+2")
    register("shares", "ensemble", json.dumps({"members": [second, third]}), "2+3")
    aligned(workspace, "one", dict.fromkeys(("proxy", "twin", "part", "other"), proxy), optimised="proxy")
    aligned(workspace, "two", {"shares": proxy}, optimised="both")
    whose = "two" if model == "shares" else "one"
    found = outcomes.judges(workspace, [made(workspace, whose)])[model][whose]
    assert (found.gold, found.why) == (gold, why)
    assert ("other" in outcomes_report.golds(workspace, [made(workspace, "one")])) is True


def test_a_start_whose_scores_are_all_alike_is_undefined_and_says_why(workspace):
    aligned(workspace, "one", {"flat": lambda p, point, s: float(point > 0)}, prompts=PROMPTS)
    curve = outcomes_curves.curve(workspace, made(workspace, "one"), "flat")
    assert (curve.found, curve.why) == (None, "all responses of the start score the same")
    assert "undefined, because all responses" in outcomes_report.curve_rows([curve])[0]["flat"]
    (duel,) = outcomes_wins.against_start(workspace, made(workspace, "one"))
    assert (duel.rate.value, duel.rate.n) == (1.0, 12)


# ---- curves


def test_a_planted_over_optimisation_is_found_through_the_store(workspace):
    points, prompts, a, b = (0, 1, 3, 6, 10, 15, 21, 28), asked(40), 0.9, 0.45
    distance = dict(zip(points, np.linspace(0, 5, len(points)), strict=True))
    peak = np.exp(a / b - 1)

    def planted(p, point, s):
        d = distance[point]
        return HARD[p] + (d * (a - b * np.log(d)) if d else 0.0) + NOISE[p, point, s]

    aligned(
        workspace, "one", {"proxy": lambda p, point, s: HARD[p] + distance[point] + NOISE[p, point, 2], "gold": planted},
        points=points, prompts=prompts, kl=lambda p, point: float(distance[point] ** 2), optimised="proxy",
    )  # fmt: skip
    curve = outcomes_curves.curve(workspace, made(workspace, "one"), "gold")
    assert curve.found is not None
    assert curve.found.verdict == "over-optimised"
    at = curve.found.peak.d
    assert at.low < peak < at.high
    assert at.n == 40
    assert [one.proxy.value for one in curve.found.points] == sorted(one.proxy.value for one in curve.found.points)
    (dotted, held_out) = outcomes_report.lines([curve])
    assert (dotted.reward, dotted.optimised, held_out.reward, held_out.optimised) == ("proxy", True, "gold", False)
    assert [one.optimised for one in outcomes_report.lines([curve], optimised=False)] == [False]
    (row,) = outcomes_report.curve_rows([curve])
    assert row["KL at the end"].startswith("25.00")
    assert "Gold peaks at KL" in row["peak"]
    assert len(outcomes_report.point_rows([curve])) == len(points)


def test_best_of_n_is_told_for_every_n_from_all_samples_and_its_kl_said_to_be_a_bound(workspace):
    scores = {name: np.random.default_rng(seed).normal(0, 1, (12, 16)) for seed, name in enumerate(("proxy", "gold"))}
    scores["gold"] += scores["proxy"]
    chosen = {n: scores["proxy"][:, :n].argmax(axis=1) for n in (1, 4, 16)}
    by = {name: (lambda p, n, s, who, v=values: v[p, chosen[n][p]]) for name, values in scores.items()}
    run = aligned(
        workspace, "bon", by, prompts=PROMPTS, points=(1, 4, 16), picked=("proxy",), kind="best-of-n", kl=lambda p, n: None,
        text=lambda p, n, s, who: f"sample {chosen[n][p]} to {p}",
    )  # fmt: skip
    one = made(workspace, "bon/proxy")
    assert outcomes_curves.curve(workspace, one, "gold").why == "its samples are not kept on this machine"
    samples_file(run, PROMPTS, scores)
    workspace.scores.generation += 1
    curve = outcomes_curves.curve(workspace, one, "gold")
    values = (scores["gold"] - scores["gold"].mean()) / scores["gold"].std(ddof=1)
    exact = best_of_n.expected_best(scores["proxy"], values, curve.points)
    np.testing.assert_allclose([each.gold.value for each in curve.found.points], (exact - exact[:, :1]).mean(axis=0), atol=1e-9)
    assert curve.points[-1] == 16
    best = values[np.arange(12), scores["proxy"].argmax(axis=1)]
    np.testing.assert_allclose(curve.found.points[-1].gold.value, (best - values.mean(axis=1)).mean())
    assert curve.is_bound
    np.testing.assert_allclose(curve.found.points[-1].kl.value, np.log(16) - 15 / 16)
    assert outcomes_report.kl_words(curve) == "at most 1.84 (the bound of best of 16)"
    assert {row["KL"].startswith("at most") for row in outcomes_report.point_rows([curve])} == {True}
    assert outcomes_report.curve_rows([curve])[0]["peak"].endswith("KL is its upper bound.")
    samples_file(run, PROMPTS, scores, log_p=np.full((12, 16), -30.0))
    workspace.scores.generation += 1
    sampled = outcomes_curves.curve(workspace, one, "gold").kl_sampled
    assert sampled.n == 4
    assert 0 < sampled.kl.value <= np.log(4) - 3 / 4 + 1e-9  # no response has a mass of its own: as good as the bound
    assert "of best of 4, from log-probabilities" in outcomes_report.kl_words(outcomes_curves.curve(workspace, one, "gold"))


def test_a_policy_whose_kl_was_not_measured_has_no_curve_and_says_so(workspace):
    aligned(workspace, "one", {"proxy": proxy, "gold": gold}, prompts=PROMPTS, optimised="proxy", kl=lambda p, point: None)
    assert outcomes_curves.curve(workspace, made(workspace, "one"), "gold").why == (
        "its KL from the start was not measured at every point"
    )
    assert outcomes_grid.common_distance(workspace, [made(workspace, "one")], "gold") is None


def test_an_optimised_reward_that_is_not_known_is_not_told_as_if_it_were(workspace):
    """Gold alone has scored the first, and the second optimised nothing: neither has a proxy to show."""
    for name, optimised in (("one", "proxy"), ("two", "")):
        aligned(workspace, name, {"gold": gold}, prompts=PROMPTS, points=(0, 4, 9), optimised=optimised)
    known(workspace, "proxy")
    for name, words in (("one", "undefined, because proxy tells nothing of these responses"), ("two", "")):
        curve = outcomes_curves.curve(workspace, made(workspace, name), "gold")
        (row,) = outcomes_report.curve_rows([curve])
        assert row["optimised reward"] == words
        assert row["gold"] == curve.found.points[-1].gold.words()
        assert {one["optimised reward"] for one in outcomes_report.point_rows([curve])} == {words}
        assert [one.reward for one in outcomes_report.lines([curve])] == ["gold"]
        assert [one["proxy"] for one in curve.record()["points"]] == [None] * 3


def test_what_is_kept_is_made_anew_when_anything_comes_in_and_the_rest_dropped(workspace):
    aligned(workspace, "one", {"gold": gold}, prompts=PROMPTS)
    assert outcomes_report.golds(workspace, [made(workspace, "one")]) == ["gold"]
    assert outcomes.kept(workspace, ("answers", "one"), list) != []  # kept: not made again
    aligned(workspace, "two", {}, prompts=PROMPTS)  # without any score
    assert set(outcomes.made(workspace)) == {"one", "two"}
    give(workspace, "late", {one.response_id: float(n) for n, one in enumerate(outcomes.answers(workspace, "two"))})
    assert outcomes.scorers(workspace, "two") == ["late"]
    since, held = workspace.held["outcomes"]
    assert (since, ("scorers", "one") in held) == (workspace.scores.generation, False)


# ---- win rates


def test_win_rates_are_those_counted_by_hand(workspace):
    aligned(
        workspace,
        "one",
        {"gold": gold},
        prompts=PROMPTS,
        points=(0, 9),
        samples=3,
        tokens=lambda p, point, s: 5 + point + p % 3,
    )
    (duel,) = outcomes_wins.against_start(workspace, made(workspace, "one"), equal_length=True)
    won = [float(gold(p, 9, s) > gold(p, 0, t)) for p in range(12) for s in range(3) for t in range(3)]
    assert duel.rate.value == pytest.approx(np.mean(won))
    assert (duel.rate.n, duel.by, duel.judge) == (108, "reward model", "gold")
    assert duel.rate.low < duel.rate.value < duel.rate.high
    assert np.mean(list(outcomes.credits(workspace, "one", "gold").values())) == pytest.approx(np.mean(won))
    assert duel.at_equal_length is not None
    (row,) = outcomes_report.win_rows(workspace, [duel])
    assert row["against"] == "one, start"
    assert "n=108 comparisons" in row["win rate"]
    ahead = np.array(won).reshape(12, 9).mean(axis=1) - 0.5
    alone = permutation_test((ahead,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert duel.even == (pytest.approx(alone), 12, "")
    assert row["p, Holm over 1"] == p_value(alone)
    assert list(row) == ["policy", "against", "judged by", "win rate", "p, Holm over 1", "at equal length"]  # nothing to know
    assert "against" not in outcomes_report.win_rows(workspace, [duel], without="against")[0]


def test_twice_the_same_text_is_a_tie(workspace):
    aligned(workspace, "one", {"gold": lambda p, point, s: float(p)}, prompts=PROMPTS, text=lambda p, point, s: f"to {p}")
    (duel,) = outcomes_wins.against_start(workspace, made(workspace, "one"))
    assert duel.rate.value == 0.5
    aligned(workspace, "two", {"gold": gold}, prompts=PROMPTS)
    rows = outcomes_report.win_rows(workspace, [duel, *outcomes_wins.against_start(workspace, made(workspace, "two"))])
    assert rows[0]["p, Holm over 1"] == "undefined, because the two are even on every prompt"  # and is none of the family
    assert rows[1]["p, Holm over 1"].startswith("0.")


def test_win_rates_shown_together_are_held_to_holm_judge_by_judge(workspace):
    for number, name in enumerate(("one", "two", "three")):
        by = {"gold": lambda p, point, s, n=number: HARD[p] * point + n * point / 9}
        aligned(workspace, name, by if name == "three" else {**by, "proxy": proxy}, prompts=PROMPTS)
    shown = [duel for name in ("one", "two", "three") for duel in outcomes_wins.against_start(workspace, made(workspace, name))]
    for judge, over in (("gold", 3), ("proxy", 2)):
        family = [place for place, one in enumerate(shown) if one.judge == judge]
        expected = multipletests([shown[place].even.p for place in family], method="holm")[1]
        told = [outcomes_wins.adjusted(shown)[place] for place in family]
        assert told == [(pytest.approx(p), over) for p in expected]
        rows = [outcomes_report.win_rows(workspace, shown)[place] for place in family]
        assert [row["p, Holm"] for row in rows] == [f"{p_value(p)}, over {over}" for p in expected]
    assert {one["judge"]: one["holm_over"] for one in outcomes_report.record(workspace, "")["win_rates"]} == {
        "gold": 3, "proxy": 2,
    }  # fmt: skip
    others = outcomes_wins.against_others(workspace, made(workspace, "one"), list(outcomes.made(workspace).values()))
    assert {(one.judge, test.over) for one, test in zip(others, outcomes_wins.adjusted(others), strict=True)} == {
        ("gold", 2), ("proxy", 0),
    }  # fmt: skip
    assert "p, Holm over 2" in outcomes_report.win_rows(workspace, others)[0]
    even = [one for one in others if one.judge == "proxy"]
    assert {row["p, Holm"] for row in outcomes_report.win_rows(workspace, even)} == {
        "undefined, because the two are even on every prompt"
    }
    assert outcomes_wins.adjusted([]) == outcomes_report.win_rows(workspace, []) == []


def test_people_and_a_judge_stand_beside_reward_models(workspace):
    for name, extra in (("one", 0.0), ("two", 0.3)):
        aligned(workspace, name, {"gold": lambda p, point, s, more=extra: gold(p, point, s) + more * point}, prompts=PROMPTS)
    texts = {name: {one.prompt_id: one for one in workspace.policies.written(name, 10)} for name in ("one", "two")}
    ids = [one.prompt_id for one in PROMPTS]
    rows = [
        item(n, {"a": texts["one"][prompt].text, "b": texts["two"][prompt].text})._replace(
            prompt=unpacked(texts["one"][prompt].turns)
        )
        for n, prompt in enumerate(ids[:8])
    ]
    set_up(workspace, rows, "people", protocol="compare", aspects=(), overlap=2)
    likes_two = {texts["two"][prompt].text for prompt in ids[:6]}

    def prefers(card, _):
        ones = [text.startswith("one") for text in card.texts]
        return 1 + ones.index(not set(card.texts) & likes_two)

    for person in ("ana", "ben"):
        answer_all(workspace, "people", person, prefers)
    says = {(texts["one"][prompt].response_id, texts["two"][prompt].response_id): 0.2 for prompt in ids}
    prefer(workspace, "pairwise", says)
    one, two = made(workspace, "one"), made(workspace, "two")
    duels = {each.judge: each for each in outcomes_wins.against_others(workspace, one, [one, two])}
    assert {name: one.by for name, one in duels.items()} == {"gold": "reward model", "pairwise": "judge", "people": "people"}
    assert duels["people"].rate.value == pytest.approx(2 / 8)
    assert (duels["people"].rate.n, duels["people"].why) == (8, "2 raters; of several answers the mean")
    assert set(outcomes_report.win_dots(list(duels.values()))) == {"gold", "pairwise (judge)", "people (people)"}
    assert duels["pairwise"].rate.value == pytest.approx(0.2)
    turned = outcomes_wins.duels(workspace, Side("two", 10), Side("one", 10))
    assert {one.judge: pytest.approx(1 - (one.rate.value or 0)) for one in turned} == {
        name: one.rate.value for name, one in duels.items()
    }


# ---- the grid


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """Two algorithms, two reward models, original and release, three seeds; a gain that depends on all four."""
    folder = tmp_path_factory.mktemp("planted") / "workspace"
    with closing(Workspace(folder, clock=Clock())) as workspace:
        for (algorithm, slope), (model, worth), (data, more), seed in product(
            (("ppo", 0.1), ("dpo", 0.05)), (("good", 1.0), ("bad", -0.5)), (("small", 0.0), ("release:clean", 0.4)), range(3)
        ):

            def judged(p, point, s, gain=slope * (worth + more), seed=seed):
                return HARD[p] + point * (gain + 0.01 * seed) + NOISE[p, seed, s]

            aligned(
                workspace, f"{algorithm}-{model}-{'c' if more else 'o'}-{seed}",
                {model: lambda p, point, s: HARD[p] + point, "gold": judged}, prompts=PROMPTS, optimised=model,
                seed=seed, cell=cell(algorithm, model, data, seed), points=(0, 5, 10), kind=algorithm,
            )  # fmt: skip
    return folder


@pytest.fixture
def grid(planted, tmp_path) -> Iterator[Workspace]:
    """A copy of it."""
    opened = Workspace(Path(shutil.copytree(planted, tmp_path / "workspace")), clock=Clock())
    yield opened
    opened.close()


def spread_of(seed):
    return np.std([HARD[p] + NOISE[p, seed, 0] for p in range(12)], ddof=1)


def test_the_table_of_algorithms_and_reward_models_is_what_was_planted(grid):
    some = outcomes_report.chosen(grid, "grid").made
    found = outcomes_grid.cells(grid, some, "gold", "gain")
    assert {data: set(cells) for data, cells in found.items()} == {
        data: {(a, m) for a in ("ppo", "dpo") for m in ("good", "bad")} for data in ("small", "release:clean")
    }
    told = outcomes_grid.interaction(found["small"], "gain")["ppo", "bad"]
    assert told.value == pytest.approx(np.mean([10 * (0.1 * -0.5 + 0.01 * seed) / spread_of(seed) for seed in range(3)]))
    assert (told.n, told.of) == (3, "seeds, 12 prompts")
    assert told.low < told.value < told.high
    beyond = outcomes_grid.beyond_additive(found["small"])
    assert beyond is not None
    assert beyond.p is not None
    assert sum(one.beyond_additive.value for one in beyond.cells.values()) == pytest.approx(0.0)
    assert len(outcomes_report.beyond_rows(beyond)) == 2
    assert "over 12 runs (3 seeds of each)" in outcomes_report.interaction_words(beyond)


def test_a_win_rate_never_leaves_0_to_1(grid):
    some = outcomes_report.chosen(grid, "grid").made
    for cells in outcomes_grid.cells(grid, some, "gold", "win rate").values():
        for figure in outcomes_grid.interaction(cells, "win rate").values():
            assert 0 <= (figure.low or 0) <= figure.value <= (figure.high or 1) <= 1


def test_what_cleaning_does_is_paired_by_seed_and_prompt(grid):
    some = outcomes_report.chosen(grid, "grid").made
    rows = {(one.algorithm, one.what): one for one in outcomes_grid.cleaning(grid, some, "gold", "gain")}
    assert set(rows) == {(a, m) for a in ("ppo", "dpo") for m in ("good", "bad")}
    one = rows["dpo", "good"]
    assert one.difference.value == pytest.approx(np.mean([10 * 0.05 * 0.4 / spread_of(seed) for seed in range(3)]))
    assert (one.data, one.release, one.seeds, one.difference.n) == ("small", "release:clean", 3, 3)
    assert one.cleaned.value - one.original.value == pytest.approx(one.difference.value)
    alone = outcomes_grid.cleaning(grid, [m for m in some if m.seed == 0 or not m.cleaned], "gold", "gain")[0]
    assert (alone.seeds, alone.p, alone.adjusted) == (1, None, None)


def test_the_effects_of_cleaning_are_many_and_held_to_holm(grid):
    found = outcomes_grid.cleaning(grid, outcomes_report.chosen(grid, "grid").made, "gold", "gain")
    assert len(found) == 4
    assert [(one.p < 0.05) for one in found] == [not one.difference.low <= 0 <= one.difference.high for one in found]
    assert [one.adjusted for one in found] == pytest.approx(multipletests([one.p for one in found], method="holm")[1])
    assert [row["p (Holm)"] for row in outcomes_report.cleaning_rows(found)] == [p_value(one.adjusted) for one in found]


def test_gains_at_equal_kl_lie_on_the_line_between_two_points(grid):
    some = outcomes_report.chosen(grid, "grid").made
    one = made(grid, "ppo-good-o-0")
    told = outcomes_grid.values(grid, one, "gold", "gain at equal KL", distance=np.sqrt(0.5) / 2)
    np.testing.assert_allclose(list(told.values()), 5 * 0.1 / spread_of(0) / 2)
    assert outcomes_grid.common_distance(grid, some, "gold") == pytest.approx(1.0)
    assert outcomes_grid.values(grid, one, "gold", "gain at equal KL", distance=1.1) == {}


def test_quality_is_set_against_outcome_a_dot_a_reward_model(grid):
    import_rows(grid, numbered(8))
    for name, right in (("good", 7), ("bad", 3)):
        sides = [(chosen, rejected) for _, _, chosen, rejected in grid.pairs.sides("small")]
        give(
            grid,
            name,
            {one: float((n < right) == (side == 0)) for n, both in enumerate(sides) for side, one in enumerate(both)},
        )
    some = outcomes_report.chosen(grid, "grid").made
    outcome = outcomes_grid.by_model(grid, some, "gold", "win rate", algorithm="ppo")
    quality = outcomes_grid.qualities(grid, ["good", "bad", "never scored"], dataset="small")
    assert {name: one.value for name, one in quality["accuracy, original"].items()} == {"good": 7 / 8, "bad": 3 / 8}
    dots = outcomes_grid.quality_and_outcome(quality["accuracy, original"], outcome)
    assert dots.dots["good"] == (quality["accuracy, original"]["good"], outcome["good"])
    assert dots.correlations.spearman.value is None  # of two reward models nothing can be told
    assert "fewer than 4" in dots.correlations.spearman.undefined
    four = {name: quality["accuracy, original"]["good"]._replace(value=0.5 + n / 10) for n, name in enumerate("abcd")}
    up = {name: outcome["good"]._replace(value=value) for name, value in zip("abcd", (0.4, 0.6, 0.5, 0.9), strict=True)}
    found = outcomes_grid.quality_and_outcome(four, up).correlations
    assert found.pearson.value == pytest.approx(np.corrcoef([0.5, 0.6, 0.7, 0.8], [0.4, 0.6, 0.5, 0.9])[0, 1])
    assert found.pearson.high - found.pearson.low > 0.8  # four dots tell little


def test_what_a_grid_made_once_stands_in_each_of_its_data_and_a_trained_reward_model_bears_its_recipe(grid):
    by = {"trained-o": proxy, "trained-c": proxy, "gold": gold}
    picked = {
        f"trained-{end}": {"recipe": "train:minilm-bt", "data": data} for end, data in (("o", "small"), ("c", "release:clean"))
    }
    aligned(
        grid, "bon", by, prompts=PROMPTS, points=(1, 4), picked=tuple(picked), kind="best-of-n", kl=lambda p, n: None,
        cell=cell("best-of-n", "", "", 0, picked=picked),
    )  # fmt: skip
    aligned(
        grid, "given", {"good": proxy, "gold": gold}, prompts=PROMPTS, points=(1, 4), picked=("good",), kind="best-of-n",
        kl=lambda p, n: None, cell=cell("best-of-n", "", "", 0),
    )  # fmt: skip
    one, other = made(grid, "bon/trained-o"), made(grid, "bon/trained-c")
    assert (one.pleases, one.data, one.cleaned) == ("minilm-bt", "small", False)
    assert (other.pleases, other.data, other.cleaned) == ("minilm-bt", "release:clean", True)
    some = outcomes_report.chosen(grid, "grid").made
    found = outcomes_grid.cells(grid, some, "gold", "win rate")
    assert all({("best-of-n", "minilm-bt"), ("best-of-n", "good")} <= set(cells) for cells in found.values())
    assert ("best-of-n", "minilm-bt") in {
        (one.algorithm, one.what) for one in outcomes_grid.cleaning(grid, some, "gold", "gain")
    }
    told = outcomes_grid.interaction(found["small"], "win rate")["best-of-n", "good"]
    assert (told.n, told.of) == (12, "prompts, 1 seed")


# ---- for people and machines


def test_every_figure_of_the_record_has_its_n(grid):
    def figures(value):
        if isinstance(value, dict):
            if "n" in value and "of" in value:
                yield value
            for one in value.values():
                yield from figures(one)
        elif isinstance(value, list):
            for one in value:
                yield from figures(one)

    told = outcomes_report.record(grid, "grid", measure="gain")
    found = list(figures(told))
    assert len(found) > 100
    assert all(one["n"] > 0 and one["of"] for one in found)
    assert all(("low" in one and "high" in one) or one.get("undefined") or "value" not in one for one in found)
    assert told["gold"] == "gold"
    assert json.loads(json.dumps(told, allow_nan=False))["alignment"] == "grid"
    with pytest.raises(ValueError, match="no alignment 'other' with policies that have answered: there is grid"):
        outcomes_report.chosen(grid, "other")
    with pytest.raises(ValueError, match="'nobody' has scored none of these responses: there is gold"):
        outcomes_report.judged(grid, "grid", "nobody")


def test_the_command_prints_tables_and_json(grid, capsys):
    folder = grid.folder
    grid.close()
    command(None, "", "win rate", folder, False)
    said = capsys.readouterr().out
    for words in (
        "ppo-good-o-0",
        "Algorithm by reward model on release:clean",
        "What cleaning does",
        "Win rates against the start",
    ):
        assert words in said
    assert "p, Holm over 24" in said
    assert outcomes_report.FAMILY in said
    command("grid", "gold", "gain", folder, True)
    told = json.loads(capsys.readouterr().out)
    assert {one["policy"] for one in told["curves"]} >= {"ppo-good-o-0"}
    wins = [one for one in told["win_rates"] if one["judge"] == "gold"]
    assert [one["p_holm"] for one in wins] == pytest.approx(multipletests([one["p"] for one in wins], method="holm")[1])
    assert {(one["holm_over"], one["prompts"], one["p_undefined"]) for one in wins} == {(24, 12, "")}
    with pytest.raises(ValueError, match="measure is 'joy': expected one of win rate, gain"):
        command(None, "", "joy", folder, False)


def test_the_command_says_what_to_do_where_there_is_nothing(tmp_path: Path, capsys):
    command(None, "", "win rate", tmp_path / "empty", False)
    assert "no policy has answered held-out prompts yet" in capsys.readouterr().out


def test_responses_of_a_dot_are_shown_with_their_scores_and_how_far_they_are(workspace):
    aligned(workspace, "one", {"gold": gold, "proxy": proxy}, prompts=PROMPTS, optimised="proxy")
    found = outcomes_report.prompts(workspace, "one", "gold")
    assert [one.change for one in found] == sorted(one.change for one in found)
    shown = outcomes_report.responses(workspace, found[0].prompt_id, [("one", 0), ("one", 10)])
    p = [one.prompt_id for one in PROMPTS].index(found[0].prompt_id)
    assert shown.prompt[-1].content == f"question {p}"
    assert shown.responses == (("one, its start", f"one to {p} at 0, 0"), ("one, at 10", f"one to {p} at 10, 0"))
    assert shown.notes[1] == f"gold {gold(p, 10):.3g} · proxy {proxy(p, 10):.3g} · log ratio 1.00 nats"
    with pytest.raises(ValueError, match="has answered the prompt"):
        outcomes_report.responses(workspace, "0" * 32, [("one", 0)])


# ---- runs as the page shows them


def test_a_pick_of_best_of_n_is_shown_whichever_sample_it_is(workspace):
    aligned(
        workspace, "bon", {"gold": lambda p, n, s, who: float(n)}, prompts=PROMPTS, points=(1, 4), picked=("gold",),
        kind="best-of-n", number=lambda p, n, s, who: n - 1, kl=lambda p, n: None,
        text=lambda p, n, s, who: f"sample {n - 1} to {p}",
    )  # fmt: skip
    aligned(workspace, "one", {"gold": gold}, prompts=PROMPTS[:2])
    prompt = PROMPTS[3].prompt_id
    found = outcomes_report.responses(workspace, prompt, [("bon/gold", 1), ("bon/gold", 4), ("one", 10)])
    assert [text for _, text in found.responses] == ["sample 0 to 3", "sample 3 to 3"]
    assert found.notes == ("gold 1", "gold 4")
    assert found.absent == ("one, at 10",)
    with pytest.raises(ValueError, match="none of one has answered the prompt"):
        outcomes_report.responses(workspace, prompt, [("one", 10)])


def test_what_gold_picked_is_no_cell_of_the_grid_and_leaves_gold_gold(workspace):
    """Best-of-n is picked by all that score it. So the optimised one is gold to nothing but the picks of gold."""
    aligned(workspace, "ppo", {"proxy": proxy, "length": gold}, prompts=PROMPTS, optimised="proxy", cell=cell())
    aligned(
        workspace, "bon", {"proxy": lambda p, n, s, who: proxy(p, n), "length": lambda p, n, s, who: gold(p, n)},
        prompts=PROMPTS, points=(1, 4), picked=("proxy", "length"), kind="best-of-n", kl=lambda p, n: None,
        cell=cell("best-of-n", "", "", picked={"proxy": {"recipe": "", "data": ""}}),
    )  # fmt: skip
    some = outcomes_report.chosen(workspace, "grid").made
    assert [one.generator for one in some if one.aside] == ["bon/length"]
    assert outcomes_report.golds(workspace, some) == ["length"]
    assert outcomes_report.standing_rows(workspace, some, ["length"]) == []
    cells = outcomes_grid.cells(workspace, some, "length", "win rate")
    assert {data: set(found) for data, found in cells.items()} == {"small": {("ppo", "proxy"), ("best-of-n", "proxy")}}
    assert set(outcomes_grid.by_model(workspace, some, "length", "win rate")) == {"proxy"}


def test_the_jobs_of_a_grid_stand_within_it(workspace):
    def run(name, waits=""):
        made = Run.create(
            workspace.runs / name, kind="ppo", module="training.none", title=name, config=PolicySettings(policy="x")
        )
        made.write_state(made.state().model_copy(update={"waits": waits}))
        return made

    run("1-grid"), run("1-grid.002-ppo", "1-grid"), run("1-grid.001-reward", "1-grid"), run("2-alone"), run("3-lost", "gone")
    groups = run_views.grouped(runs.all_runs(workspace))
    found = {one.view.run.run_id: [job.run.run_id for job in one.jobs] for one in groups}
    assert found == {"3-lost": [], "2-alone": [], "1-grid": ["1-grid.001-reward", "1-grid.002-ppo"]}
    assert run_views.counted(groups[-1].jobs) == "2 queued"


def test_the_last_answers_of_a_run_are_read_while_it_writes_them(workspace):
    run = Run.create(workspace.runs / "one", kind="ppo", module="training.none", title="", config=PolicySettings(policy="x"))
    assert run_views.samples(run) == []
    lines = [
        {"step": step, "prompt": f"p{step}", "response": f"r{step}", "reward": None if step == 9 else step / 2}
        for step in range(10)
    ]
    text = "".join(json.dumps(one) + "\n" for one in lines) + '{"step": 10, "prom'
    (run.output / run_views.SAMPLES).write_text(text + "\n[1]\n")
    found = run_views.samples(run, limit=2)
    assert found == [run_views.Sample(9, "p9", "r9", None), run_views.Sample(8, "p8", "r8", 4.0)]
