"""What runs of policies are handed: prompts on the right side, pairs under the right labels, models by name; and one done."""

import json
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation import policies, policy_training, policy_view, reward_models, runs
from curation.pairs import prompt_id_of, turn
from curation.release import Policy as Rules
from curation.release import release
from curation.store.policies import Answers, Learned, Policy
from curation.store.verdicts import Decision
from curation.workspace import Workspace
from tests.conftest import hh, import_rows, numbered
from tests.scored import known
from tests.test_policy_store import answers
from tests.tiny_models import tiny_causal, tiny_tokenizer
from training import engine
from training.policy_settings import Named, Ppo
from training.reward_settings import Training
from training.run import Run

Handed = Callable[..., tuple[Any, Path]]
SPLIT = {"held_out": 0.4, "looked_at": 0}


@pytest.fixture
def handed(workspace: Workspace, tmp_path: Path) -> Handed:
    """What a run of this kind is handed: its settings, and its input folder."""
    folders = iter(range(100))

    def hand_over(kind: str, **wanted: Any) -> tuple[Any, Path]:
        folder = tmp_path / f"handed-{next(folders)}"
        folder.mkdir()
        asked = policy_training.KINDS[kind].asked.model_validate({"policy": "new", "data": "small", **SPLIT, **wanted})
        return policy_training.hand_over(kind, workspace, asked, folder), folder

    return hand_over


def prompts(folder: Path) -> dict[str, set[str]]:
    rows = pq.read_table(folder / "prompts.parquet").to_pylist()
    return {use: {one["prompt_id"] for one in rows if one["use"] == use} for use in ("train", "held out")}


def pairs(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "pairs.parquet").to_pylist()


def split(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / policies.SPLIT).read_text())
    return found


def of(text: str) -> str:
    return prompt_id_of([turn("user", text)])


ALL = {of(f"Question {n}?") for n in range(30)}


# ---- prompts and pairs


def test_prompts_are_learned_from_or_looked_at_and_never_both(workspace: Workspace, handed: Handed) -> None:
    import_rows(workspace, numbered(30))
    told, folder = handed("ppo", reward_model="length")
    found = prompts(folder)
    assert found["train"] | found["held out"] == ALL
    assert found["train"] & found["held out"] == set()
    assert len(found["held out"]) in range(6, 19)  # 30 times 0.4, give or take
    assert not (folder / "pairs.parquet").exists()
    assert split(folder) == {
        "data": "small", "base": "smollm2", "releases": [], "learned from": len(found["train"]),
        "held out": len(found["held out"]), "left out": {},
    }  # fmt: skip
    some = prompts(handed("ppo", reward_model="length", count=5, looked_at=3)[1])
    assert (len(some["train"]), len(some["held out"])) == (5, 3)
    assert some["train"] < found["train"]
    assert some["held out"] < found["held out"]
    assert (told.reward.name, [one.name for one in told.scored_by], told.data) == ("length", ["length"], "small")


def test_who_is_only_asked_is_handed_held_out_prompts_alone(workspace: Workspace, handed: Handed) -> None:
    import_rows(workspace, numbered(30))
    for kind, more in (("generate", {}), ("best-of-n", {"scored_by": "length"})):
        found = prompts(handed(kind, held_out=1.0, **more)[1])
        assert found == {"train": set(), "held out": ALL}


@pytest.mark.parametrize(
    ("kind", "more"), [("sft", {}), ("dpo", {}), ("dpo", {"pairs": "relabelled", "reward_model": "length"})]
)
def test_who_learns_from_pairs_is_handed_those_of_the_train_side_and_those_looked_at(
    workspace: Workspace, handed: Handed, kind: str, more: dict[str, Any]
) -> None:
    ids = import_rows(workspace, numbered(30))
    _, folder = handed(kind, looked_at=3, **more)
    found, asked = pairs(folder), prompts(folder)
    by_id = {pair.pair_id: pair for pair in workspace.pairs.many(ids)}
    assert asked["train"] == set()
    assert {by_id[one["pair_id"]].prompt_id for one in found if one["split"] == "held out"} == asked["held out"]
    learned = {by_id[one["pair_id"]].prompt_id for one in found if one["split"] == "train"}
    assert len(asked["held out"]) == 3
    assert learned == prompts(handed("ppo", reward_model="length")[1])["train"]
    assert split(folder)["learned from"] == len(learned)
    first = found[0]
    assert json.loads(first["prompt"])[0][1] == by_id[first["pair_id"]].prompt[0].content
    assert json.loads(first["chosen"]) == [["assistant", by_id[first["pair_id"]].chosen.text]]
    assert sum(one["split"] == "train" for one in pairs(handed(kind, count=4, **more)[1])) == 4


