"""Looks at a policy and the runs that generate: what is kept is not sampled again, what is stopped goes on to the same."""

import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny_models import tiny_causal, tiny_classifier, tiny_tokenizer
from training import looks as looks_module
from training import policy_data, reasons
from training.generate import generate
from training.looks import Looks
from training.policies import log_probs, opened
from training.policy_data import Prompt, Prompts
from training.policy_settings import Generating, Looked, Named
from training.rewarding import Rewarder
from training.rewards.base import Message
from training.run import Cancelled, Run
from training.sampling import sampled

WORDS = ("bread", "the lazy dog", "water and salt", "how do I make yeast wait", "a fox", "USER:", "which is better?")
PROMPTS = [Prompt(f"p{number}", (Message("user", f"{word} {number}"),)) for number, word in enumerate(WORDS)]
LENGTH = Named(name="length", family="length")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_tokenizer(folder)
    tiny_causal(folder, eos_token_id=list(range(60, 100)))  # a response ends about every tenth token
    return folder


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(looks_module, "_PART_ON_CPU", 4)  # two prompts a part


def new_run(folder, base, prompts=PROMPTS, **settings):
    config = Generating(policy="tried", base=str(base), data="a toy", samples=2, max_tokens=10, seed=3, **settings)
    run = Run.create(folder, kind="generate", module="training.generate", title="toy", config=config)
    policy_data.write_prompts(run.input, Prompts([Prompt("other", PROMPTS[0].turns)], list(prompts)))
    return run


def rows(run):
    return pq.read_table(run.output / "responses.parquet").to_pylist()


def summary(run):
    return json.loads((run.output / "summary.json").read_text())


def parts(run):
    return {one.name: one.stat().st_mtime_ns for one in run.checkpoints.rglob("part-*.parquet")}


class Stopped(Run):
    """A run that somebody asks to stop when so many parts are there."""

    at = 2

    def tell(self, *told, **how):
        if len(parts(self)) >= self.at:
            self.stop.touch()
            self._told = 0.0
        super().tell(*told, **how)


# ---- the job


def test_a_run_answers_every_held_out_prompt_as_often_as_asked_and_scores_what_it_answered(tmp_path, base, scorer):
    run = new_run(tmp_path / "run", base, scored_by=[LENGTH, scorer])
    generate(run)
    found = rows(run)
    assert [(one["prompt_id"], one["sample"]) for one in found] == [(p.prompt_id, s) for p in PROMPTS for s in (0, 1)]
    assert {(one["point"], one["log_ratio"]) for one in found} == {(0, None)}
    assert all(one["stopped"] or one["tokens"] == 10 for one in found)
    assert [one["score/length"] for one in found] == [len(one["text"]) for one in found]
    turns = {one.prompt_id: one.turns for one in PROMPTS}
    expected = Rewarder(scorer).scored([turns[one["prompt_id"]] for one in found], [one["text"] for one in found])
    np.testing.assert_allclose([one["score/org/tiny"] for one in found], expected.values, atol=1e-5)
    assert sum(one["cut/org/tiny"] for one in found) == expected.truncated > 0
    told = summary(run)
    (point,) = told["points"]
    assert (point["point"], point["n"], point["kl"]) == (0, 14, None)
    assert point["length"] == pytest.approx(np.mean([one["tokens"] for one in found]))
    assert point["stopped"] == pytest.approx(np.mean([one["stopped"] for one in found]))
    assert point["scores"] == pytest.approx({"length": np.mean([len(one["text"]) for one in found]),
                                             "org/tiny": expected.values.mean()})  # fmt: skip
    assert (told["kind"], told["model"], told["policy"], told["notes"]) == ("generate", "", "tried", [])
    assert told["generated"] == sum(one["tokens"] for one in found)
    assert run.progress().done == run.progress().total == 14


def test_a_run_that_is_stopped_half_way_goes_on_to_what_an_undisturbed_one_answers(tmp_path, base, small_parts):
    generate(new_run(tmp_path / "whole", base, scored_by=[LENGTH]))
    run = new_run(tmp_path / "stopped", base, scored_by=[LENGTH])
    with pytest.raises(Cancelled):
        generate(Stopped(run.folder))
    before = parts(run)
    assert 2 <= len(before) < 4
    assert list(run.output.iterdir()) == []
    run.stop.unlink()
    generate(run)
    assert {name: at for name, at in parts(run).items() if name in before} == before  # not sampled again
    assert len(parts(run)) == 4
    assert rows(run) == rows(Run(tmp_path / "whole"))
    same = ("points", "generated", "data_hash", "settings", "notes")
    assert {name: summary(run)[name] for name in same} == {name: summary(Run(tmp_path / "whole"))[name] for name in same}


