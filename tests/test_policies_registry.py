"""The registry of policies: names, what is begun from, what a run's output becomes, and what others are given of it."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import outputs, policies, policy_view, runs, scoring, studies, study_items
from curation.outputs import Output
from curation.pairs import prompt_id_of, turn, unpacked
from curation.store.studies import NewItem, NewResponse
from curation.study_design import Design
from curation.study_items import Sample
from curation.workspace import Workspace
from tests.conftest import hh, import_rows, numbered
from tests.scored import give, known
from tests.test_pages import opened as opened_app
from training import loading
from training.policy_data import RESPONSES, SUMMARY, Answer, Prompt, Prompts, answers_table, write_prompts, write_table
from training.policy_settings import Named, PolicySettings
from training.rewards.base import Message
from training.run import Run, write_json

Row = tuple[int, int, int, str]  # prompt, point, sample, response


def asked(number: int) -> Prompt:
    """The prompt of `numbered`'s row."""
    text = f"Question {number}?"
    return Prompt(prompt_id_of([turn("user", text)]), (Message("user", text),))


def left(
    workspace: Workspace, name: str, rows: Sequence[Row], *, kind: str = "ppo", base: str = "smollm2",
    model: Path | None = None, scores: Mapping[str, Sequence[float | None]] | None = None, picked: Sequence[str] = (),
    learned: Sequence[int] = (), more: Mapping[str, Any] | None = None,
) -> Run:  # fmt: skip
    """A finished run of a policy, written by hand. `scores` are in the rows' order; `picked` says whose picks these are."""
    named = tuple(Named(name=one, family="length") for one in scores or {})
    settings = PolicySettings(policy=name, base=base, data="small", scored_by=named, seed=3)
    run = Run.create(workspace.runs / f"20261102-{name}", kind=kind, module="training.none", title=name, config=settings)
    numbers = sorted({one[0] for one in rows})
    write_prompts(run.input, Prompts([asked(one) for one in learned], [asked(one) for one in numbers]))
    answers = [Answer(asked(p).prompt_id, point, s, text, len(text), True, 0.5 if point else 0.0) for p, point, s, text in rows]
    table = answers_table(answers, {})
    for one, values in (scores or {}).items():
        table = table.append_column(f"score/{one}", pa.array(values, pa.float64()))
        table = table.append_column(f"cut/{one}", pa.array([False] * len(rows)))
    if picked:
        table = table.append_column("reward_model", pa.array(picked, pa.string()))
    write_table(run.output / RESPONSES, table)
    if model:
        shutil.copytree(model, run.folder / "model")
    files = loading.fingerprint(loading.place_of(base)) if Path(base).is_dir() else "0123"
    found = {"name": Path(base).name, "hub": "", "fingerprint": files, "licence": "mit"}
    lineage = {
        "kind": kind, "base": found, "data": "small", "data_hash": "ab", "reward_model": {"name": "proxy", "fingerprint": ""},
        "seed": 3, "code": "elephant-room 0.1.0", "cell": {}, **(more or {}),
    }  # fmt: skip
    points = sorted({one[1] for one in rows})
    summary = {
        "policy": name, "kind": kind, "model": "model" if model else "", "base": found, "licence": "mit", "lineage": lineage,
        "settings": settings.model_dump(mode="json"), "data": "small", "data_hash": "ab", "steps": points[-1], "seconds": 2.0,
        "points": [{"point": one, "n": 2, "kl": 0.5, "length": 4.0, "stopped": 1.0, "scores": {"gold": 1.5}} for one in points],
        "generated": 10, "trained": 5, "versions": {"torch": "2"}, "notes": ["a note"],
    }  # fmt: skip
    write_json(run.output / SUMMARY, summary)
    run.write_state(run.state().model_copy(update={"status": "done", "ended_at": datetime.now(UTC)}))
    return run


ROWS: list[Row] = [(0, 0, 0, "well"), (1, 0, 0, "hm"), (0, 8, 0, "Yes."), (1, 8, 0, "No.")]


# ---- names and models


