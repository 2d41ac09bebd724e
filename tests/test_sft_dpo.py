"""SFT and DPO: the losses against their formulas, whose pairs are learned from, and that a stopped run ends as another."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.functional import logsigmoid

from tests.policy_runs import (
    LENGTH,
    QUICK,
    check_same,
    curve,
    lines_of,
    little_to_collect,
    log_probabilities,
    new_run,
    opened,
    pair,
    pairs_of,
    prompts_of,
    said,
    stopped_and_resumed,
    summary_of,
    trained,
)
from tests.tiny_models import tiny_causal, tiny_tokenizer, write_weights
from training import policies, policy_card, policy_pairs, policy_texts, reward_data
from training.policy_settings import DirectPreference, SupervisedTuning
from training.rewards.base import Message


@pytest.fixture(scope="module", autouse=True)
def collected():
    with little_to_collect():
        yield


@pytest.fixture(scope="module")
def base(tiny):
    return tiny


def sft(base, **changed):
    return SupervisedTuning(policy="taught", base=str(base), **{**QUICK, **changed})


def dpo(base, **changed):
    return DirectPreference(policy="preferring", base=str(base), **{**QUICK, **changed})


def conversation_of(row, part):
    return json.loads(row[reward_data.COLUMNS.index(part)])[0][1]


# ---- SFT


def test_the_first_loss_of_sft_is_the_mean_over_response_tokens_alone(tmp_path, base):
    rows = pairs_of(7)
    run = trained(new_run(tmp_path / "run", "sft", sft(base, batch=4, accumulate=2), pairs=rows))
    model, tokenizer = opened(base)
    ids = [said(tokenizer, conversation_of(row, "prompt"), conversation_of(row, "chosen")) for row in rows]
    by_hand = -torch.cat([log_probabilities(model, *one) for one in ids]).mean()
    assert curve(run, "loss") == pytest.approx([float(by_hand)], abs=1e-5)
    assert summary_of(run)["trained"] == sum(len(prompt) + len(response) for prompt, response in ids)


@pytest.mark.parametrize("rank", [0, 4])
def test_sft_makes_the_chosen_responses_likelier(tmp_path, base, rank):
    rows = pairs_of(24, held_out=8)
    run = trained(new_run(tmp_path / "run", "sft", sft(base, batch=4, lora_rank=rank, epochs=2), pairs=rows))
    tried = curve(run, "held_out_loss")
    assert tried[-1] < tried[0] - 1.0
    model, tokenizer = opened(run.folder / "model")
    ids = [said(tokenizer, conversation_of(row, "prompt"), conversation_of(row, "chosen")) for row in rows[24:]]
    by_hand = -torch.cat([log_probabilities(model, *one) for one in ids]).mean()
    assert tried[-1] == pytest.approx(float(by_hand), abs=1e-4)  # the saved model is the one that was tried


def test_a_look_at_the_policy_changes_nothing_of_what_it_becomes(tmp_path, base):
    runs = [
        trained(
            new_run(tmp_path / name, "sft", sft(base, batch=4, look_every=every), pairs=pairs_of(16), prompts=prompts_of(0, 3))
        )
        for name, every in (("seldom", 0), ("often", 1))
    ]
    assert curve(runs[0], "loss") == curve(runs[1], "loss")
    looked = [line["step"] for line in lines_of(runs[1]) if "held_out_kl" in line]
    assert looked == [0, 1, 2, 3, 4]
    assert [one["point"] for one in summary_of(runs[1])["points"]] == looked
    table = pq.read_table(runs[1].output / "responses.parquet")
    assert table.num_rows == 5 * 3
    texts, scores = table.column("text").to_pylist(), table.column("score/characters").to_pylist()
    assert scores == [len(text) for text in texts]
    ends = [pq.read_table(one.output / "responses.parquet").to_pylist()[-3:] for one in runs]
    assert ends[0] == ends[1]


# ---- what responses are read as


def test_a_response_is_read_as_what_would_have_been_sampled(base):
    policy = policies.opened(str(base))
    prompt = (Message("user", "the quick brown fox"),)
    ids = policy_texts.response_ids(policy, [prompt], [(Message("assistant", "jumps over"),)])[0]
    asked, answer = said(policy.tokenizer, "the quick brown fox", "jumps over")
    assert (policy.prompt_ids([prompt], 100), ids) == ([asked], answer)
    assert policy.ended(ids) == len(ids)
    assert policy.text(ids) == "jumps over"


def test_further_turns_of_a_response_are_kept_and_what_the_template_writes_after_the_last_is_not(base):
    policy = policies.opened(str(base))
    turns = (Message("assistant", "a"), Message("user", "b"), Message("assistant", "c"))
    ids = policy_texts.response_ids(policy, [(Message("user", "q"),)], [turns])[0]
    text = policy.tokenizer.decode(ids)
    assert text.split("<|im_end|>")[0] == "a"
    assert text.endswith("c<|im_end|>")
    assert text.count("<|im_end|>") == 3


@pytest.mark.parametrize("adds", ["bos", "eos"])
def test_without_a_chat_template_a_response_is_hh_text_that_ends_in_eos(tmp_path, adds):
    tokenizer = tiny_tokenizer(tmp_path, chat_template="", adds=adds)
    tiny_causal(tmp_path)
    policy = policies.opened(str(tmp_path))
    prompt = (Message("user", "the dog"),)
    ids = policy_texts.response_ids(policy, [prompt], [(Message("assistant", "the fox"),)])[0]
    assert ids == tokenizer(" the fox", add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    whole = tokenizer("\n\nHuman: the dog\n\nAssistant: the fox", add_special_tokens=False)["input_ids"]
    begin = [tokenizer.bos_token_id] if adds == "bos" else []
    assert policy.prompt_ids([prompt], 100)[0] + ids == [*begin, *whole, tokenizer.eos_token_id]


def test_pairs_that_are_the_same_tokens_are_left_out_and_cuts_are_counted(tmp_path, base):
    rows = [pair("a", "yes", "no"), pair("b", "yes", "yes"), pair("c", "yes", "no", prompt="bread " * 80)]
    settings = dpo(base, max_prompt=20)
    run = new_run(tmp_path / "run", "dpo", settings, pairs=rows)
    found = policy_pairs.labelled(run, policies.opened(str(base)), settings)
    assert len(found.learned) == 2
    assert [len(one.prompt) for one in found.learned][1] == 20
    assert found.notes == [
        "1 prompts were longer than 20 tokens and lost their beginning",
        "1 pairs were left out, as both their responses are the same tokens",
    ]


# ---- DPO: the loss


def test_dpo_begins_at_log_2_and_its_margins_rise(tmp_path, base):
    settings = dpo(base, batch=4, accumulate=2, epochs=3)
    run = trained(new_run(tmp_path / "run", "dpo", settings, pairs=pairs_of(16, held_out=6), prompts=prompts_of(0, 3)))
    assert curve(run, "loss")[0] == pytest.approx(math.log(2), abs=1e-5)
    margins = curve(run, "margin")
    assert margins[0] == pytest.approx(0, abs=1e-4)
    assert margins[-1] > 0.5
    assert curve(run, "accuracy")[-1] == 1.0
    assert (curve(run, "held_out_accuracy"), len(margins)) == ([1.0], 6)
    assert curve(run, "held_out_kl")[0] == 0.0
    assert list(run.checkpoints.iterdir()) == []


FORMULAS = {
    "sigmoid": lambda x, ratios, s, beta: -(1 - s) * logsigmoid(x) - s * logsigmoid(-x),
    "robust": lambda x, ratios, s, beta: (-(1 - s) * logsigmoid(x) + s * logsigmoid(-x)) / (1 - 2 * s),
    "hinge": lambda x, ratios, s, beta: torch.relu(1 - x),
    "ipo": lambda x, ratios, s, beta: (ratios[0].mean() - ratios[1].mean() - 1 / (2 * beta)) ** 2,
}


@pytest.mark.parametrize(
    ("loss", "smoothing", "rank"),
    [("sigmoid", 0.0, 4), ("sigmoid", 0.2, 0), ("robust", 0.2, 0), ("hinge", 0.0, 0), ("ipo", 0.0, 0)],
)
def test_a_loss_is_its_formula_of_log_probabilities_computed_one_by_one(tmp_path, base, loss, smoothing, rank):
    rows = pairs_of(8, held_out=5)
    settings = dpo(
        base, batch=4, loss=loss, label_smoothing=smoothing, lora_rank=rank, beta=0.3, learning_rate=3e-3
    )  # fmt: skip
    run = trained(new_run(tmp_path / "run", "dpo", settings, pairs=rows))
    (start, tokenizer), (policy, _) = opened(base), opened(run.folder / "model")
    expected, margins = [], []
    for row in rows[8:]:
        sides = [said(tokenizer, conversation_of(row, "prompt"), conversation_of(row, side)) for side in ("chosen", "rejected")]
        ratios = [log_probabilities(policy, *one) - log_probabilities(start, *one) for one in sides]
        margins.append(0.3 * (ratios[0].sum() - ratios[1].sum()))
        expected.append(FORMULAS[loss](margins[-1], ratios, smoothing, 0.3))
    assert curve(run, "held_out_loss") == pytest.approx([float(torch.stack(expected).mean())], rel=1e-3, abs=1e-4)
    assert curve(run, "held_out_margin") == pytest.approx([float(torch.stack(margins).mean())], abs=1e-3)
    assert abs(curve(run, "held_out_margin")[0]) > 0.05  # it is no longer the start


def test_label_smoothing_is_refused_where_a_loss_has_none(base):
    with pytest.raises(ValueError, match=r"label_smoothing is 0.1 with loss=ipo"):
        dpo(base, loss="ipo", label_smoothing=0.1)


# ---- DPO: whose pairs


def test_relabelling_turns_round_exactly_the_pairs_whose_rejected_scores_higher(tmp_path, base):
    rows = [
        pair("longer", "bread and salt", "bread"), pair("shorter", "salt", "bread and salt"), pair("alike", "dog", "fox"),
        pair("turns", "a", [["assistant", "b"], ["user", "c"], ["assistant", "d"]]),
        pair("tried", "salt", "bread and salt", split="held out"),
    ]  # fmt: skip
    settings = dpo(base, pairs="relabelled", reward=LENGTH)
    run, policy = new_run(tmp_path / "run", "dpo", settings, pairs=rows), policies.opened(str(base))
    found = policy_pairs.relabelled(run, policy, settings)
    plain = policy_pairs.labelled(run, policy, settings)
    turned = [one._replace(chosen=one.rejected, rejected=one.chosen) for one in plain.learned]
    assert found.learned == [plain.learned[0], turned[1], turned[3]]
    assert [policy.text(one.chosen) for one in found.held_out] == ["bread and salt"]
    assert found.notes == ["characters scored both responses of 5 pairs: 3 were turned round, 1 scored alike and dropped"]
    assert found.data_hash == plain.data_hash


def test_no_pair_left_ends_in_a_sentence(tmp_path, base):
    rows = [pair("a", "dog", "fox"), pair("b", "fox", "dog")]
    run = new_run(tmp_path / "run", "dpo", dpo(base, pairs="relabelled", reward=LENGTH), pairs=rows)
    with pytest.raises(ValueError, match=r"no pair is left to learn from: characters scored .* 2 scored alike"):
        trained(run)


def test_pairs_on_policy_are_the_best_and_the_worst_of_what_was_drawn(tmp_path, base):
    settings = dpo(base, pairs="sampled", reward=LENGTH, drawn=3)
    prompts = prompts_of(10, 0)
    run, policy = new_run(tmp_path / "run", "dpo", settings, prompts=prompts), policies.opened(str(base))
    found = policy_pairs.answered(run, policy, settings, prompts.train)
    table = pq.read_table(run.checkpoints / "drawn-00000000.parquet").to_pylist()
    drawn = [[policy.text(row["ids"]) for row in table[first : first + 3]] for first in range(0, 30, 3)]
    kept = [texts for texts in drawn if len({len(text) for text in texts}) > 1]
    assert len(found.learned) == len(kept) > 5
    for texts, one in zip(kept, found.learned, strict=True):
        assert len(policy.text(one.chosen)) == max(map(len, texts))
        assert len(policy.text(one.rejected)) == min(map(len, texts))
    assert found.generated == sum(len(row["ids"]) for row in table)
    asked = policy.prompt_ids([one.turns for one in prompts.train], settings.max_prompt)
    assert [one.prompt for one in found.learned] == [
        ids for ids, texts in zip(asked, drawn, strict=True) if len({len(text) for text in texts}) > 1
    ]


def test_what_was_drawn_and_scored_before_a_stop_is_not_drawn_again(tmp_path, base):
    other = tmp_path / "other"
    tiny_tokenizer(other)
    tiny_causal(other, seed=5)
    settings, prompts = dpo(base, pairs="sampled", reward=LENGTH), prompts_of(6, 0)
    run = new_run(tmp_path / "run", "dpo", settings, prompts=prompts)
    first = policy_pairs.answered(run, policies.opened(str(base)), settings, prompts.train)
    assert policy_pairs.answered(run, policies.opened(str(other)), settings, prompts.train) == first
    for file in run.checkpoints.glob("*.parquet"):
        file.unlink()
    assert policy_pairs.answered(run, policies.opened(str(other)), settings, prompts.train) != first


def test_equal_scores_make_no_pair():
    said_by_all = [[policy_pairs.Response([7], True), policy_pairs.Response([8, 9], True)]] * 2
    pairs, alike = policy_pairs.best_and_worst([[1], [2]], said_by_all, np.array([[0.5, 0.5], [-1.0, 2.0]]))
    assert (pairs, alike) == ([policy_texts.Texts([2], [8, 9], [7])], 1)


# ---- a stop, an end


def test_sft_that_was_stopped_ends_as_if_it_had_not_been(tmp_path, base):
    settings, given = sft(base, batch=4, epochs=2, look_every=3, save_every=4), {"pairs": pairs_of(15, held_out=4)}
    given["prompts"] = prompts_of(0, 3)
    whole = trained(new_run(tmp_path / "whole", "sft", settings, **given))
    broken = new_run(tmp_path / "broken", "sft", settings, **given)
    assert stopped_and_resumed(broken, "step 5 of 8") == 6  # with the line of the start
    check_same(broken, whole)


TO_STOP = {"batch": 4, "max_steps": 8, "epochs": 10, "look_every": 2, "save_every": 3, "seed": 3, "reward": LENGTH}


def given():
    return {"pairs": pairs_of(15, held_out=4), "prompts": prompts_of(8, 3)}


@pytest.fixture(scope="module")
def undisturbed(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    return trained(new_run(folder, "dpo", dpo(base, pairs="relabelled", **TO_STOP), **given()))


@pytest.mark.parametrize(
    ("at", "lines"),
    [
        ("characters scores them", 0), ("reading them as the start does", 0), ("held-out prompts at step 4", 4),
        ("step 5 of 8", 6), ("step 8 of 8", 9),
    ],
)  # fmt: skip
def test_dpo_that_was_stopped_ends_as_if_it_had_not_been(tmp_path, base, undisturbed, at, lines):
    broken = new_run(tmp_path / "broken", "dpo", dpo(base, pairs="relabelled", **TO_STOP), **given())
    assert stopped_and_resumed(broken, at) == lines
    check_same(broken, undisturbed)


def test_dpo_on_policy_of_all_weights_that_was_stopped_ends_as_if_it_had_not_been(tmp_path, base):
    settings = dpo(base, pairs="sampled", **{**TO_STOP, "max_steps": 4}, lora_rank=0)
    whole = trained(new_run(tmp_path / "whole", "dpo", settings, **given()))
    broken = new_run(tmp_path / "broken", "dpo", settings, **given())
    assert stopped_and_resumed(broken, "step 2 of 4") == 3
    check_same(broken, whole)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_loss_that_is_no_number_ends_in_a_sentence(tmp_path, base, kind):
    broken = tmp_path / "base"
    tiny_tokenizer(broken)
    model = tiny_causal(broken)
    weights = {**model.state_dict(), "model.norm.weight": torch.full_like(model.model.norm.weight, torch.nan)}
    write_weights(broken, weights)
    run = new_run(tmp_path / "run", kind, (sft if kind == "sft" else dpo)(broken), pairs=pairs_of(4))
    with pytest.raises(ValueError, match=r"the loss of step 1 is nan .* lower learning_rate"):
        trained(run)


def test_what_needs_more_than_the_model_reads_is_refused(tmp_path, base):
    run = new_run(tmp_path / "run", "sft", sft(base, max_prompt=500, max_tokens=100), pairs=pairs_of(4))
    with pytest.raises(ValueError, match="expected no more than the 512 the model reads"):
        trained(run)


def test_the_policy_comes_with_a_card_that_says_what_made_it(tmp_path, base):
    run = new_run(
        tmp_path / "run", "dpo", dpo(base, pairs="relabelled", reward=LENGTH, seed=77), pairs=pairs_of(6, held_out=2)
    )  # fmt: skip
    found = summary_of(trained(run))
    text = (run.folder / "model" / "README.md").read_text()
    for part in ("`a toy`", "`characters`", "`77`", policy_card.code_version(), found["data_hash"], "turned round"):
        assert part in text
    assert found["kind"] == "dpo"
    assert found["data_hash"] == reward_data.read(run.input).hash()
    assert found["generated"] == sum(round(one["n"] * one["length"]) for one in found["points"])
    trained(run)  # what is finished is not done again
    assert summary_of(run) == found