def test_the_size_of_parts_and_batches_changes_no_answer(tmp_path, base, small_parts, monkeypatch):
    generate(new_run(tmp_path / "small", base, batch_tokens=1))
    monkeypatch.setattr(looks_module, "_PART_ON_CPU", 64)
    generate(new_run(tmp_path / "large", base))
    assert rows(Run(tmp_path / "small")) == rows(Run(tmp_path / "large"))


def test_settings_of_sampling_reach_it(tmp_path, base):
    for name, settings in (("k", {"top_k": 1}), ("p", {"top_p": 1e-9}), ("t", {"temperature": 1e-5})):
        generate(new_run(tmp_path / name, base, **settings))
    k, p, t = ([one["text"] for one in rows(Run(tmp_path / name))] for name in "kpt")
    assert k == p == t
    assert all(first == second for first, second in zip(k[::2], k[1::2], strict=True))
    generate(new_run(tmp_path / "free", base))
    assert [one["text"] for one in rows(Run(tmp_path / "free"))] != k


def test_prompts_that_are_cut_are_counted_for_people(tmp_path, base):
    long = [Prompt("long", (Message("user", "bread " * 60),)), *PROMPTS]
    run = new_run(tmp_path / "run", base, long, max_prompt=32)
    generate(run)
    assert summary(run)["notes"] == ["1 prompts were longer than max_prompt and lost their beginning"]


def test_a_run_that_is_done_is_not_done_again(tmp_path, base):
    run = new_run(tmp_path / "run", base)
    generate(run)
    (run.output / "responses.parquet").unlink()
    generate(run)
    assert not (run.output / "responses.parquet").exists()


def test_what_cannot_be_generated_is_refused(tmp_path, base):
    with pytest.raises(ValueError, match="there are no held-out prompts: expected at least one"):
        generate(new_run(tmp_path / "none", base, []))
    with pytest.raises(ValueError, match="expected no more than the 512 the model reads"):
        generate(new_run(tmp_path / "long", base, [Prompt("long", (Message("user", "bread " * 300),))], max_prompt=508))