def test_a_policy_made_elsewhere_is_registered_under_a_name_of_its_own(workspace: Workspace, tiny: Path) -> None:
    made = policies.register(workspace, "one", str(tiny), "ana")
    assert (made.kind, made.source, made.fingerprint) == ("given", str(tiny), loading.fingerprint(loading.place_of(str(tiny))))
    assert policies.source_of(workspace, "one") == str(tiny)
    assert policies.source_of(workspace, str(tiny)) == str(tiny)
    assert policies.source_of(workspace, "someone/on-the-hub") == "someone/on-the-hub"
    assert policies.source_of(workspace, "smollm2") == "smollm2"
    assert policies.policy_at(workspace, str(tiny)) == made
    assert policies.policy_at(workspace, "smollm2") is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a b", "the name 'a b' cannot be used: expected up to 60 letters"),
        ("best/gold", "the name 'best/gold' cannot be used"),
        ("chosen", "the name 'chosen' means something else"),
        ("tie", "the name 'tie' means something else"),
        ("smollm2", "the name 'smollm2' means something else"),
        ("one", "there is a policy or a generator 'one' already"),
        ("gpt", "there is a policy or a generator 'gpt' already"),
        ("busy", "a policy 'busy' is being made: choose another name, or cancel that run"),
    ],
)
def test_a_name_that_means_something_else_is_refused(workspace: Workspace, tiny: Path, name: str, says: str) -> None:
    policies.register(workspace, "one", str(tiny), "ana")
    studies.create(workspace, "study", Design(), "ana")
    response = NewResponse("gpt", policies.Response("hello"))
    item = NewItem("i", "", (turn("user", "Hi"),), (response,), "", "item", "", "")
    studies.add_items(workspace, "study", [item], "ana", words="by hand")
    Run.create(
        workspace.runs / "20261102-sft", kind="sft", module="training.sft", title="", config=PolicySettings(policy="busy")
    )
    with pytest.raises(ValueError, match=says):
        policies.register(workspace, name, str(tiny), "ana")


