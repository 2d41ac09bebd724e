"""The best-of-n run: what it samples and scores, what it picks, that it goes on where it was stopped, to the same."""

import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.tiny_models import tiny_causal, tiny_tokenizer
from training import best_of_n as job
from training import policy_data, reasons, rewarding
from training.best_of_n import answer
from training.picks import Part, parts_of, shown
from training.policies import log_probs, opened
from training.policy_data import Prompt, Prompts
from training.policy_settings import BestOfN, Named
from training.rewards.base import Message
from training.rewards.length import Length
from training.run import Cancelled, Run
from training.sampling import sampled

WORDS = ("bread", "the lazy dog", "water and salt", "how do I make yeast wait", "a fox")
PROMPTS = [Prompt(f"p{number}", (Message("user", f"{word} {number}"),)) for number, word in enumerate(WORDS)]
LENGTH = Named(name="length", family="length")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny_tokenizer(folder)
    tiny_causal(folder, eos_token_id=list(range(60, 140)))  # a response ends about every fifth token: some come twice
    return folder


def new_run(folder, base, scored_by, prompts=PROMPTS, **settings):
    how = {"n": 5, "at_once": 4, "max_tokens": 8, "seed": 3, **settings}
    config = BestOfN(policy="best", base=str(base), data="a toy", scored_by=scored_by, **how)
    run = Run.create(folder, kind="best-of-n", module="training.best_of_n", title="toy", config=config)
    policy_data.write_prompts(run.input, Prompts([Prompt("other", PROMPTS[0].turns)], list(prompts)))
    return run


def rows(run, name="samples"):
    return pq.read_table(run.output / f"{name}.parquet").to_pylist()


def summary(run):
    return json.loads((run.output / "summary.json").read_text())


@pytest.fixture(scope="module")
def small_parts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "_ON_CPU", 8)  # two prompts a part, four samples and then two
        yield


@pytest.fixture(scope="module")
def done(base, scorer, small_parts, tmp_path_factory):
    run = new_run(tmp_path_factory.mktemp("runs") / "done", base, (LENGTH, scorer))
    answer(run)
    return run


# ---- what it writes


def test_every_prompt_has_n_samples_and_one_more_that_are_those_taken_at_once(done, base):
    policy = opened(str(base))
    ids = policy.prompt_ids([one.turns for one in PROMPTS], 512)
    expected = sampled(policy, ids, samples=6, max_tokens=8, temperature=1.0, seed=3)
    found = {(one["prompt_id"], one["sample"]): one for one in rows(done)}
    assert len(found) == len(rows(done)) == 30
    for place, some in enumerate(expected):
        for number, one in enumerate(some):
            row = found[f"p{place}", number]
            assert (row["text"], row["tokens"], row["stopped"]) == (policy.text(one.ids), len(one.ids), one.stopped)
    assert {one["stopped"] for one in rows(done)} == {True, False}


def test_the_log_probability_is_that_of_the_whole_response_under_the_start(done, base):
    policy = opened(str(base))
    ids = policy.prompt_ids([one.turns for one in PROMPTS], 512)
    found = {(one["prompt_id"], one["sample"]): one["log_p"] for one in rows(done)}
    expected = {}
    for place, some in enumerate(sampled(policy, ids, samples=6, max_tokens=8, temperature=1.0, seed=3)):
        told = log_probs(policy.model, [ids[place]] * 6, [one.ids for one in some], pad=policy.pad)
        expected.update({(f"p{place}", number): float(one.sum()) for number, one in enumerate(told)})
    assert found == pytest.approx(expected, abs=1e-4)
    assert max(found.values()) < 0


def test_every_sample_is_scored_by_every_reward_model_as_alone(done, scorer):
    found = rows(done)
    assert [one["score/length"] for one in found] == [len(one["text"]) for one in found]
    turns = {one.prompt_id: one.turns for one in PROMPTS}
    with rewarding.opened(scorer) as rewarder:
        alone = rewarder.scores([turns[one["prompt_id"]] for one in found], [one["text"] for one in found])
    assert [one["score/org/tiny"] for one in found] == pytest.approx(alone.tolist(), abs=1e-4)
    assert len({one["score/org/tiny"] for one in found}) > 10