def test_a_full_disk_and_a_full_memory_say_what_to_change(tmp_path, base, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    run = new_run(tmp_path / "run", base)
    monkeypatch.setattr(policy_data, "write_table", full)
    with pytest.raises(OSError, match=r"is full .* make room and resume the run"):
        generate(run)
    with (
        pytest.raises(MemoryError, match=r"expected fewer tokens side by side \(batch_tokens\)"),
        reasons.plain_reasons(run, "fewer tokens side by side (batch_tokens)"),
    ):
        torch.empty(1 << 60)


# ---- looks at a policy in training


def taught(base, *, rank=4):
    """A policy that has left its start."""
    policy = opened(str(base), lora_rank=rank, trainable=True)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name or not rank:
                weight.add_(torch.randn_like(weight) * (0.1 if rank else 0.02))
    return policy


def looks_of(folder, prompts=PROMPTS, **settings):
    settings = Looked(policy="made", samples=3, max_tokens=8, seed=1, **settings)
    folder.mkdir(exist_ok=True)
    return Looks(Run.create(folder / "run", kind="ppo", module="x", title="toy", config=settings), settings, prompts)


def texts_at(looks, point):
    return [one.text for one in looks.at(point).answers]


@pytest.mark.parametrize("rank", [4, 0], ids=["adapter", "whole"])
def test_a_look_measures_how_far_the_policy_is_from_its_start(tmp_path, base, rank):
    policy, looks = taught(base, rank=rank), looks_of(tmp_path, temperature=0.8)
    told = looks.look(policy, 12)
    answers = looks.at(12).answers
    assert told["kl"] == pytest.approx(np.mean([one.log_ratio for one in answers]))
    assert told["kl"] > 0.05
    start, ids = opened(str(base)), policy.prompt_ids([one.turns for one in PROMPTS], 512)
    again = sampled(policy, ids, samples=3, max_tokens=8, temperature=0.8, seed=1)
    texts = [(prompt, one.ids) for prompt, some in zip(ids, again, strict=True) for one in some]
    for (prompt, response), one in zip(texts, answers, strict=True):
        assert (one.text, one.tokens) == (policy.text(response), len(response))
        how = {"prompts": [prompt], "responses": [response], "pad": policy.pad, "temperature": 0.8}
        expected = log_probs(policy.model, **how)[0].sum() - log_probs(start.model, **how)[0].sum()
        assert one.log_ratio == pytest.approx(float(expected), abs=1e-4)


def test_the_start_is_no_distance_from_itself(tmp_path, base):
    policy, looks = opened(str(base), lora_rank=4, trainable=True), looks_of(tmp_path)
    assert looks.look(policy, 0)["kl"] == 0.0
    assert looks.look(policy, 5)["kl"] == 0.0  # measured: nothing was learned
    assert texts_at(looks, 5) == texts_at(looks, 0)  # the same random numbers


def test_a_point_that_was_looked_at_is_not_sampled_again(tmp_path, base):
    looks = looks_of(tmp_path)
    told = looks.look(taught(base), 7)
    assert looks.look(opened(str(base)), 7) == told
    assert looks.look(opened(str(base), lora_rank=4), 8) != told
    assert looks.points() == [7, 8]


def test_a_look_leaves_a_policy_in_training_as_it_was(tmp_path, base):
    policy, looks = taught(base), looks_of(tmp_path)
    policy.model.train()
    looks.look(policy, 1)
    assert policy.model.training
    wanted = [name for name, weight in policy.model.named_parameters() if weight.requires_grad]
    assert {"lora_" in name for name in wanted} == {True}


def test_a_look_does_not_move_the_bar_of_the_run(tmp_path, base):
    looks = looks_of(tmp_path)
    run = Run(tmp_path / "run")
    run.tell(3, 10, "steps", seconds=0)
    looks.look(taught(base), 3)
    assert (run.progress().done, run.progress().total, run.progress().unit) == (3, 10, "steps")


def test_finished_looks_are_scored_once_and_written(tmp_path, base):
    looks, policy = looks_of(tmp_path, scored_by=[LENGTH]), taught(base)
    looks.look(opened(str(base), lora_rank=4), 0)
    looks.look(policy, 10)
    points = looks.finish()
    found = rows(Run(tmp_path / "run"))
    assert [(one["point"], one["n"]) for one in points] == [(0, 21), (10, 21)]
    assert len(found) == 42
    for one in points:
        mine = [row for row in found if row["point"] == one["point"]]
        assert one["scores"]["length"] == pytest.approx(np.mean([len(row["text"]) for row in mine]))
        assert one["kl"] == pytest.approx(np.mean([row["log_ratio"] for row in mine]))
    (kept,) = (tmp_path / "run" / "checkpoints" / "looks").glob("scores-*")
    os.utime(kept, (1, 1))
    assert (looks.finish(), kept.stat().st_mtime) == (points, 1)  # taken from there
    looks.look(policy, 20)
    assert len(looks.finish()) == 3
    assert kept.stat().st_mtime != 1  # other answers: scored anew


def test_half_a_look_is_no_look(tmp_path, base, small_parts):
    looks = looks_of(tmp_path)
    looks.look(taught(base), 4)
    folder = tmp_path / "run" / "checkpoints" / "looks" / "point-4"
    whole = texts_at(looks, 4)
    sorted(folder.iterdir())[0].unlink()
    assert looks.points() == []
    looks.look(taught(base), 4)
    assert (looks.points(), texts_at(looks, 4)) == ([4], whole)


def test_without_prompts_there_is_nothing_to_look_at(tmp_path, base):
    looks = looks_of(tmp_path, [], scored_by=[LENGTH])
    assert looks.look(taught(base), 0) == {}
    assert looks.finish() == []
    assert rows(Run(tmp_path / "run")) == []


def test_a_score_that_is_no_number_is_refused(tmp_path, base):
    folder = tmp_path / "broken"
    tiny_tokenizer(folder)
    model = tiny_classifier(folder)
    with torch.no_grad():
        model.score.weight.fill_(torch.nan)
    model.save_pretrained(folder)
    looks = looks_of(tmp_path / "x", scored_by=[Named(name="broken", family="classifier", settings={"source": str(folder)})])
    looks.look(opened(str(base)), 0)
    with pytest.raises(ValueError, match="broken gave nan for"):
        looks.finish()