def test_who_samples_its_pairs_is_handed_prompts(workspace: Workspace, handed: Handed) -> None:
    import_rows(workspace, numbered(30))
    told, folder = handed("dpo", pairs="sampled", reward_model="length")
    assert not (folder / "pairs.parquet").exists()
    assert prompts(folder)["train"] | prompts(folder)["held out"] == ALL
    assert told.reward.name == "length"


def test_pairs_whose_sides_begin_differently_have_no_prompt_and_are_counted(workspace: Workspace, handed: Handed) -> None:
    apart = {"chosen": "\n\nHuman: One\n\nAssistant: a", "rejected": "\n\nHuman: Other\n\nAssistant: b"}
    ids = import_rows(workspace, [*numbered(30), apart])
    _, folder = handed("sft")
    assert split(folder)["left out"] == {policy_training.NO_PROMPT: 1}
    assert ids[-1] not in {one["pair_id"] for one in pairs(folder)}


def test_a_release_is_learned_from_under_its_labels_and_its_dataset_is_looked_at(workspace: Workspace, handed: Handed) -> None:
    import_rows(workspace, numbered(30))
    _, original = handed("sft")
    train = [one["pair_id"] for one in pairs(original) if one["split"] == "train"]
    held = [one["pair_id"] for one in pairs(original) if one["split"] == "held out"]
    said = {train[0]: "opposite", train[1]: "vague", held[0]: "vague"}
    workspace.verdicts.add(
        [
            Decision(f"c-{one}", "small", one, "ana", verdict, "open", "A", 4.0, "", [], workspace.clock())
            for one, verdict in said.items()
        ]
    )
    release(workspace, "small", "clean", Rules())
    _, cleaned = handed("sft", data="release:clean")
    found = {one["pair_id"]: one for one in pairs(cleaned)}
    before = {one["pair_id"]: one for one in pairs(original)}
    assert before.keys() - found.keys() == {train[1], held[0]}
    assert (found[train[0]]["chosen"], found[train[0]]["rejected"]) == (
        before[train[0]]["rejected"],
        before[train[0]]["chosen"],
    )
    assert prompts(cleaned)["held out"] == prompts(original)["held out"]  # also that of the pair the release dropped
    assert split(cleaned)["releases"] == ["clean"]
    elsewhere = import_rows(workspace, [hh(f"Elsewhere {n}?", "a", "b") for n in range(20)], "other")
    asked = {pair.prompt_id for pair in workspace.pairs.many(elsewhere)}
    other = prompts(handed("sft", data="release:clean", prompts="other")[1])["held out"]
    assert other
    assert other < asked


def test_what_the_start_or_a_gold_reward_model_has_learned_from_is_not_looked_at(workspace: Workspace, handed: Handed) -> None:
    ids = import_rows(workspace, numbered(30))
    every = prompts(handed("generate")[1])["held out"]
    first, second, third = sorted(every)[:3]
    base = Policy("base", "sft", "smollm2", "{}", "", "", "run-1", "ana", workspace.clock())
    workspace.policies.add(base, empty(), Learned([first]))
    known(workspace, "gold", family="length")
    pair = next(one for one in workspace.pairs.many(ids) if one.prompt_id == second)
    made = workspace.scores.model("gold")._replace(reward_model="trained")
    workspace.scores.register(made, trained_on=[pair.pair_id])
    _, folder = handed("generate", base="base", scored_by="gold, trained")
    assert prompts(folder)["held out"] == every - {first, second}
    assert third in prompts(folder)["held out"]
    (why,) = split(folder)["left out"]
    assert split(folder)["left out"] == {why: 2}


def empty() -> Answers:
    given = answers(("a", 0, 0, "x", None))
    return Answers(given.prompts, given.responses.slice(0, 0), given.scores)


# ---- reward models and names


def test_the_optimised_reward_model_scores_first_and_gold_ones_after_it(workspace: Workspace, handed: Handed) -> None:
    import_rows(workspace, numbered(30))
    known(workspace, "gold", family="length")
    told, _ = handed("rloo", reward_model="length", scored_by="gold,length")
    assert [one.name for one in told.scored_by] == ["length", "gold"]
    registered = reward_models.model_named(workspace, "length")
    assert told.reward == Named(name="length", family="length", fingerprint=registered.fingerprint)


