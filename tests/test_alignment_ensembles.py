"""Ensembles of what a grid optimises: which jobs they come to, what they score, and that they stand on their own afterwards."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from curation import alignment, outcomes, reward_models, reward_training, runs
from curation.reward_training import Joined
from curation.workspace import Workspace
from tests.conftest import done_here, import_rows, numbered
from tests.test_alignment import QUICK, grid, names, rows
from training import loading, reward_ensemble
from training.policy_data import RESPONSES, SCORE
from training.policy_settings import Named
from training.reward_ensemble import Joining
from training.rewards.base import Message
from training.run import Run


def joined(**changed):
    return grid(**{"reward_models": "length,train:tiny", "ensembles": "worst", "algorithms": "best-of-n", **changed})


# ---- what a grid comes to


def test_an_ensemble_of_each_data_and_seed_is_one_more_reward_model():
    found = joined(algorithms="ppo,best-of-n", data="small,release:clean", seeds="0,1", ensembles="worst,mean")
    assert names(found) == [
        name
        for seed in (0, 1)
        for name in (
            *(f"g-{one}-{data}-s{seed}" for one in ("tiny", "ensemble-worst", "ensemble-mean") for data in ("small", "clean")),
            *(
                f"g-ppo-{one}-{data}-s{seed}"
                for data in ("small", "clean")
                for one in ("length", "tiny", "ensemble-worst", "ensemble-mean")
            ),
            f"g-best-of-n-s{seed}",
        )
    ]
    jobs = {one.name: one for one in found.jobs}
    worst = jobs["g-ensemble-worst-clean-s1"]
    assert (worst.kind, worst.scored_by, worst.after) == ("reward", ("length", "g-tiny-clean-s1"), ("g-tiny-clean-s1",))
    assert worst.cell == {
        "alignment": "g", "algorithm": "reward", "reward_model": "g-ensemble-worst-clean-s1", "recipe": "train:ensemble-worst",
        "data": "release:clean", "seed": 1,
    }  # fmt: skip
    assert (worst.asked.how, worst.asked.data) == ("worst", "release:clean")
    ppo = jobs["g-ppo-ensemble-worst-clean-s1"]
    assert (ppo.reward, ppo.after, ppo.cell["recipe"]) == (worst.name, (worst.name,), "train:ensemble-worst")
    picks = jobs["g-best-of-n-s1"]
    assert (
        {"length", "g-tiny-small-s1", "g-ensemble-mean-small-s1", worst.name}
        < set(picks.scored_by)
        == set(picks.cell["picked"])
    )
    assert picks.cell["picked"][worst.name] == {"recipe": "train:ensemble-worst", "data": "release:clean"}
    assert worst.name in picks.after
    assert any(one.startswith("ensembles (worst, mean) of 2 reward models") for one in found.notes)


def test_an_ensemble_of_what_no_seed_changes_is_made_once():
    found = joined(reward_models="length,train:minilm-bt", seeds="0,1")
    assert names(found) == ["g-minilm-bt-small", "g-ensemble-worst-small", "g-best-of-n-s0", "g-best-of-n-s1"]
    assert {one.after for one in found.jobs[2:]} == {("g-minilm-bt-small", "g-ensemble-worst-small")}


def test_one_base_gives_several_members_with_seeds_of_their_own_which_nothing_optimises():
    found = joined(reward_models="train:tiny,train:minilm-bt", members=3, algorithms="ppo", seeds="0,1")
    first = [one for one in found.jobs if one.cell["seed"] == 0]
    trained = ["g-tiny-small-s0", "g-tiny-small-s0-member2", "g-tiny-small-s0-member3", "g-minilm-bt-small"]
    policies = [f"g-ppo-{one}-small-s0" for one in ("tiny", "minilm-bt", "ensemble-worst")]
    assert [one.name for one in first] == [*trained, "g-ensemble-worst-small-s0", *policies]
    assert first[4].scored_by == first[4].after == tuple(trained)
    seeds = [one.asked.seed for one in found.jobs if one.kind == "reward" and "-tiny-" in one.name]
    assert len(seeds) == len(set(seeds)) == 6


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"ensembles": "best"}, "there is no ensemble 'best': expected some of mean, worst, uncertainty"),
        ({"reward_models": "length"}, "ensembles is 'worst' with 1 reward model to join: expected two or more"),
        ({"reward_models": "train:minilm-bt", "members": 3}, "with 1 reward model to join: .* the same with every seed"),
        ({"ensembles": "", "members": 2}, "members is 2: expected it with ensembles"),
        ({"reward_models": "length,train:minilm-bt", "members": 2}, "members is 2: .* that is not minilm-bt"),
        ({"set": {"ensemble": {"how": "mean"}}}, "set gives ensemble its own how"),
        ({"set": {"ensemble": {"count": 1}}}, "set ensemble: count is 1"),
        ({"ensembles": "", "set": {"ensemble": {"count": 9}}}, "set names 'ensemble', which this grid has not"),
        ({"reward_models": "length,train:tiny,train:ensemble-worst"}, "two jobs would make 'g-ensemble-worst-small-s0'"),
    ],
)
def test_ensembles_that_cannot_be_are_one_sentence(changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        joined(**changed)


def test_a_plan_says_what_an_ensemble_takes(workspace: Workspace, tiny: Path):
    import_rows(workspace, rows())
    told = {"name": "g", "base": str(tiny), "data": "small", "ensembles": "worst", "algorithms": "best-of-n", **QUICK}
    made = alignment.plan(workspace, {**told, "reward_models": "length,train:minilm-bt"})
    head, ensemble, picks = made.jobs
    assert (head.job.name, ensemble.job.name, picks.job.after[-1]) == ("g-minilm-bt-small", *[ensemble.job.name] * 2)
    assert 0 < ensemble.seconds < made.seconds
    assert ensemble.bytes == head.bytes  # one member in memory at a time
    unknown = alignment.plan(workspace, {**told, "reward_models": "length,train:far/away"}).jobs[1]
    assert (unknown.seconds, unknown.bytes) == (None, None)


def test_gold_is_no_member_of_an_ensemble(workspace: Workspace, tiny: Path):
    import_rows(workspace, rows())
    told = {"name": "g", "base": str(tiny), "data": "small", "ensembles": "worst", "algorithms": "best-of-n", **QUICK}
    with pytest.raises(ValueError, match="length is optimised and gold"):
        alignment.plan(workspace, {**told, "reward_models": "length,train:minilm-bt", "gold": "length"})


# ---- what its job measures


def test_scales_are_measured_on_the_held_out_pairs_and_on_others_where_these_are_few(workspace: Workspace, tmp_path: Path):
    import_rows(workspace, numbered(40))
    members = [Named(name=one, family="length") for one in ("one", "two")]
    told = [
        reward_training.hand_over_joined(
            workspace, Joined(model="both", how="mean", data="small", count=count, held_out=0.5), members, tmp_path
        ).data
        for count in (5, 39, 5)
    ]
    held_out = int(told[1].split(", ")[2].split()[0])
    assert 10 < held_out < 30
    assert told == ["small, 5 pairs, 5 of them held out", f"small, 39 pairs, {held_out} of them held out", told[0]]
    assert pq.read_table(tmp_path / "texts.parquet").num_rows == 10


def ensemble_of(folder: Path, members: list[Named], texts: list[str]) -> Run:
    told = Joining(model="both", members=tuple(members), how="worst", data="some")
    (folder / "input").mkdir(parents=True)
    said = [json.dumps([["assistant", text]]) for text in texts]
    asked = [json.dumps([["user", "What?"]])] * len(texts)
    reward_ensemble.write_texts(folder / "input", asked, said)
    return Run.create(folder, kind="reward", module="training.reward", title="both", config=told)


def test_members_scores_are_centred_at_their_mean_and_scaled_by_their_standard_deviation(tmp_path: Path, scorer: Named):
    texts = ["a", "bread and salt", "say it again", "no"]
    run = ensemble_of(tmp_path / "1-reward", [Named(name="length", family="length"), scorer], texts)
    done_here(run)
    assert run.state().status == "done", run.state().error
    summary = json.loads((run.output / "summary.json").read_text())
    model = scorer_of(scorer)
    theirs = model.score([(Message("user", "What?"),)] * 4, [(Message("assistant", text),) for text in texts]).values
    expected = [np.std([len(text) for text in texts], ddof=1), np.std(theirs, ddof=1)]
    assert summary["settings"]["scales"] == pytest.approx(expected, rel=1e-5)
    assert summary["settings"]["centres"] == pytest.approx([np.mean([len(text) for text in texts]), np.mean(theirs)], rel=1e-5)
    assert [one["family"] for one in summary["settings"]["members"]] == ["length", "classifier"]


def scorer_of(named: Named):
    from training import rewarding

    return rewarding.Rewarder(named, device="cpu").scorer


def test_a_member_that_scores_all_texts_alike_ends_in_a_sentence(tmp_path: Path):
    run = ensemble_of(tmp_path / "1-reward", [Named(name=one, family="length") for one in ("one", "two")], ["yes", "two"])
    done_here(run)
    assert run.state().error == (
        "ValueError: one scores all 2 texts of some alike: expected scores that differ, by whose standard deviation a member's "
        "scores are divided"
    )


# ---- end to end


def test_an_ensemble_of_a_grid_picks_by_the_worst_of_its_members_and_stays(workspace: Workspace, tiny: Path, at_once: None):
    import_rows(workspace, rows())
    run = alignment.start(
        workspace,
        {
            "name": "g", "base": str(tiny), "data": "small", "reward_models": "length,train:minilm-bt", "ensembles": "worst",
            "algorithms": "best-of-n", **QUICK,
        },
    )  # fmt: skip
    assert (run.state().status, run.state().error) == ("done", None), run.log_end()
    jobs = [Run(run.folder.parent / one["run"]) for one in run.config()["jobs"]]
    assert [one.state().kind for one in jobs] == ["reward", "reward", "best-of-n"]
    assert runs.settle(workspace) == [one.run_id for one in jobs]
    assert runs.settle(workspace) == []
    head, worst = "g-minilm-bt-small", "g-ensemble-worst-small"
    _check_registered(workspace, worst, ["length", head], jobs)
    table = pq.read_table(jobs[2].output / RESPONSES)
    scores = {name: np.array(table.column(SCORE + name).to_pylist(), np.float64) for name in ("length", head, worst)}
    told = json.loads(workspace.scores.model(worst).settings)
    members = zip(("length", head), told["centres"], told["scales"], strict=True)
    expected = np.min([(scores[name] - centre) / scale for name, centre, scale in members], axis=0)
    np.testing.assert_allclose(scores[worst], expected, rtol=1e-5, atol=1e-5)
    _check_picked(workspace, worst, head)


def _check_registered(workspace: Workspace, name: str, members: list[str], jobs: list[Run]) -> None:
    """It opens from the registry, is made of its members as they are registered, and has learned what they have."""
    model = workspace.scores.model(name)
    assert (model.family, model.run_id) == ("ensemble", jobs[1].run_id)
    told = json.loads(model.settings)
    known = [workspace.scores.model(one) for one in members]
    assert told["members"] == [{"family": one.family, **json.loads(one.settings)} for one in known]
    assert told["members"][1]["source"] == f"runs/{jobs[0].run_id}/model"
    opened = reward_models.opened_by(workspace, model)
    assert model.fingerprint == loading.fingerprint_of_all(opened.sources()) != ""
    assert workspace.scores.trained_on(name) == workspace.scores.trained_on(members[1]) != set()
    assert opened.load(device="cpu").score([(Message("user", "Hi"),)], [(Message("assistant", "Bread."),)]).values.shape == (1,)


def _check_picked(workspace: Workspace, worst: str, head: str) -> None:
    """The outcome has what was picked by the ensemble, in a place of its own, and no member judges it as gold."""
    made = {one.optimised: one for one in outcomes.made(workspace).values() if one.optimised}
    assert made.keys() == {"length", head, worst}
    picked = made[worst]
    assert (picked.pleases, picked.recipe, picked.data, picked.aside) == (
        "ensemble-worst",
        "train:ensemble-worst",
        "small",
        False,
    )
    assert counted(picked) == counted(made[head])  # the same points, prompts and responses
    for judge, of in ((head, worst), ("length", worst), (worst, head), (worst, "length")):
        assert not outcomes.standing(workspace, made[of], judge).gold
    ends = outcomes.looked(workspace, picked.generator, worst)
    assert ends.rewards[-1].mean() >= ends.rewards[0].mean()


def counted(one: outcomes.Made) -> tuple[object, ...]:
    return one.points, one.prompts, one.responses, one.policy