def test_a_folder_that_is_not_there_or_has_changed_is_not_begun_from(workspace: Workspace, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder '/nowhere/model': expected a folder"):
        policies.register(workspace, "one", "/nowhere/model", "ana")
    own = tmp_path / "own"
    shutil.copytree(tiny, own)
    policies.register(workspace, "one", str(own), "ana")
    (own / "config.json").write_text((own / "config.json").read_text() + " ")
    with pytest.raises(ValueError, match="the files of policy 'one' have changed since it was registered"):
        policies.source_of(workspace, "one")


def test_a_trained_policy_is_found_again_where_its_workspace_was_moved_to(workspace: Workspace, tiny: Path) -> None:
    policies.take_in(workspace, left(workspace, "one", ROWS, model=tiny))
    assert workspace.policies.policy("one").source == "runs/20261102-one/model"
    moved = workspace.folder.with_name("moved")
    workspace.close()
    workspace.folder.rename(moved)
    with closing(Workspace(moved)) as opened:
        assert policies.source_of(opened, "one") == str(moved / "runs" / "20261102-one" / "model")
        run = left(opened, "two", ROWS, model=tiny, base="/where/it/was/workspace/runs/20261102-one/model")
        policies.take_in(opened, run)
        assert json.loads(opened.policies.policy("two").lineage)["base"]["policy"] == "one"
    Workspace(moved).close()


# ---- what a run made


def test_a_run_comes_in_with_its_lineage_what_it_learned_and_its_scores(workspace: Workspace, tiny: Path) -> None:
    pair_ids = import_rows(workspace, numbered(6))
    known(workspace, "gold")
    run = left(workspace, "one", ROWS, model=tiny, scores={"gold": [1.0, 2.0, 3.0, None], "new": [0, 0, 0, 0]}, learned=(4,))
    pairs = [{"pair_id": one, "split": split} for one, split in zip(pair_ids[:2], ("train", "held out"), strict=True)]
    pq.write_table(pa.Table.from_pylist(pairs), run.input / "pairs.parquet")
    before = workspace.scores.generation
    assert runs.settle(workspace) == [run.run_id]
    assert runs.settle(workspace) == []
    policies.take_in(workspace, run)
    (made,) = workspace.policies.all()
    assert (made.kind, made.person, made.licence, made.run_id) == ("ppo", "elephant", "mit", run.run_id)
    assert made.fingerprint == loading.fingerprint(loading.place_of(str(tiny)))
    assert workspace.policies.learned("one") == {asked(0).prompt_id, asked(4).prompt_id}
    assert sorted(workspace.policies.scored("one", "gold").score) == [1.0, 2.0, 3.0]
    assert workspace.policies.scorers("one") == ["gold"]
    assert workspace.scores.generation == before + 1
    lineage = json.loads(made.lineage)
    assert lineage["cell"] == {
        "alignment": "", "algorithm": "ppo", "reward_model": "proxy", "recipe": "", "data": "small", "seed": 3,
    }  # fmt: skip
    assert (lineage["base_lineage"], lineage["scored_by"][0]) == (None, {"name": "gold", "fingerprint": ""})
    assert [one["point"] for one in lineage["points"]] == [0, 8]


def test_what_it_began_from_is_told_down_to_the_first(workspace: Workspace, tiny: Path) -> None:
    policies.register(workspace, "base", str(tiny), "ana")
    policies.take_in(workspace, left(workspace, "one", ROWS, model=tiny, base=str(tiny), learned=(5,)))
    first = str(workspace.folder / "runs" / "20261102-one" / "model")
    policies.take_in(workspace, left(workspace, "two", ROWS, model=tiny, base=first, learned=(4,)))
    lineage = json.loads(workspace.policies.policy("two").lineage)
    assert [lineage["base"]["policy"], lineage["base_lineage"]["base"]["policy"]] == ["one", "base"]
    policies.register(workspace, "alias", str(tiny), "ana")
    run = left(workspace, "three", ROWS, model=tiny, base=str(tiny))
    write_json(run.input / policies.SPLIT, {"base": "alias"})
    policies.take_in(workspace, run)
    assert json.loads(workspace.policies.policy("three").lineage)["base"]["policy"] == "alias"
    assert lineage["base_lineage"]["base_lineage"]["kind"] == "given"
    assert workspace.policies.learned("two") == {asked(4).prompt_id, asked(5).prompt_id}
    words = "\n".join(policy_view.in_words(workspace.policies.policy("two")))
    assert f"  start: one, files {lineage['base']['fingerprint']}" in words
    assert "  began from one: ppo, from base, on small, by proxy\n  began from base: given, from " in words
    assert "  at 8: n = 2, KL 0.500, 4.0 tokens, 100% stopped, gold 1.5" in words
    assert "place in a grid" not in words


def test_a_place_in_a_grid_is_kept_and_told(workspace: Workspace) -> None:
    cell = {"alignment": "grid", "data": "release:v1", "seed": 9}
    policies.take_in(workspace, left(workspace, "one", ROWS, more={"cell": cell}))
    made = workspace.policies.policy("one")
    assert json.loads(made.lineage)["cell"] == {
        "alignment": "grid", "algorithm": "ppo", "reward_model": "proxy", "recipe": "", "data": "release:v1", "seed": 9,
    }  # fmt: skip
    assert any("alignment grid" in line for line in policy_view.in_words(made))


def test_who_was_only_generated_from_is_its_base_and_picks_have_no_model(workspace: Workspace, tiny: Path) -> None:
    policies.register(workspace, "base", str(tiny), "ana")
    policies.take_in(workspace, left(workspace, "said", ROWS, kind="generate", base=str(tiny)))
    rows: list[Row] = [(0, n, 0, f"{by} {n}") for by in "gp" for n in (1, 4)]
    policies.take_in(workspace, left(workspace, "best", rows, kind="best-of-n", picked=["gold", "gold", "proxy", "proxy"]))
    assert policies.source_of(workspace, "said") == str(tiny)
    assert [one.generator for one in workspace.policies.generators()] == ["best/gold", "best/proxy", "said"]
    assert [one.text for one in workspace.policies.written("best/proxy", 4)] == ["p 4"]
    with pytest.raises(ValueError, match="'best' has no model of its own"):
        policies.source_of(workspace, "best")
    (row,) = [one for one in policy_view.rows(workspace) if one["policy"] == "best"]
    assert row["KL"] == f"at most {math.log(4) - 3 / 4:.2f} (bound, n = 4)"
    assert (row["responses"], row["reward model"]) == (4, "proxy")


def told_by(run: Run, **settings: Any) -> None:
    """The same run, that was told otherwise."""
    summary = json.loads((run.output / SUMMARY).read_text())
    write_json(run.output / SUMMARY, {**summary, "settings": {**summary["settings"], **settings}})


def test_scores_come_in_under_the_name_of_the_model_that_gave_them_alone(workspace: Workspace) -> None:
    run = left(workspace, "one", ROWS, scores={"new": [1.0, 2.0, 3.0, 4.0]})
    told_by(run, scored_by=[Named(name="new", run="/where/it/was/runs/20261101-reward").model_dump(mode="json")])
    says = "the reward model 'new' that run 20261101-reward trained is not in: resume that run first"
    with pytest.raises(ValueError, match=says):
        policies.take_in(workspace, run)
    known(workspace, "new")  # what somebody else registered meanwhile
    with pytest.raises(ValueError, match=says):
        policies.take_in(workspace, run)
    told_by(run, scored_by=[{"name": "new", "family": "length", "run": "", "fingerprint": "0123"}])
    with pytest.raises(ValueError, match="'new' is another reward model here than the one that scored"):
        policies.take_in(workspace, run)
    assert workspace.policies.all() == []
    assert workspace.scores.scores("new") == {}


def test_a_policy_waits_for_the_one_it_began_from_whose_prompts_are_its_own(workspace: Workspace, tiny: Path) -> None:
    first = left(workspace, "one", ROWS, model=tiny, learned=(5,))
    second = left(workspace, "two", ROWS, model=tiny, base=str(first.folder / "model"), learned=(4,))
    with pytest.raises(ValueError, match="the policy of run 20261102-one, from which it began, is not in"):
        policies.take_in(workspace, second)
    policies.take_in(workspace, first)
    policies.take_in(workspace, second)
    assert workspace.policies.learned("two") == {asked(4).prompt_id, asked(5).prompt_id}


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_score_that_is_no_number_stops_the_whole_and_the_run_says_so(workspace: Workspace, broken: float) -> None:
    known(workspace, "gold")
    run = left(workspace, "one", ROWS, scores={"gold": [1.0, broken, 0.0, 1.0]})
    assert runs.settle(workspace) == []
    assert run.state().error == "its output could not be taken in: 1 scores of 'gold' are no numbers"
    assert workspace.policies.all() == []
    assert workspace.scores.scores("gold") == {}


def test_output_that_cannot_be_read_is_told_in_a_sentence(workspace: Workspace) -> None:
    run = left(workspace, "one", ROWS)
    table = pq.read_table(run.output / RESPONSES)
    pq.write_table(table.drop_columns(["tokens"]), run.output / RESPONSES)
    with pytest.raises(ValueError, match="cannot be read") as error:
        policies.take_in(workspace, run)
    assert "\n" not in str(error.value)
    (run.output / RESPONSES).write_text("no table")
    with pytest.raises(ValueError, match=r"responses.parquet' cannot be read"):
        policies.take_in(workspace, run)


def test_a_prompt_of_unusual_marks_is_the_one_the_workspace_has(workspace: Workspace) -> None:
    (pair_id,) = import_rows(
        workspace, [{"chosen": "\n\nHuman:Hi\n\nAssistant: a", "rejected": "\n\nHuman:Hi\n\nAssistant: b"}]
    )
    pair = workspace.pairs.pair(pair_id)
    run = left(workspace, "one", [(0, 0, 0, "x")])
    write_prompts(run.input, Prompts([], [Prompt(pair.prompt_id, (Message("user", "Hi"),))]))
    table = pq.read_table(run.output / RESPONSES)
    place = table.column_names.index("prompt_id")
    write_table(run.output / RESPONSES, table.set_column(place, "prompt_id", pa.array([pair.prompt_id])))
    policies.take_in(workspace, run)
    (one,) = workspace.policies.written("one")
    assert unpacked(one.turns) == pair.prompt


# ---- what others are given


def test_studies_are_given_the_last_answers_and_their_items_name_the_policies(workspace: Workspace) -> None:
    for name, words in (("one", "first"), ("two", "second")):
        rows: list[Row] = [(p, point, s, f"{words} {p} {point} {s}") for p in (0, 1) for point in (0, 8) for s in (0, 1)]
        policies.take_in(workspace, left(workspace, name, rows))
    assert policies.outputs(workspace, ["one"], point=0)[0] == Output(
        (turn("user", asked_by(workspace, 0)),), f"first {first_number(workspace)} 0 0", "one", "", ""
    )
    found = study_items.from_policies(workspace, "study", Design(protocol="compare"), ["one", "two"], Sample(10))
    assert [sorted(one.generator for one in item.responses) for item in found.items] == [["one", "two"]] * 2
    assert {one.response.text[-3:] for item in found.items for one in item.responses} == {"8 0"}
    with pytest.raises(ValueError, match=r"no responses of 'one' at 3: there are some at 0, 8"):
        policies.outputs(workspace, ["one"], point=3)
    studies.create(workspace, "study", Design(protocol="compare"), "ana")
    studies.add_items(workspace, "study", found.items, "ana", words=found.words)
    known_ids = {one.response_id for name in ("one", "two") for one in workspace.policies.generations(name, 8)}
    assert {one for content in workspace.studies.contents("study").values() for one in content.texts} <= known_ids


def first_number(workspace: Workspace) -> int:
    """Of the prompts 0 and 1 the one whose id comes first."""
    return min((0, 1), key=lambda number: asked(number).prompt_id)


def asked_by(workspace: Workspace, place: int) -> str:
    return asked(sorted((0, 1), key=lambda number: asked(number).prompt_id)[place]).turns[0].content


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_responses_go_to_a_file_in_alpacaevals_form_and_come_back(workspace: Workspace, tmp_path: Path, ending: str) -> None:
    policies.take_in(workspace, left(workspace, "one", ROWS))
    assert policy_view.export(workspace, "one", tmp_path / f"said.{ending}") == 2
    if ending == "jsonl":
        read = outputs.read(tmp_path / "said.jsonl").outputs
        assert read == policies.outputs(workspace, ["one"])
        record = json.loads((tmp_path / "said.jsonl").read_text().splitlines()[0])
        assert list(record) == list(policy_view.COLUMNS)
    else:
        assert (tmp_path / "said.csv").read_text().splitlines()[0] == ",".join(policy_view.COLUMNS)
    assert policy_view.export(workspace, "one", tmp_path / f"start.{ending}", point=0) == 2
    with pytest.raises(ValueError, match=r"ends in '.txt': expected"):
        policy_view.export(workspace, "one", tmp_path / "said.txt")


def test_a_prompt_of_several_turns_is_exported_whole(workspace: Workspace, tmp_path: Path) -> None:
    (pair_id,) = import_rows(workspace, [hh("Hi\n\nAssistant: Yes?\n\nHuman: Why?", "a", "b")])
    pair = workspace.pairs.pair(pair_id)
    run = left(workspace, "one", [(0, 0, 0, "x")])
    write_prompts(run.input, Prompts([], [Prompt(pair.prompt_id, tuple(Message(*one[:2]) for one in pair.prompt))]))
    table = pq.read_table(run.output / RESPONSES)
    place = table.column_names.index("prompt_id")
    write_table(run.output / RESPONSES, table.set_column(place, "prompt_id", pa.array([pair.prompt_id])))
    policies.take_in(workspace, run)
    policy_view.export(workspace, "one", tmp_path / "said.jsonl")
    record = json.loads((tmp_path / "said.jsonl").read_text())
    assert record["instruction"] == "Human: Hi\n\nAssistant: Yes?\n\nHuman: Why?"
    assert [one["role"] for one in record["prompt"]] == ["user", "assistant", "user"]


# ---- scoring them


def handed(workspace: Workspace, folder: Path, **wanted: Any) -> tuple[Any, list[dict[str, Any]]]:
    folder.mkdir()
    told = scoring.hand_over(workspace, scoring.Wanted.model_validate({"reward_model": "length", **wanted}), folder)
    (file,) = folder.iterdir()
    return told, pq.read_table(file).to_pylist()


def test_a_reward_model_scores_what_policies_answered_each_text_once(workspace: Workspace, tmp_path: Path) -> None:
    policies.take_in(workspace, left(workspace, "one", ROWS))
    policies.take_in(workspace, left(workspace, "two", [(0, 8, 0, "Yes."), (1, 8, 0, "Maybe.")]))
    told, texts = handed(workspace, tmp_path / "all", policies="one, two")
    assert sorted(json.loads(one["response"])[0][1] for one in texts) == ["Maybe.", "No.", "Yes.", "hm", "well"]
    assert (told.of["in words"], told.unit) == ("policies one, two", "prompts")
    _, last = handed(workspace, tmp_path / "last", policies="one", points="last")
    assert sorted(json.loads(one["response"])[0][1] for one in last) == ["No.", "Yes."]
    ids = {one["response_id"]: 1.0 for one in texts}
    give(workspace, "length", ids)
    with pytest.raises(ValueError, match="length has scored policy one already: nothing is missing"):
        handed(workspace, tmp_path / "again", policies="one")


def test_a_model_that_compares_gets_every_two_last_answers_to_a_prompt(workspace: Workspace, tmp_path: Path) -> None:
    known(workspace, "duel", compares=True, family="length")
    for name in ("one", "two", "three"):
        rows: list[Row] = [(p, point, s, f"{name} {p} {point} {s}") for p in (0, 1) for point in (0, 8) for s in (0, 1)]
        policies.take_in(workspace, left(workspace, name, rows))
    _, duels = handed(workspace, tmp_path / "duels", policies="one,two,three", reward_model="duel", points="last")
    assert len(duels) == 2 * 2 * 3  # prompts, samples, pairs of three
    for duel in duels:
        first, second = (json.loads(duel[side])[0][1].split() for side in ("first", "second"))
        assert first[0] != second[0]
        assert first[1:] == second[1:]  # prompt, point, sample
        assert first[2] == "8"
    picks: list[Row] = [(0, 4, 3, "pick 0"), (1, 4, 2, "pick 1")]  # the samples that were picked bear their own numbers
    policies.take_in(workspace, left(workspace, "best", picks, kind="best-of-n", picked=["gold", "gold"]))
    _, duels = handed(workspace, tmp_path / "picks", policies="best, one", reward_model="duel", points="last")
    said = [{json.loads(one[side])[0][1] for side in ("first", "second")} for one in duels]
    assert sorted(map(sorted, said)) == [["one 0 8 0", "pick 0"], ["one 1 8 0", "pick 1"]]
    policies.take_in(workspace, left(workspace, "far", [(7, 8, 0, "elsewhere")]))
    with pytest.raises(ValueError, match="policies one, far have no prompt in common"):
        handed(workspace, tmp_path / "apart", policies="one,far", reward_model="duel")
    for alone, points in (("one", "last"), ("far", "all")):
        with pytest.raises(
            ValueError, match=f"duel compares two responses: expected two policies or more, .*not policy {alone}"
        ):
            handed(workspace, tmp_path / f"alone-{alone}", policies=alone, reward_model="duel", points=points)


def test_a_model_that_compares_sets_policies_against_their_starts_too(workspace: Workspace, tmp_path: Path) -> None:
    known(workspace, "duel", compares=True, family="length")
    for name in ("one", "two"):
        rows: list[Row] = [(p, point, s, f"{name} {p} {point} {s}") for p in (0, 1) for point in (0, 4, 8) for s in (0, 1)]
        policies.take_in(workspace, left(workspace, name, rows))
    told, duels = handed(workspace, tmp_path / "both", policies="one,two", reward_model="duel")
    said = {frozenset(json.loads(duel[side])[0][1] for side in ("first", "second")) for duel in duels}
    sides = [("one", 8, "two", 8), ("one", 0, "one", 8), ("two", 0, "two", 8)]
    expected = {frozenset((f"{a} {p} {b} {s}", f"{c} {p} {d} {s}")) for a, b, c, d in sides for p in (0, 1) for s in (0, 1)}
    assert said == expected
    assert (len(duels), told.pairs, told.unit) == (12, 12, "comparisons")
    _, duels = handed(workspace, tmp_path / "one", policies="one", reward_model="duel")
    assert {json.loads(duel[side])[0][1][:3] for duel in duels for side in ("first", "second")} == {"one"}
    assert len(duels) == 4


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"policies": "one", "dataset": "small"}, "a scoring wants a dataset or a study"),
        ({"policies": "one", "probes": True}, "go with dataset=NAME, not with policies"),
        ({"policies": "nobody"}, "no responses of a policy 'nobody': there are some of one"),
        ({"policies": ","}, "policies is ',': expected names of policies, with commas"),
        ({"dataset": "small", "points": "last"}, "points goes with policies=NAMES"),
    ],
)
def test_a_scoring_of_policies_that_cannot_be_is_refused(workspace: Workspace, wanted: dict[str, Any], says: str) -> None:
    import_rows(workspace, numbered(2))
    policies.take_in(workspace, left(workspace, "one", ROWS))
    with pytest.raises(ValueError, match=says):
        runs.start_run(workspace, "score", {"reward_model": "length", **wanted})