def test_the_picks_are_the_best_of_the_first_n_and_of_equals_the_first(done):
    samples, picks = rows(done), rows(done, "responses")
    assert [(one["reward_model"], one["point"], one["prompt_id"]) for one in picks] == [
        (name, n, f"p{place}") for name in ("length", "org/tiny") for n in (0, 1, 2, 4, 5) for place in range(5)
    ]
    for pick in picks:
        some = sorted((one for one in samples if one["prompt_id"] == pick["prompt_id"]), key=lambda one: one["sample"])
        among = some[: pick["point"]] or some[5:]  # at 0 the one that no pick was chosen against
        best = max(among, key=lambda one: one[f"score/{pick['reward_model']}"])  # the first of equals
        assert pick["log_ratio"] is None
        assert {name: pick[name] for name in best if name != "log_p"} == {name: best[name] for name in best if name != "log_p"}


def test_the_worst_case_of_several_reward_models_picks_too(base, scorer, tmp_path):
    members = [{"family": "length"}, {"family": scorer.family, **scorer.settings}]
    worst = Named(name="worst", family="ensemble", settings={"members": members, "how": "worst", "scales": [10.0, 1.0]})
    run = new_run(tmp_path / "run", base, (LENGTH, scorer, worst))
    answer(run)
    found = rows(run)
    expected = [min(one["score/length"] / 10, one["score/org/tiny"]) for one in found]
    assert [one["score/worst"] for one in found] == pytest.approx(expected, abs=1e-5)
    assert {one["reward_model"] for one in rows(run, "responses")} == {"length", "org/tiny", "worst"}


def test_the_summary_says_what_the_picks_come_to(done):
    found, picks = summary(done), rows(done, "responses")
    assert (found["policy"], found["kind"], found["model"], found["steps"], found["trained"]) == ("best", "best-of-n", "", 0, 0)
    assert found["generated"] == sum(one["tokens"] for one in rows(done))
    assert len(found["points"]) == 10
    last = found["points"][-1]
    some = [one for one in picks if (one["reward_model"], one["point"]) == ("org/tiny", 5)]
    assert (last["reward_model"], last["point"], last["n"], last["kl"]) == ("org/tiny", 5, 5, None)
    assert last["kl_bound"] == pytest.approx(np.log(5) - 4 / 5)
    assert (found["points"][0]["point"], found["points"][0]["kl_bound"]) == (0, 0.0)
    assert last["scores"]["length"] == pytest.approx(np.mean([one["score/length"] for one in some]))
    by_length = [one["scores"]["length"] for one in found["points"][1:5]]
    assert by_length == sorted(by_length)
    assert done.progress().done == 30
    assert list(done.checkpoints.iterdir()) == []


def test_how_the_work_is_cut_changes_nothing(done, base, scorer, tmp_path):
    other = new_run(tmp_path / "other", base, (LENGTH, scorer), at_once=0)
    answer(other)
    one, two = ({(row["prompt_id"], row["sample"]): row for row in rows(run)} for run in (done, other))
    assert {key: row["text"] for key, row in one.items()} == {key: row["text"] for key, row in two.items()}
    for name in ("log_p", "score/org/tiny"):
        assert [one[key][name] for key in sorted(one)] == pytest.approx([two[key][name] for key in sorted(two)], abs=1e-4)


def test_a_text_that_comes_again_is_scored_once(base, small_parts, monkeypatch, tmp_path):
    opener, seen = Length.load, []

    def load(family, *, device="auto"):
        scorer = opener(family)
        prepare = scorer.prepare

        def noting(prompts, responses):
            seen.extend((prompt[0].content, response[0].content) for prompt, response in zip(prompts, responses, strict=True))
            return prepare(prompts, responses)

        scorer.prepare = noting
        return scorer

    monkeypatch.setattr(Length, "load", load)
    run = new_run(tmp_path / "run", base, (LENGTH,), n=40, max_tokens=2)
    answer(run)
    contents = {one.prompt_id: one.turns[0].content for one in PROMPTS}
    every = [(contents[one["prompt_id"]], one["text"]) for one in rows(run)]
    assert sorted(seen) == sorted(set(every))
    assert len(seen) < len(every)


# ---- stopped and going on


class Stopped(Run):
    """A run that somebody asks to stop when so many files are kept."""

    at = 2

    def tell(self, *told, **how):
        if len(list(self.checkpoints.rglob("*.parquet"))) >= self.at:
            self.stop.touch()
            self._told = 0.0
        super().tell(*told, **how)


