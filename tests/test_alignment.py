"""Grids of alignment: what they come to, that nothing half-planned is left, and a whole one on tiny models."""

import errno
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from curation import alignment, alignment_times, outcomes, policies, reward_models, runs, scoring
from curation.alignment_plan import Jobs, jobs_of
from curation.alignment_settings import Alignment
from curation.release import Policy, release
from curation.store.verdicts import Decision
from curation.workspace import Workspace
from tests.command import Elephant
from tests.conftest import hh, import_rows, until
from tests.tiny_models import tiny_classifier, tiny_tokenizer
from training import curves, engine, machine
from training.policy_data import RESPONSES, prompts
from training.policy_settings import PolicySettings
from training.run import OVER, Run
from training.settings import validated

QUICK = {
    "max_steps": 2, "max_tokens": 5, "max_prompt": 32, "count": 8, "looked_at": 6, "held_out": 0.3, "batch": 4, "lora_rank": 2,
    "n": 4, "device": "cpu",
}  # fmt: skip
TOPICS = ("rivers", "bread", "tea", "jokes", "horses", "glass", "salt", "winter", "trains", "maps")


def rows(count: int = 60) -> list[dict[str, str]]:
    """Pairs whose chosen response is the longer one."""
    return [
        hh(f"Question {n}: what of {TOPICS[n % 10]}?", f"Of {TOPICS[n % 10]} there are {n}, say some.", f"No {n}.")
        for n in range(count)
    ]


@pytest.fixture
def judge(workspace: Workspace, tmp_path: Path) -> str:
    """A registered reward model with weights."""
    folder = tmp_path / "judge"
    tiny_tokenizer(folder)
    tiny_classifier(folder, seed=5)
    reward_models.register(workspace, "judge", "classifier", {"source": str(folder)}, "ana")
    return "judge"


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """A dataset and a release of it that drops what a reviewer found vague, and turns round what was the wrong way."""
    ids = import_rows(workspace, rows())
    said = [("opposite", one) for one in ids[:5]] + [("vague", one) for one in ids[5:15]]
    workspace.verdicts.add(
        [
            Decision(f"c-{one}", "small", one, "ana", verdict, "open", "A", 4.0, "", [], workspace.clock())
            for verdict, one in said
        ]
    )
    release(workspace, "small", "clean", Policy())
    return workspace


def grid(**changed: Any) -> Jobs:
    told = {"name": "g", "data": "small", "reward_models": "length", **changed}
    return jobs_of(validated(Alignment, told), "small")


def names(found: Jobs) -> list[str]:
    return [one.name for one in found.jobs]


# ---- what a grid comes to


def test_a_grid_is_every_reward_model_by_every_algorithm_data_and_seed():
    found = grid(reward_models="length,other", algorithms="ppo,dpo", data="small,release:clean", seeds="0,1")
    assert names(found) == [
        f"g-{algorithm}-{model}-{data}-s{seed}"
        for seed in (0, 1)
        for algorithm in ("ppo", "dpo")
        for data in ("small", "clean")
        for model in ("length", "other")
    ]
    last = found.jobs[-1]
    assert last.kind == "dpo"
    assert last.cell == {
        "alignment": "g", "algorithm": "dpo", "reward_model": "other", "recipe": "", "data": "release:clean", "seed": 1
    }  # fmt: skip
    asked = last.asked.model_dump()
    assert (asked["pairs"], asked["reward_model"], asked["seed"], asked["data"]) == ("relabelled", "other", 1, "release:clean")


def test_a_cell_in_which_something_makes_no_difference_is_made_once():
    found = grid(
        reward_models="length,train:minilm-bt,train:tiny", algorithms="best-of-n,dpo-labels", data="small,release:clean",
        seeds="0,1",
    )  # fmt: skip
    heads = ["g-minilm-bt-small", "g-minilm-bt-clean"]
    assert names(found) == [
        *heads, "g-tiny-small-s0", "g-tiny-clean-s0", "g-best-of-n-s0", "g-dpo-labels-small-s0", "g-dpo-labels-clean-s0",
        "g-tiny-small-s1", "g-tiny-clean-s1", "g-best-of-n-s1", "g-dpo-labels-small-s1", "g-dpo-labels-clean-s1",
    ]  # fmt: skip
    picks = next(one for one in found.jobs if one.name == "g-best-of-n-s1")
    assert picks.scored_by == ("length", *heads, "g-tiny-small-s1", "g-tiny-clean-s1")
    assert picks.after == (*heads, "g-tiny-small-s1", "g-tiny-clean-s1")
    assert picks.cell["picked"]["g-minilm-bt-clean"] == {"recipe": "train:minilm-bt", "data": "release:clean"}
    assert picks.cell["picked"]["length"] == {"recipe": "", "data": ""}
    assert any("best-of-n is sampled once a seed" in one for one in found.notes)
    assert any("dpo-labels does not depend on the reward model" in one for one in found.notes)
    assert any("minilm-bt does not depend on the seed" in one for one in found.notes)
    assert found.notes[0] == "24 cells, made by 6 runs of policies and 6 that train what these need"