@pytest.mark.parametrize(
    ("kind", "wanted", "says"),
    [
        (
            "ppo",
            {"reward_model": "duel"},
            "duel only compares two responses: expected a reward model that gives a response a score",
        ),
        ("sft", {"scored_by": "duel"}, "duel only compares two responses"),
        ("ppo", {"reward_model": "nobody"}, "no reward model 'nobody': there is "),
        ("ppo", {}, "reward_model is missing: expected reward_model=VALUE"),
        ("dpo", {"reward_model": "length"}, "a reward model goes with pairs=relabelled or pairs=sampled"),
        ("dpo", {"pairs": "sampled"}, "a reward model goes with pairs=relabelled or pairs=sampled"),
        ("best-of-n", {}, "scored_by is missing"),
        ("sft", {"policy": "chosen"}, "the name 'chosen' means something else"),
        ("sft", {"base": "/nowhere"}, "no folder '/nowhere': expected a folder"),
        ("sft", {"data": "other"}, "no dataset 'other': there is small"),
        ("sft", {"data": "release:clean"}, "no release 'clean': there is none yet"),
        ("sft", {"learning_rate": 2}, "learning_rate is 2: "),
        ("sft", {"cell": {"seed": 1}}, "there is no setting 'cell': expected one of policy, base, data"),
        ("sft", {"held_out": 1}, "leaves no pair to learn from"),
        ("sft", {"temperature": math.inf}, "temperature is inf: input should be a finite number"),
        ("generate", {"held_out": 0}, "held_out is 0, so that there is nothing to answer"),
        ("ppo", {"reward_model": "length", "held_out": 1}, "leaves no prompt to learn from"),
    ],
)
def test_a_run_that_cannot_be_is_refused_in_a_sentence_and_leaves_no_folder(
    workspace: Workspace, kind: str, wanted: dict[str, Any], says: str
) -> None:
    import_rows(workspace, numbered(10))
    known(workspace, "duel", compares=True, family="length")
    with pytest.raises(ValueError, match=says.replace("(", r"\(")) as error:
        runs.start_run(workspace, kind, {"policy": "new", "data": "small", **wanted})
    assert "\n" not in str(error.value)
    assert [*workspace.runs.glob("*")] == []


def test_of_two_sessions_that_start_a_run_of_one_name_at_once_one_is_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_rows(workspace, numbered(30))
    both, write = threading.Barrier(2), policy_training._write_data

    def write_slowly(*given: Any) -> None:
        with suppress(threading.BrokenBarrierError):  # both have found the name free, or the other has to wait
            both.wait(timeout=0.5)
        write(*given)

    monkeypatch.setattr(policy_training, "_write_data", write_slowly)
    monkeypatch.setattr(engine, "start", lambda run: None)

    def start() -> str:
        try:
            return runs.start_run(workspace, "sft", {"policy": "new", "data": "small"}).run_id
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        said = [one.result() for one in [pool.submit(start) for _ in range(2)]]
    assert sum("a policy 'new' is being made" in one for one in said) == 1
    assert len([*workspace.runs.iterdir()]) == 1


def test_a_reward_model_that_is_being_trained_has_its_name_already(workspace: Workspace) -> None:
    Run.create(
        workspace.runs / "20261102-alignment.001-reward", kind="reward", module="training.reward", title="",
        config=Training(model="coming"),
    )  # fmt: skip
    with pytest.raises(ValueError, match="a reward model 'coming' is being trained: choose another name, or cancel that run"):
        reward_models.register(workspace, "coming", "length", {}, "ana")


def test_what_the_model_cannot_read_together_is_refused_before_a_run_starts(workspace: Workspace, tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path / "tiny")
    tiny_causal(tmp_path / "tiny")
    import_rows(workspace, numbered(30))
    with pytest.raises(ValueError, match="max_prompt is 512 and max_tokens 128: expected together at most the 512 tokens"):
        runs.start_run(workspace, "sft", {"policy": "new", "data": "small", "base": str(tmp_path / "tiny")})


def test_a_grid_says_what_is_trained_first_and_where_a_run_stands_in_it(workspace: Workspace, tmp_path: Path) -> None:
    import_rows(workspace, numbered(30))
    asked = policy_training.KINDS["ppo"].asked.model_validate({"policy": "new", "data": "small", "reward_model": "later"})
    later = Named(name="later", run="/runs/later")
    told = policy_training.hand_over(
        "ppo", workspace, asked, tmp_path, reward=later, scored_by=[later], cell={"alignment": "grid", "seed": 4}
    )
    assert isinstance(told, Ppo)
    assert (told.reward, told.scored_by, told.cell) == (later, (later,), {"alignment": "grid", "seed": 4})
    assert policy_training.title(told) == "new, from smollm2, by later"