# ---- the command


def test_the_command_lists_registers_shows_and_exports(elephant: Any, opened: Any, tiny: Path, tmp_path: Path) -> None:
    assert elephant("policies") == "no policy yet\n"
    said = elephant("policies", "add", "base", f"source={tiny}", "--json")
    assert json.loads(said)["source"] == str(tiny)
    with opened() as workspace:
        left(workspace, "one", ROWS, base=str(tiny), scores={"length": [1.0, 2.0, 3.0, 4.0]})  # is taken in by the command
        left(workspace, "other", [(0, 8, 0, "x"), (1, 8, 0, "y")])
    lines = elephant("policies").splitlines()
    assert [line.split()[0] for line in lines] == ["policy", "base", "one", "other"]
    assert "0.50 (0.50 to 0.50), n = 2 prompts" in lines[2]
    row = json.loads(elephant("policies", "--json"))[1]
    assert (row["from"], row["reward model"], row["responses"], row["lineage"]["seed"]) == ("base", "proxy", 4, 3)
    assert "  seed: 3\n" in elephant("policies", "show", "one")
    assert json.loads(elephant("policies", "show", "one", "--json"))["lineage"]["data"] == "small"
    assert (
        elephant("policies", "export", "one", "--out", tmp_path / "said.json") == f"2 responses in {tmp_path / 'said.json'}\n"
    )
    assert "no policy 'nobody': there is base, one, other" in elephant("policies", "show", "nobody", expect=2)
    assert "there is a policy or a generator 'one' already" in elephant("policies", "add", "one", "smollm2", expect=2)
    elephant("study", "create", "s", "--protocol", "compare", "--policies", "one,other", "--count", "5")
    with opened() as workspace:
        rows = workspace.database.rows("SELECT generator, count(*) FROM study_responses GROUP BY ALL ORDER BY 1")
        assert rows == [("one", 2), ("other", 2)]
    assert "--point needs --policies" in elephant("study", "add", "s", "--point", "0", expect=2)
    both = elephant("study", "add", "s", "--policies", "one", "--dataset", "small", expect=2)
    assert "--dataset and --policies were given together" in both


# ---- the page of studies


def test_a_study_of_policies_is_set_up_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened_app(tmp_path / "workspace", monkeypatch, "lead")
    with closing(app.workspace):
        at = app.go("studies")
        at.radio(key="new-source").set_value("Policies").run()
        assert "No policy has answered anything yet." in app.words()
        for name in ("one", "two"):
            policies.take_in(app.workspace, left(app.workspace, name, [(0, 0, 0, "x"), (0, 8, 0, f"said by {name}")]))
        at.run()
        at.text_input(key="new-name").set_value("study")
        at.button(key="create").click().run()
        assert [one.value for one in at.error] == ["no policy was chosen"]
        at.multiselect(key="new-policies").set_value(["one", "two"])
        at.button(key="create").click().run()
        assert list(at.exception) == []
        (content,) = app.workspace.studies.contents("study").values()
        assert sorted(content.texts.values()) == ["said by one", "said by two"]