def test_with_sft_everything_starts_from_what_its_data_and_seed_made():
    found = grid(algorithms="ppo,best-of-n", data="small,release:clean", sft=True)
    assert names(found) == [
        "g-sft-small-s0", "g-sft-clean-s0", "g-ppo-length-small-s0", "g-ppo-length-clean-s0", "g-best-of-n-small-s0",
        "g-best-of-n-clean-s0",
    ]  # fmt: skip
    assert [(one.start, one.after) for one in found.jobs[2:]] == [
        (start, (start,)) for start in ("g-sft-small-s0", "g-sft-clean-s0") * 2
    ]


def test_settings_are_the_grids_then_those_set_for_the_algorithm():
    found = grid(
        algorithms="ppo,dpo,dpo-sampled", max_steps=12, lora_rank=3,
        set={"ppo": {"kl": 0.2}, "dpo": {"beta": 0.3}, "dpo-sampled": {"beta": 0.4, "drawn": 5}},
    )  # fmt: skip
    ppo, dpo, sampled = (one.asked.model_dump() for one in found.jobs)
    assert (ppo["kl"], ppo["max_steps"], ppo["lora_rank"], ppo["look_every"]) == (0.2, 12, 3, 3)
    assert (dpo["beta"], sampled["beta"], sampled["drawn"], sampled["pairs"]) == (0.3, 0.4, 5, "sampled")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"algorithms": "ppo,sarsa"}, "there is no algorithm 'sarsa'"),
        ({"seeds": "0,x"}, "there is no seed 'x'"),
        ({"data": ","}, "data is empty"),
        ({"reward_models": ""}, "reward_models is empty"),
        ({"gold": "length"}, "length is optimised and gold: expected gold reward models that nothing here optimises"),
        ({"gold": "train:minilm-bt"}, "train:minilm-bt is gold: expected names of the registry"),
        ({"reward_models": "train:"}, "reward_models has 'train:' without a base: expected train:BASE"),
        (
            {"set": {"reward": {"epochs": 2}}},
            "set names 'reward', which this grid has not: expected some of best-of-n",
        ),
        ({"algorithms": "ppo", "set": {"dpo": {"beta": 1}}}, "set names 'dpo', which this grid has not: expected some of ppo"),
        ({"set": {"ppo": {"base": "other"}}}, "set gives ppo its own base"),
        ({"device": "cuda:1"}, "device is cuda:1: expected auto, cpu or cuda, a grid shares its jobs out"),
        ({"temperature": math.inf}, "temperature is inf: input should be a finite number"),
        ({"set": {"ppo": {"no_stop": math.nan}}}, "set ppo: no_stop is nan: input should be a finite number"),
        ({"set": {"pop": {}}}, "set names 'pop': expected some of best-of-n, dpo,"),
        ({"set": {"ppo": {"klo": 1}}}, "set ppo: there is no setting 'klo'"),
        ({"set": {"ppo": {"held_out": 0.5}}}, "set gives ppo its own held_out"),
        ({"reward_models": "train:a/x,train:b/x"}, "two jobs would make 'g-x-small-s0'"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        grid(**changed)


# ---- planned on a workspace


def test_a_plan_says_what_each_job_takes_and_starts_nothing(filled, tiny):
    made = alignment.plan(
        filled, {"name": "g", "base": str(tiny), "data": "small,release:clean", "reward_models": "length", **QUICK}
    )
    assert all(one.seconds > 0 and one.bytes > 0 for one in made.jobs)
    assert made.seconds == pytest.approx(sum(one.seconds for one in made.jobs))
    assert len(made.held_out) == 6
    assert any("times and memory are estimates" in one for one in made.notes)
    assert not filled.runs.exists() or not list(filled.runs.iterdir())


def test_prompts_that_are_not_there_take_no_time(filled, tiny):
    told = {"name": "g", "base": str(tiny), "data": "small", "reward_models": "length", **QUICK, "algorithms": "best-of-n"}
    every, more = (alignment.plan(filled, {**told, "looked_at": many}) for many in (1000, 100_000))
    assert every.jobs[0].job.asked.looked_at == 1000
    assert len(every.held_out) < 60
    assert every.seconds == more.seconds


def test_a_model_that_is_not_here_yet_has_no_estimate_and_is_named(filled):
    made = alignment.plan(
        filled, {"name": "g", "base": "somebody/far-away", "data": "small", "reward_models": "length", **QUICK}
    )
    assert [one.seconds for one in made.jobs] == [None] * 4
    assert made.seconds is None
    assert any("somebody/far-away" in one for one in made.notes)


def test_what_is_more_than_this_machine_has_is_a_warning(filled, tiny, monkeypatch):
    small = machine.machine("cpu")._replace(memory=1000)
    monkeypatch.setattr(alignment_times, "machine", lambda device: small)
    made = alignment.plan(
        filled, {"name": "g", "base": str(tiny), "data": "small", "reward_models": "length", **QUICK, "algorithms": "ppo"}
    )
    (warning,) = made.warnings
    assert warning.startswith("ppo is estimated to need ")
    assert "a smaller batch" in warning


def test_a_machine_that_others_have_is_a_warning(filled, tiny):
    told = PolicySettings(policy="elsewhere")
    other = Run.create(filled.runs / "20261102-sft", kind="sft", module="training.sft", title="", config=told)
    began = {"status": "running", "pid": os.getpid(), "started": psutil.Process().create_time()}
    other.write_state(other.state().model_copy(update=began))
    made = alignment.plan(filled, {"name": "g", "base": str(tiny), "data": "small", "reward_models": "length", **QUICK})
    (warning,) = made.warnings
    assert warning.startswith("other runs that have this machine now: 1; ")


def test_names_that_are_taken_and_models_that_are_not_there_are_refused(filled, tiny, judge):
    told = {"name": "g", "base": str(tiny), "data": "small", "reward_models": "length", **QUICK}
    with pytest.raises(ValueError, match="no reward model 'nobody'"):
        alignment.plan(filled, {**told, "gold": "nobody"})
    source = json.loads(filled.scores.model("judge").settings)["source"]
    reward_models.register(filled, "twin", "classifier", {"source": source}, "ana")
    with pytest.raises(ValueError, match="twin is gold, but has the weights of judge"):
        alignment.plan(filled, {**told, "reward_models": "judge", "gold": "twin"})
    reward_models.register(filled, "both", "ensemble", {"members": "judge,length"}, "ana")
    for name in ("here", "there"):
        reward_models.register(filled, f"at-{name}", "endpoint", {"address": f"http://{name}"}, "ana")
        reward_models.register(filled, name, "ensemble", {"members": f"length,at-{name}"}, "ana")
    for optimised, gold in (("judge", "both"), ("both", "judge"), ("length", "both"), ("here", "there")):
        with pytest.raises(ValueError, match=f"{gold} is gold, but has the weights of {optimised}"):
            alignment.plan(filled, {**told, "reward_models": optimised, "gold": gold})
    assert alignment.plan(filled, {**told, "reward_models": "length", "gold": "judge"}).jobs
    with pytest.raises(ValueError, match="max_tokens 1,000: expected together at most the 512 tokens the model reads"):
        alignment.plan(filled, {**told, "max_tokens": 1000})
    policies.register(filled, "g-ppo-length-small-s0", str(tiny), "ana")
    with pytest.raises(ValueError, match="there is a policy or a generator 'g-ppo-length-small-s0' already"):
        alignment.plan(filled, told)


def handed_over(workspace: Workspace, told: dict[str, Any]) -> tuple[Path, list[Run]]:
    """A grid's folder and its jobs, planned and not started."""
    folder = workspace.runs / "20261102-alignment"
    (folder / "input").mkdir(parents=True)
    config = alignment.hand_over(workspace, validated(Alignment, told), folder / "input")
    Run.create(folder, kind="alignment", module="training.grid", title="g", config=config)
    return folder, [Run(folder.parent / one.run) for one in config.jobs]


def test_all_jobs_look_at_the_same_prompts_which_nothing_learns_from(filled, tiny):
    told = {
        "name": "g", "base": str(tiny), "data": "small,release:clean", "reward_models": "length,train:minilm-bt", "sft": True,
        **QUICK,
    }  # fmt: skip
    folder, jobs = handed_over(filled, told)
    assert [one.run_id for one in jobs] == sorted(one.name for one in filled.runs.iterdir() if one != folder)
    looked_at = {tuple(prompts(one.input).held_out) for one in jobs if one.state().kind != "reward"}
    assert len(looked_at) == 1
    held_out = {one.prompt_id for one in looked_at.pop()}
    assert len(held_out) == 6
    firsts = {one[0]: json.loads(one[1])[0][1] for one in _prompts_of(filled)}
    for job in jobs:
        if job.state().kind != "reward":
            assert held_out.isdisjoint(one.prompt_id for one in prompts(job.input).train)
        if (job.input / "pairs.parquet").exists():
            learned = [one for one in pq.read_table(job.input / "pairs.parquet").to_pylist() if one["split"] == "train"]
            assert learned
            assert {json.loads(one["prompt"])[0][1] for one in learned}.isdisjoint(firsts[one] for one in held_out)
    ppo = next(one for one in jobs if one.config().get("reward", {}) and one.config()["reward"]["run"])
    trainer = Path(ppo.config()["reward"]["run"])
    assert Run(trainer).config()["model"] == ppo.config()["reward"]["name"]
    assert ppo.config()["base"].startswith(str(filled.runs))
    assert {one.state().waits for one in jobs} == {folder.name}


def _prompts_of(workspace: Workspace) -> list[tuple[str, str]]:
    ids = [one for one, *_ in workspace.pairs.sides("small")]
    return [(one.prompt_id, scoring.conversation(one.prompt)) for one in workspace.pairs.many(ids)]


def test_a_full_disk_while_planning_leaves_nothing(filled, tiny, monkeypatch):
    made = []

    def full(path, value):
        made.append(path)
        if len(made) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_text(json.dumps(value))

    monkeypatch.setattr("training.run.write_json", full)
    told = {"name": "g", "base": str(tiny), "data": "small", "reward_models": "length", **QUICK}
    with pytest.raises(OSError, match=r"is full .* make room and plan it again"):
        alignment.start(filled, told)
    assert len(made) > 5
    assert list(filled.runs.iterdir()) == []


# ---- a whole grid


def test_a_whole_grid_on_tiny_models(filled, tiny, judge, at_once):
    told = {
        "name": "g", "base": str(tiny), "data": "small,release:clean", "reward_models": "length,train:minilm-bt", "gold": judge,
        **QUICK,
    }  # fmt: skip
    run = alignment.start(filled, told)
    assert (run.state().status, run.state().error) == ("done", None), run.log_end()
    jobs = [Run(run.folder.parent / one["run"]) for one in run.config()["jobs"]]
    assert len(jobs) == 15  # two heads, three algorithms by two reward models and two data, and one sampling
    assert sorted(runs.settle(filled)) == [one.run_id for one in jobs]
    assert runs.settle(filled) == []
    _check_made(filled, [one for one in jobs if one.state().kind != "reward"])
    assert {one.reward_model for one in reward_models.all_models(filled)} >= {"g-minilm-bt-small", "g-minilm-bt-clean"}
    places = {
        (one.algorithm, one.recipe or one.optimised, one.data)
        for one in outcomes.made(filled).values()
        if one.kind != "best-of-n"
    }
    assert places == {
        (algorithm, model, data)
        for algorithm in ("ppo", "rloo", "dpo")
        for model in ("length", "train:minilm-bt")
        for data in ("small", "release:clean")
    }


def _check_made(workspace: Workspace, jobs: list[Run]) -> None:
    """Every policy answered the same held-out prompts, at its start and its end, scored by what it optimised and by gold."""
    asked = {frozenset(pq.read_table(one.output / RESPONSES, columns=["prompt_id"]).column(0).to_pylist()) for one in jobs}
    assert [len(one) for one in asked] == [6]
    for one in workspace.policies.all():
        told = json.loads(one.lineage)
        generators = [each for each in workspace.policies.generators() if each.policy == one.policy]
        if one.kind == "best-of-n":
            models = {"length", "g-minilm-bt-small", "g-minilm-bt-clean", "judge"}
            assert {each.generator for each in generators} >= {f"{one.policy}/{model}" for model in models}
            assert told["cell"]["picked"]["g-minilm-bt-clean"]["data"] == "release:clean"
            assert {each.points[:3] for each in generators} == {(0, 1, 2)}  # what the start answers, then the best of n
            continue
        (generator,) = generators
        assert generator.points == (0, 1, 2)
        for model in (told["cell"]["reward_model"], "judge"):
            scored = workspace.policies.scored(one.policy, model)
            assert len(scored.score) == 18
    first = {one.policy for one in workspace.policies.all()}
    assert len(first) == 13


@pytest.mark.slow
def test_a_grid_killed_with_its_job_and_resumed_ends_as_an_undisturbed_one(filled, tiny):
    told = {
        "base": str(tiny), "data": "small", "reward_models": "length", "algorithms": "ppo,dpo,best-of-n", **QUICK,
        "max_steps": 60, "set": {one: {"save_every": 2, "epochs": 30} for one in ("ppo", "dpo")},
    }  # fmt: skip
    disturbed = alignment.start(filled, {**told, "name": "g"})
    ppo, dpo, picks = [Run(filled.runs / one["run"]) for one in disturbed.config()["jobs"]]
    for job in (ppo, dpo):
        until(lambda: len(curves.columns(job.folder)["step"]) > 3, seconds=300)  # noqa: B023  called here and now
        _kill(disturbed, job)
        engine.resume(disturbed)
    _done(disturbed)
    undisturbed = alignment.start(filled, {**told, "name": "h"})
    _done(undisturbed)
    for one, other in zip(
        (ppo, dpo, picks), (Run(filled.runs / one["run"]) for one in undisturbed.config()["jobs"]), strict=True
    ):
        answers = [pq.read_table(each.output / RESPONSES) for each in (one, other)]
        assert answers[0].equals(answers[1])
        weights = [each.folder / "model" / "model.safetensors" for each in (one, other)]
        assert [each.exists() for each in weights] == [one is not picks] * 2
        if one is not picks:
            assert weights[0].read_bytes() == weights[1].read_bytes()
    assert len(runs.settle(filled)) == 6


def _kill(grid: Run, job: Run) -> None:
    """Kill a grid's process and that of its job, as a machine that goes down does."""
    pids = [one.state().pid for one in (grid, job)]
    assert engine.watch(job).status == "running"
    for pid in pids:
        os.kill(pid or 0, signal.SIGKILL)
    until(lambda: [engine.watch(one).status for one in (grid, job)] == ["failed", "failed"])


def _done(grid: Run) -> None:
    until(lambda: engine.watch(grid).status in OVER, seconds=600)
    assert grid.state().status == "done", grid.state().error


# ---- the command


def test_the_command_plans_a_grid_and_says_what_is_wrong_with_it(elephant: Elephant, opened, tiny):
    with opened() as workspace:
        import_rows(workspace, rows())
    given = [
        "name=g",
        f"base={tiny}",
        "data=small",
        "reward_models=length",
        "max_steps=2",
        "looked_at=6",
        "held_out=0.3",
        "max_prompt=64",
    ]
    said = elephant("run", "alignment", *given, "seeds=0,1", 'set={"ppo": {"kl": 0.2}}', "--plan")
    lines = said.splitlines()
    assert lines[0].split() == ["job", "kind", "time", "memory", "after"]
    assert [line.split()[0] for line in lines[1:9]] == [
        f"g-{one}s{seed}"
        for seed in (0, 1)
        for one in ("ppo-length-small-", "rloo-length-small-", "dpo-length-small-", "best-of-n-")
    ]
    assert "nothing was started" in said
    record = json.loads(elephant("run", "alignment", *given, "--plan", "--json"))
    assert [one["kind"] for one in record["jobs"]] == ["ppo", "rloo", "dpo", "best-of-n"]
    assert record["held_out"] == 6
    with opened() as workspace:
        assert not list(workspace.runs.glob("*"))
    assert "there is no algorithm 'sarsa'" in elephant("run", "alignment", *given, "algorithms=sarsa", "--plan", expect=2)
    assert "--plan goes with alignment, not with score" in elephant("run", "score", "--plan", expect=2)
    assert "reward_models" in elephant("run", "alignment", "--explain")
