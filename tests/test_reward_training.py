"""Training a causal model into a reward model: it learns, goes on to the same numbers, counts what is too long."""

import json
import os
import random
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest

from tests.conftest import until
from tests.tiny_models import tiny_causal, tiny_classifier, tiny_tokenizer
from training import curves, engine, loading, model_card, reasons, reward, reward_classifier, reward_data, reward_loop
from training.losses import bradley_terry_loss
from training.reward_settings import Training
from training.rewards import transcripts
from training.rewards.base import Message
from training.rewards.registry import family
from training.run import Cancelled, Run

WORDS = ("flour", "water", "salt", "yeast", "bread", "dog", "fox")
QUICK = {"learning_rate": 1e-3, "batch_pairs": 8, "epochs": 2, "eval_every": 10, "save_every": 5}


def words(rng, count=5):
    return " ".join(rng.choice(WORDS) for _ in range(count))


def pairs_of(count, split, *, seed, longer=1):
    """Pairs in which the chosen response says "good" where the rejected says "bad"; the first `longer` share of words."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        prompt = [["user", f"{split} {number}: {words(rng, 3 * longer)}"]]
        sides = [[["assistant", f"{words(rng)} {word} {words(rng)}"]] for word in ("good", "bad")]
        texts = [json.dumps(one) for one in (prompt, *sides)]
        rows.append((f"{split}-{number}", split, "odd" if number % 2 else "even", *texts, rng.uniform(-1, 1)))
    return rows


def hand_over(run, rows, *, without=()):
    columns = dict(zip(reward_data.COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table({name: one for name, one in columns.items() if name not in without}), run.input / "pairs.parquet")


def new_run(folder, base, rows=None, **settings):
    config = Training(model="taught", base=str(base), data="a toy", **{**QUICK, **settings})
    run = Run.create(folder, kind="reward", module="training.reward", title="toy", config=config)
    hand_over(run, pairs_of(160, "train", seed=1) + pairs_of(60, "held out", seed=2) if rows is None else rows)
    return run


def lines_of(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def weights_of(run):
    return load_file(run.folder / "model" / "model.safetensors")


def summary_of(run):
    return json.loads((run.output / "summary.json").read_text())


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = Path(tmp_path_factory.mktemp("base")) / "tiny"
    tiny_tokenizer(folder)
    tiny_causal(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(base, tmp_path_factory):
    run = new_run(Path(tmp_path_factory.mktemp("runs")) / "undisturbed", base)
    reward.train(run)
    return run


# ---- it learns


def test_it_learns_what_can_be_learned_and_a_line_stands_for_each_step(undisturbed):
    found = curves.columns(undisturbed.folder)
    assert found["step"] == list(range(1, 41))
    assert np.mean(found["loss"][-5:]) < 0.3 * np.mean(found["loss"][:5])
    assert [step for step, tried in zip(found["step"], found["held_out_loss"], strict=True) if tried] == [10, 20, 30, 40]
    assert found["held_out_accuracy"][-1] > 0.9
    assert found["epoch"][-1] == 2.0
    assert found["tokens"] == sorted(found["tokens"])
    assert max(found["learning_rate"]) == pytest.approx(1e-3)


def test_the_summary_says_what_was_made_and_how_it_fares(undisturbed, base):
    found = summary_of(undisturbed)
    assert (found["model"], found["family"], found["steps"]) == ("taught", "classifier", 40)
    assert found["settings"] == {"source": "model", "max_length": 512, "conversation": "chat"}
    assert found["pairs"]["train"] == {"n": 160, "subsets": {"even": 80, "odd": 80}}
    assert (found["held_out"]["n"], found["too_long"]) == (60, 0)
    assert found["held_out"]["accuracy"] > 0.9
    assert sum(one["right"] for one in found["held_out"]["subsets"].values()) == found["held_out"]["right"]
    assert found["data_hash"] == reward_data.read(undisturbed.input).hash()
    assert found["base"]["fingerprint"] == loading.fingerprint(loading.place_of(str(base)))
    assert list(undisturbed.checkpoints.iterdir()) == []


def test_the_finished_model_is_a_classifier_that_scores_as_the_summary_says(undisturbed):
    found = summary_of(undisturbed)
    pairs = reward_data.read(undisturbed.input).held_out
    settings = {**found["settings"], "source": str(undisturbed.folder / "model")}
    scorer = family("classifier", settings).load()
    chosen, rejected = (
        scorer.score([pair.prompt for pair in pairs], [getattr(pair, side) for pair in pairs]).values
        for side in ("chosen", "rejected")
    )
    assert int((chosen > rejected).sum()) == found["held_out"]["right"]


def test_training_reads_the_ids_that_scoring_reads(undisturbed):
    folder = undisturbed.folder / "model"
    pairs = reward_data.read(undisturbed.input).held_out
    tokenizer = loading.tokenizer_of(loading.place_of(str(folder)))
    reading = reward_classifier._Reading(undisturbed, tokenizer, transcripts.chat_template(tokenizer), 40, drop=False)
    read = reading.part("held_out", pairs)
    scorer = family("classifier", {"source": str(folder), "max_length": 40}).load()
    ids, truncated = scorer.encode([pair.prompt for pair in pairs], [pair.chosen for pair in pairs])
    assert read.tokens.chosen == ids
    assert 0 < truncated.sum() <= reading.too_long["held_out"]


def test_the_card_has_a_header_and_every_number_with_its_interval(undisturbed):
    text = (undisturbed.folder / "model" / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "library_name": "transformers", "pipeline_tag": "text-classification", "tags": ["reward-model", "preference", "rlhf"],
    }  # fmt: skip
    held_out = summary_of(undisturbed)["held_out"]
    low, high = model_card.wilson(held_out["right"] + held_out["ties"] / 2, held_out["n"])
    assert f"| all subsets | {held_out['accuracy']:.3f} | {low:.3f} to {high:.3f} | 60 |" in body
    assert summary_of(undisturbed)["data_hash"] in body
    assert str(undisturbed.folder) not in text


def test_a_card_names_the_licence_and_the_hub_id_of_its_base(undisturbed):
    found = summary_of(undisturbed)
    changed = {**found, "licence": "apache-2.0", "base": {**found["base"], "hub": "some/model"}}
    header = yaml.safe_load(model_card.card(changed).split("---\n")[1])
    assert (header["license"], header["base_model"]) == ("apache-2.0", "some/model")


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (37, 60), (1, 1)])
def test_the_wilson_interval_is_that_of_scipy(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert model_card.wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


# ---- it goes on


def test_killed_and_resumed_it_gives_the_numbers_of_an_undisturbed_run(tmp_path, base, undisturbed):
    run = new_run(tmp_path / "disturbed", base)
    engine.start(run)
    until(lambda: (run.checkpoints / "checkpoint-5" / "trainer_state.json").exists())
    os.killpg(run.state().pid, signal.SIGKILL)
    until(lambda: engine.watch(run).status == "failed")
    reached = len(lines_of(run))
    assert 5 <= reached < 40
    (run.folder / "metrics.jsonl").open("a").write('{"step": 39, "lo')  # half a line, as a killed process leaves
    engine.resume(run)
    until(lambda: engine.watch(run).status not in ("queued", "running"))
    assert (run.state().status, run.state().error) == ("done", None)
    assert "going on after step" in run.log_end()
    check_same(run, undisturbed)


class Stopped(Run):
    """A run that somebody asks to stop after so many words of it."""

    def __init__(self, folder, *, after):
        super().__init__(folder)
        self.left = after

    def tell(self, done, total, unit, message="", *, seconds=0.0, **more):
        self.left -= 1
        if not self.left:
            self.stop.touch()
        super().tell(done, total, unit, message, seconds=seconds, **more)


def test_cancelled_between_two_steps_it_keeps_that_step_and_goes_on_to_the_same_numbers(tmp_path, base, undisturbed):
    run = new_run(tmp_path / "cancelled", base)
    with pytest.raises(Cancelled):
        reward.train(Stopped(run.folder, after=20))
    reached = lines_of(run)[-1]["step"]
    assert 5 < reached < 20
    assert reward_loop.last_checkpoint(run.checkpoints).name == f"checkpoint-{reached}"
    run.stop.unlink()
    reward.train(run)
    check_same(run, undisturbed)


def check_same(run, undisturbed):
    """The same losses, line by line, and the same weights, bit by bit."""
    assert lines_of(run) == lines_of(undisturbed)
    expected = weights_of(undisturbed)
    assert all(torch.equal(one, expected[name]) for name, one in weights_of(run).items())
    assert summary_of(run)["held_out"] == summary_of(undisturbed)["held_out"]


def test_a_half_written_checkpoint_is_ignored_and_removed(tmp_path):
    for step, state in ((5, '{"global_step": 5}'), (10, '{"global_st'), (15, None), (20, '{"global_step": 3}')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert reward_loop.last_checkpoint(tmp_path) == tmp_path / "checkpoint-5"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]


def test_a_run_that_stopped_after_its_last_step_trains_no_step_more(tmp_path, base):
    run = new_run(tmp_path / "run", base, max_steps=7, save_every=50)
    settings, pairs = Training.model_validate(run.config()), reward_data.read(run.input)
    once = reward_classifier.train(run, settings, pairs)
    lines, weights = lines_of(run), weights_of(run)
    again = reward_classifier.train(run, settings, pairs)
    assert (once.steps, len(lines), lines_of(run)) == (7, 7, lines)
    assert all(torch.equal(one, weights[name]) for name, one in weights_of(run).items())
    np.testing.assert_array_equal(once.margins, again.margins)


def test_a_finished_run_does_nothing_again(undisturbed):
    before = (undisturbed.folder / "model" / "model.safetensors").stat().st_mtime_ns
    reward.train(undisturbed)
    assert (undisturbed.folder / "model" / "model.safetensors").stat().st_mtime_ns == before


# ---- losses and ways to train


def test_the_loss_is_that_of_bradley_and_terry():
    chosen, rejected = torch.tensor([1.0, 0.0, -2.0]), torch.tensor([0.0, 0.0, 1.0])
    right = torch.sigmoid(chosen - rejected)
    torch.testing.assert_close(bradley_terry_loss(chosen, rejected), -right.log().mean())
    smoothed = -(0.8 * right.log() + 0.2 * (1 - right).log()).mean()
    torch.testing.assert_close(bradley_terry_loss(chosen, rejected, smoothing=0.2), smoothed)
    margin = torch.tensor([0.5, 0.0, 1.0])
    torch.testing.assert_close(
        bradley_terry_loss(chosen, rejected, margin=margin, smoothing=0.2),
        bradley_terry_loss(chosen - margin, rejected, smoothing=0.2),
    )


@pytest.mark.parametrize(("smoothing", "weight"), [(0.0, 0.0), (0.0, 2.0), (0.3, 0.0), (0.3, 2.0)])
def test_the_trainer_computes_this_loss_and_without_smoothing_it_is_trls_own(tmp_path, base, smoothing, weight):
    run = new_run(tmp_path / "run", base, label_smoothing=smoothing, margin_weight=weight, centring=0.5)
    settings = Training.model_validate(run.config())
    model, tokenizer = reward_classifier._opened(str(base), loading.place_of(str(base)))
    ids = [[5, 9, 3], [7, 2, 8, 4], [6, 6]], [[1, 2], [3, 4, 5], [9, 9, 9, 9]]
    pairs = reward_loop.Pairs(*ids, [0.5, 0.0, 1.5])
    reward_classifier.set_padding(tokenizer, model, [*ids[0], *ids[1]])
    trainer = reward_loop._Trainer(
        model, reward_loop._arguments(run, settings, 3), train_dataset=reward_loop._dataset(pairs, weight),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.smoothing = smoothing
    batch = trainer.data_collator([trainer.train_dataset[place] for place in range(3)])
    scores = torch.stack([model(input_ids=torch.tensor([one])).logits.squeeze() for side in ids for one in side])
    chosen, rejected = scores[:3], scores[3:]
    margin = weight * torch.tensor(pairs.margins) if weight else None
    expected = bradley_terry_loss(chosen, rejected, margin=margin, smoothing=smoothing)
    expected = expected + 0.5 * ((chosen + rejected) ** 2).mean()
    torch.testing.assert_close(trainer.compute_loss(model, dict(batch)), expected, atol=1e-5, rtol=1e-5)
    if not smoothing:
        theirs = super(reward_loop._Trainer, trainer).compute_loss(model, dict(batch))
        torch.testing.assert_close(trainer.compute_loss(model, dict(batch)), theirs)
    assert trainer.tokens == (1 if smoothing else 2) * sum(len(one) for side in ids for one in side)


def test_a_lora_models_folder_scores_as_the_adapter_does(tmp_path, base):
    from peft import PeftModel
    from transformers import set_seed

    run = new_run(tmp_path / "run", base, lora_rank=4, learning_rate=5e-3, max_steps=6, accumulate=2)
    settings, pairs = Training.model_validate(run.config()), reward_data.read(run.input)
    made = reward_classifier.train(run, settings, pairs)
    set_seed(99)  # another head: the trained one comes with the adapter
    plain, _ = reward_classifier._opened(str(base), loading.place_of(str(base)))
    with torch.no_grad():
        before = [plain(input_ids=torch.tensor([ids])).logits.item() for ids in ([5, 9, 3], [7, 2])]
    adapted = PeftModel.from_pretrained(plain, run.checkpoints / "checkpoint-6").eval()
    scorer = family("classifier", {"source": str(run.folder / "model"), **made.settings}).load()
    assert not list((run.folder / "model").glob("adapter*"))
    texts = [pair.chosen for pair in pairs.held_out[:10]]
    prompts = [pair.prompt for pair in pairs.held_out[:10]]
    ids, _ = scorer.encode(prompts, texts)
    with torch.no_grad():
        expected = [adapted(input_ids=torch.tensor([one])).logits.item() for one in ids]
        after = [adapted(input_ids=torch.tensor([one])).logits.item() for one in ([5, 9, 3], [7, 2])]
    np.testing.assert_allclose(scorer.score(prompts, texts).values, expected, atol=1e-4)
    assert np.abs(np.subtract(before, after)).max() > 0.01  # the adapter does change something


def test_padding_is_a_token_that_ends_no_text_and_not_eos(tmp_path):
    tiny_tokenizer(tmp_path, pad="", eos="<|im_end|>")
    tiny_causal(tmp_path)
    model, tokenizer = reward_classifier._opened(str(tmp_path), loading.place_of(str(tmp_path)))
    tokenizer.pad_token = tokenizer.eos_token
    reward_classifier.set_padding(tokenizer, model, [[5, tokenizer.eos_token_id]])
    assert tokenizer.pad_token != tokenizer.eos_token
    assert model.config.pad_token_id == tokenizer.pad_token_id
    taken = tokenizer.pad_token_id
    reward_classifier.set_padding(tokenizer, model, [[5, taken]])
    assert tokenizer.pad_token_id not in (taken, tokenizer.eos_token_id)


# ---- what is too long


@pytest.mark.parametrize(("too_long", "used"), [("cut", 30), ("drop", 25)])
def test_pairs_that_are_too_long_are_counted_and_cut_or_left_out(tmp_path, base, too_long, used):
    rows = pairs_of(25, "train", seed=1) + pairs_of(10, "held out", seed=3)
    rows += [(f"long {row[0]}", *row[1:]) for row in pairs_of(5, "train", seed=4, longer=100)]
    run = new_run(tmp_path / "run", base, rows, too_long=too_long, max_length=256, epochs=1)
    reward.train(run)
    found = summary_of(run)
    assert (found["too_long"], found["too_long_by_split"]) == (5, {"train": 5, "held_out": 0})
    assert (found["pairs"]["train"]["n"], found["held_out"]["n"]) == (used, 10)
    assert "5 pairs have a text" in (run.folder / "model" / "README.md").read_text()


# ---- what goes wrong


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"label_smoothing": 0.6}, "label_smoothing"), ({"too_long": "keep"}, "too_long"), ({"steps": 3}, "steps")],
)
def test_settings_that_mean_nothing_are_refused(settings, field):
    with pytest.raises(ValidationError, match=field):
        Training(model="m", **settings)


def test_pairs_that_cannot_be_used_are_refused(tmp_path, base):
    run = new_run(tmp_path / "run", base)
    rows = pairs_of(3, "train", seed=1)
    hand_over(run, rows, without=("margin",))
    with pytest.raises(ValueError, match=r"pairs\.parquet has no column margin"):
        reward.train(run)
    hand_over(run, pairs_of(2, "test", seed=1))
    with pytest.raises(ValueError, match="pair test-0 is in the split 'test': expected 'train' or 'held out'"):
        reward.train(run)
    hand_over(run, pairs_of(2, "held out", seed=1))
    with pytest.raises(ValueError, match="no pair to train on"):
        reward.train(run)
    assert not (run.output / "summary.json").exists()


def test_a_run_without_held_out_pairs_says_that_nothing_is_known(tmp_path, base):
    run = new_run(tmp_path / "run", base, pairs_of(16, "train", seed=1), epochs=1)
    reward.train(run)
    assert summary_of(run)["held_out"] == {"n": 0, "right": 0, "ties": 0, "accuracy": None, "subsets": {}}
    assert "No pairs were held out" in (run.folder / "model" / "README.md").read_text()


def test_an_encoder_is_refused(tmp_path):
    tiny_tokenizer(tmp_path / "encoder", adds="pair")
    tiny_classifier(tmp_path / "encoder", kind="deberta-v2")
    run = new_run(tmp_path / "run", tmp_path / "encoder")
    with pytest.raises(ValueError, match="is a deberta-v2 model: expected a causal one"):
        reward.train(run)


def test_a_loss_that_is_no_number_stops_the_run_with_a_sentence(tmp_path, base):
    folder = tmp_path / "broken"
    tiny_tokenizer(folder)
    tiny_causal(folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    run = new_run(tmp_path / "run", folder)
    with pytest.raises(ValueError, match=r"the loss of step 1 is nan .*: expected a number. A lower learning_rate than 0\.001"):
        reward.train(run)
    assert list(run.checkpoints.iterdir()) == []


def test_a_full_disk_stops_the_run_with_a_sentence(tmp_path, base):
    run = new_run(tmp_path / "run", base)
    (run.folder / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"the disk with .* is full .*: make room and resume the run"):
        reward.train(run)
    assert not (run.output / "summary.json").exists()


def test_every_library_that_writes_is_understood_when_the_disk_is_full():
    with pytest.raises(Exception) as of_torch, open("/dev/full", "wb") as file:  # noqa: PT011
        torch.save({"weights": torch.zeros(100_000)}, file)
    assert reasons.is_full_disk(of_torch.value)
    of_safetensors = "Error while serializing: I/O error: No space left on device (os error 28)"  # its own words
    assert reasons.is_full_disk(RuntimeError(of_safetensors))
    assert reasons.is_full_disk(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"))
    assert not reasons.is_full_disk(ValueError("something else"))


# ---- curves


def test_curves_are_read_back_as_columns_while_a_line_is_being_written(tmp_path):
    kept = curves.Curves(tmp_path)
    kept.add(1, {"loss": 0.5, "held_out_loss": None})
    kept.add(2, {"loss": float("nan"), "held_out_loss": 0.25})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert curves.columns(tmp_path) == {"step": [1, 2], "loss": [0.5, None], "held_out_loss": [None, 0.25]}
    again = curves.Curves(tmp_path, after=1)
    assert again.last == {"step": 1, "loss": 0.5}
    again.add(2, {"loss": 0.75})
    assert curves.columns(tmp_path) == {"step": [1, 2], "loss": [0.5, 0.75]}
    assert curves.columns(tmp_path / "nowhere") == {"step": []}


def test_the_data_hash_changes_with_sides_order_and_split():
    def pair(pair_id, chosen, rejected, split="train"):
        sides = ((Message("assistant", chosen),), (Message("assistant", rejected),))
        return reward_data.Preference(pair_id, split, "", (Message("user", "?"),), *sides)

    one, two = pair("1", "a", "b"), pair("2", "c", "d")
    hashes = [
        reward_data.Split(*parts).hash()
        for parts in (
            ([one, two], []), ([two, one], []), ([pair("1", "b", "a"), two], []), ([one], [pair("2", "c", "d", "held out")]),
        )
    ]  # fmt: skip
    assert len(set(hashes)) == 4
    assert reward_data.Split([one, two], []).hash() == hashes[0]