@pytest.mark.parametrize("at", [1, 8, 13])
def test_a_stopped_run_goes_on_to_the_very_same(at, done, base, scorer, small_parts, tmp_path):
    run = new_run(tmp_path / "stopped", base, (LENGTH, scorer))
    stopped = Stopped(run.folder)
    stopped.at = at
    with pytest.raises(Cancelled):
        answer(stopped)
    kept = {one: one.stat().st_mtime_ns for one in run.checkpoints.rglob("*.parquet")}
    assert len(kept) >= at
    assert not (run.output / "summary.json").exists()
    run.stop.unlink()
    late = Stopped(run.folder)
    late.at = 18  # all are there
    with pytest.raises(Cancelled):
        answer(late)
    assert {one: one.stat().st_mtime_ns for one in kept} == kept  # none was done again
    run.stop.unlink()
    answer(run)
    for name in ("samples", "responses"):
        assert rows(run, name) == rows(done, name)
    assert summary(run)["points"] == summary(done)["points"]


def test_it_is_not_asked_for_samples_beside_its_n(base):
    with pytest.raises(ValueError, match="samples"):
        BestOfN(policy="best", base=str(base), n=4, samples=2)


def test_a_finished_run_is_left_as_it_is(done):
    before = (done.output / "samples.parquet").stat().st_mtime_ns
    answer(done)
    assert (done.output / "samples.parquet").stat().st_mtime_ns == before


# ---- what cannot be done


def test_without_prompts_or_reward_models_there_is_nothing_to_pick(base, tmp_path):
    with pytest.raises(ValueError, match="there are no held-out prompts: expected at least one, to answer"):
        answer(new_run(tmp_path / "one", base, (LENGTH,), prompts=()))
    with pytest.raises(ValueError, match=r"there are no reward models \(scored_by\): expected at least one, to pick"):
        answer(new_run(tmp_path / "two", base, ()))


def test_a_reward_model_that_only_compares_is_refused_before_anything_is_sampled(base, tmp_path):
    comparer = Named(name="pair", family="steam_shp", settings={"source": str(tmp_path)})
    run = new_run(tmp_path / "run", base, (LENGTH, comparer))
    with pytest.raises(ValueError, match="pair only compares two responses: expected a reward model that gives"):
        answer(run)
    assert list(run.checkpoints.iterdir()) == []


def test_a_score_that_is_no_number_is_named(base, monkeypatch, tmp_path):
    prepare = type(Length().load()).prepare

    def broken(self, prompts, responses):
        work = prepare(self, prompts, responses)
        work.run = lambda number: np.full(len(work.batches[number].places), np.nan)
        return work

    monkeypatch.setattr(type(Length().load()), "prepare", broken)
    with pytest.raises(ValueError, match=r"length gave nan for .*: expected a number"):
        answer(new_run(tmp_path / "run", base, (LENGTH,)))


def test_a_full_disk_stops_with_a_sentence_and_the_run_goes_on_afterwards(
    done, base, scorer, small_parts, monkeypatch, tmp_path
):
    run = new_run(tmp_path / "run", base, (LENGTH, scorer))
    written, replace = [], os.replace

    def full(source, target):
        if str(target).endswith(".parquet"):
            written.append(target)
            if len(written) == 4:
                raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match=r"is full .* make room and resume the run"):
            answer(run)
    answer(run)
    assert rows(run, "responses") == rows(done, "responses")


def test_a_full_memory_says_what_to_make_smaller(base, monkeypatch, tmp_path):
    def too_much(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: alloc_cpu")

    monkeypatch.setattr("training.sampling.sampled", too_much)
    with pytest.raises(MemoryError, match=r"the memory is full: expected fewer tokens side by side \(batch_tokens\)"):
        answer(new_run(tmp_path / "run", base, (LENGTH,)))
    assert reasons.is_full_memory(RuntimeError("CUDA out of memory"))


# ---- parts


def test_a_gpu_library_that_finds_no_room_is_a_full_memory():
    told = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    assert reasons.is_full_memory(RuntimeError(told))
    assert not reasons.is_full_memory(RuntimeError("CUDA error: device-side assert triggered"))


def test_parts_hold_every_sample_of_every_prompt_once():
    parts = parts_of([4, 2, 0, 1, 3], n=10, group=2, size=4)
    assert parts[:3] == [Part(0, (4, 2), 0, 4), Part(1, (4, 2), 4, 4), Part(2, (4, 2), 8, 2)]
    every = [(place, one.first + number) for one in parts for place in one.places for number in range(one.samples)]
    assert sorted(every) == [(place, sample) for place in range(5) for sample in range(10)]
    assert sum(one.responses for one in parts) == 50


def test_picks_are_kept_for_every_power_of_two_and_all():
    assert [shown(n) for n in (1, 2, 6, 1000)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]]