def test_the_settings_of_a_kind_are_those_that_people_give() -> None:
    for kind in policies.KINDS:
        found = {one["setting"]: one for one in runs.settings_of(kind)}
        assert list(found)[:3] == ["policy", "base", "data"]
        assert found.keys() & {"reward", "cell"} == set()
        assert found["scored_by"]["default"] == ""
        assert all(one["means"] for one in found.values())
        assert ("count" in found) == (kind not in ("generate", "best-of-n"))
        assert ("samples" in found) == (kind != "best-of-n")  # whose samples are n
        assert ("reward_model" in found) == (kind in ("dpo", "ppo", "rloo"))


def test_curves_of_policies_are_drawn_with_what_was_held_out_beside(tmp_path: Path) -> None:
    lines = [{"step": n, "reward": n, "kl": 0.1, "held_out_kl": 0.2, "stopped": 1.0, "learning_rate": 1e-5} for n in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    found = runs.curves(Run(tmp_path))
    assert found is not None
    assert {value: list(some) for value, some in found.lines.items()} == {
        "reward": ["reward"], "KL from the start, nats": ["kl", "held-out-kl"], "share that stopped": ["stopped"],
    }  # fmt: skip


# ---- one, done


def test_a_policy_generates_is_taken_in_and_is_begun_from_by_another(
    workspace: Workspace, tmp_path: Path, at_once: None
) -> None:
    tiny_tokenizer(tmp_path / "tiny")
    tiny_causal(tmp_path / "tiny")
    import_rows(workspace, numbered(20))
    policies.register(workspace, "base", str(tmp_path / "tiny"), "ana")
    short = {"data": "small", "held_out": 0.5, "looked_at": 4, "max_tokens": 6, "max_prompt": 64}
    run = runs.start_run(
        workspace, "generate", {"policy": "said", "base": "base", "scored_by": "length", "samples": 2, **short}
    )
    assert run.state().error is None
    assert run.state().title == "said, from tiny"
    assert runs.settle(workspace) == [run.run_id]
    assert {one.taken_in for one in runs.all_runs(workspace)} == {True}
    (made,) = workspace.policies.named(["said"])
    assert (made.points, made.prompts, made.responses) == ((0,), 4, 8)
    assert len(workspace.policies.scored("said", "length").score) == 8
    lineage = json.loads(workspace.policies.policy("said").lineage)
    assert (lineage["base"]["policy"], lineage["prompts"]["held out"], lineage["cell"]["data"]) == ("base", 4, "small")
    again = runs.start_run(workspace, "generate", {"policy": "again", "base": "said", **short})
    assert runs.settle(workspace) == [again.run_id]
    texts = [{one.text for one in workspace.policies.written(name)} for name in ("said", "again")]
    assert texts[1] <= texts[0]  # the same model, seed and prompts: its one sample is the other's first
    with pytest.raises(ValueError, match="there is a policy or a generator 'said' already"):
        runs.start_run(workspace, "generate", {"policy": "said", "base": "base", **short})


def test_the_best_of_n_is_a_generator_for_each_reward_model_that_picked(
    workspace: Workspace, tmp_path: Path, at_once: None
) -> None:
    tiny_tokenizer(tmp_path / "tiny")
    tiny_causal(tmp_path / "tiny")
    import_rows(workspace, numbered(20))
    wanted = {"policy": "best", "base": str(tmp_path / "tiny"), "data": "small", "held_out": 0.5, "looked_at": 3, "n": 4}
    run = runs.start_run(workspace, "best-of-n", wanted | {"scored_by": "length", "max_tokens": 6, "max_prompt": 64})
    assert run.state().error is None
    assert runs.settle(workspace) == [run.run_id]
    (made,) = workspace.policies.named(["best"])
    assert (made.generator, made.points, made.prompts) == ("best/length", (0, 1, 2, 4), 3)
    found = workspace.policies.scored("best/length", "length")
    by_n = {n: found.score[found.point == n].mean() for n in made.points}
    assert by_n[1] <= by_n[2] <= by_n[4]
    words = policy_view.in_words(workspace.policies.policy("best"))
    assert any(line.startswith("  at 4: n = 3, picked by length, KL at most 0.636 (bound)") for line in words)
