"""Prompts to learn from and prompts held out: the same ones each time, and none that was learned from, by id or nearly."""

import time

import pytest

from curation import held_out, reward_training
from curation.held_out import NEAR, NO_ASKING, SEEN, chosen_prompts, near_to
from curation.importing import import_source
from curation.pairs import turn
from curation.release import Policy, release
from curation.sources import source_of
from curation.store.verdicts import Decision
from tests.conftest import hh, import_rows, numbered

LONG = (
    "I am taking a business trip to a town in the desert next month and I will have a free day there, on which I want to see "
    "some of the sights and the scenery around it. Which of them should I not miss, and how do I get there?"
)


def chosen(workspace, data="small", **changed):
    told = {"held_out": 0.4, "split_seed": 0, "count": 0, "looked_at": 0, **changed}
    return chosen_prompts(workspace, data, **told)


def ids(asked):
    return [one for one, _ in asked]


def first(turns):
    return next(one.content for one in turns if one.role == "user")


def on(side, text, start=0):
    """A text, varied by a number at its end until its prompt falls on this side."""
    for number in range(start, start + 1000):
        varied = f"{text} ({number})"
        if reward_training.split_of_turns([turn("user", varied)], 0.4, 0) == side:
            return varied
    raise AssertionError


def test_every_prompt_is_on_one_side_and_stands_there_once(workspace):
    import_rows(workspace, [*numbered(80), hh("Question 1?", "Another answer.", "None.")])
    split = chosen(workspace)
    assert len(split.train) + len(split.held_out) == 80
    assert set(ids(split.train)).isdisjoint(ids(split.held_out))
    assert (split.all_train, split.all_held_out, split.left_out) == (len(split.train), len(split.held_out), {})
    assert 15 <= len(split.held_out) <= 50


def test_a_smaller_count_is_the_beginning_of_a_larger(workspace):
    import_rows(workspace, numbered(80))
    whole, some = chosen(workspace), chosen(workspace, count=7, looked_at=5)
    assert some.train == whole.train[:7]
    assert some.held_out == whole.held_out[:5]
    assert (some.all_train, some.all_held_out) == (len(whole.train), len(whole.held_out))
    assert ids(whole.train) == sorted(ids(whole.train))


def test_another_seed_is_another_split(workspace):
    import_rows(workspace, numbered(80))
    assert chosen(workspace).held_out != chosen(workspace, split_seed=1).held_out


def test_the_side_is_that_of_the_pair_where_a_reward_model_is_trained(workspace):
    pair_ids = import_rows(workspace, numbered(80))
    sides = {one.prompt_id: reward_training.split_of(one, 0.4, 0) for one in workspace.pairs.many(pair_ids)}
    split = chosen(workspace)
    assert {sides[one] for one in ids(split.train)} == {"train"}
    assert {sides[one] for one in ids(split.held_out)} == {"held out"}


def test_a_longer_version_of_a_prompt_is_on_its_side(workspace):
    short = [f"Tell me of {number}." for number in range(40)]
    longer = [f"{one}\n\nAssistant: Of what?\n\nHuman: Of that." for one in short]
    import_rows(workspace, [hh(one, "a", "b") for one in (*short, *longer)])
    split = chosen(workspace)
    assert {first(turns) for _, turns in split.train}.isdisjoint(first(turns) for _, turns in split.held_out)
    assert len(split.train) + len(split.held_out) == 80


def test_held_out_prompts_near_to_any_that_may_be_trained_on_are_left_out(workspace):
    near, far = on("held out", LONG), on("held out", "What is the capital of France, and who says so, and since when?")
    rows = [hh(on("train", LONG), "a", "b"), hh(near, "a", "b"), hh(far, "a", "b"), *numbered(10)]
    import_rows(workspace, rows)
    split = chosen(workspace, count=1)  # near to what is not drawn, too
    texts = {first(turns) for _, turns in split.held_out}
    assert near not in texts
    assert far in texts
    assert split.left_out == {NEAR: 1}


def test_short_prompts_that_differ_in_case_and_signs_alone_are_near(workspace):
    trained = on("train", "Is tea hot")
    shouted = next(
        varied for varied in (trained.upper() + mark * many for mark in "!?." for many in range(1, 20))
        if reward_training.split_of_turns([turn("user", varied)], 0.4, 0) == "held out"
    )  # fmt: skip
    import_rows(workspace, [hh(trained, "a", "b"), hh(shouted, "a", "b"), *numbered(20)])
    assert chosen(workspace).left_out == {NEAR: 1}


def test_a_conversation_that_begins_nearly_as_one_that_is_trained_on_is_near():
    begun = (turn("user", LONG), turn("assistant", "To the canyon."), turn("user", "And what do I eat there in the evening?"))
    other = (turn("user", "Name a river in the north."), turn("assistant", "The Ob."), turn("user", "Another."))
    held = [("begun", begun), ("other", other)]
    assert near_to(held, [(turn("user", LONG.replace("next month", "next week")),)]) == {"begun"}
    assert near_to(held, []) == set()


def test_what_was_learned_from_already_is_left_out(workspace):
    import_rows(workspace, numbered(40))
    whole = chosen(workspace)
    seen = set(ids(whole.held_out)[:3])
    split = chosen(workspace, seen=seen | set(ids(whole.train)))
    assert ids(split.held_out) == ids(whole.held_out)[3:]
    assert split.train == whole.train
    assert split.left_out == {SEEN: 3}


def test_what_is_nearly_what_was_learned_from_is_left_out_too(workspace):
    held = on("held out", LONG)
    begun = on("held out", "Name a river in the north.")
    import_rows(workspace, [hh(held, "a", "b"), hh(begun, "a", "b"), *numbered(40)])
    longer = f"{begun}\n\nAssistant: Ob.\n\nHuman: More!"
    learned = [hh(held.replace("next month", "next week"), "a", "b"), hh(longer, "a", "b")]
    elsewhere = import_rows(workspace, learned, name="elsewhere")
    seen = {workspace.pairs.pair(one).prompt_id for one in elsewhere}
    assert {held, begun} <= {first(turns) for _, turns in chosen(workspace).held_out}
    split = chosen(workspace, seen=seen)
    assert {first(turns) for _, turns in split.held_out} & {held, begun} == set()
    assert split.left_out == {SEEN: 2}
    assert chosen(workspace, seen={"nobody knows this one"}).left_out == {}


def test_a_prompt_that_does_not_end_in_a_human_turn_is_none(workspace):
    rows = [{"chosen": "\n\nAssistant: Hello.", "rejected": "\n\nAssistant: Hi."}, *numbered(20)]
    import_rows(workspace, rows)
    split = chosen(workspace)
    assert split.left_out == {NO_ASKING: 1}
    assert all(turns[-1].role == "user" for _, turns in (*split.train, *split.held_out))


def test_held_out_prompts_of_a_release_can_come_from_its_dataset(workspace):
    pair_ids = import_rows(workspace, numbered(60))
    dropped = pair_ids[:30]
    workspace.verdicts.add(
        [Decision(f"c-{one}", "small", one, "ana", "vague", "open", "A", 4.0, "", [], workspace.clock()) for one in dropped]
    )
    release(workspace, "small", "clean", Policy())
    assert held_out.behind(workspace, "release:clean/x,small,release:clean") == "small/x,small"
    original, cleaned = chosen(workspace), chosen(workspace, "release:clean", prompts_from="small")
    assert cleaned.held_out == original.held_out
    kept = {one.prompt_id for one in workspace.pairs.many(pair_ids[30:])}
    assert set(ids(cleaned.train)) == set(ids(original.train)) & kept
    assert set(ids(chosen(workspace, "release:clean").held_out)) == set(ids(original.held_out)) & kept


def test_data_that_leaves_nothing_is_told(workspace):
    import_rows(workspace, numbered(20))
    with pytest.raises(ValueError, match=r"'small' leaves no held-out prompt: expected a larger held_out \(1e-09 now\)"):
        chosen(workspace, held_out=1e-9)
    with pytest.raises(
        ValueError, match=r"'small' leaves no prompt to train on: expected a smaller held_out \(0\.999999 now\)"
    ):
        chosen(workspace, held_out=0.999999)
    with pytest.raises(ValueError, match=r"leaves no held-out prompt \(\d+: what it starts from"):
        chosen(workspace, seen=set(ids(chosen(workspace).held_out)))
    with pytest.raises(ValueError, match="no dataset 'other'"):
        chosen(workspace, "other")
    with pytest.raises(ValueError, match="data is ',': expected DATASET"):
        chosen(workspace, ",")


def test_on_real_data_no_held_out_prompt_is_trained_on_and_it_takes_seconds(workspace, data):
    import_source(workspace, source_of(str(data / "hh-rlhf")), "hh")
    began = time.process_time()
    split = chosen(workspace, "hh", held_out=0.1)
    took = time.process_time() - began
    assert len(split.train) + len(split.held_out) + split.left_out[NEAR] == 8549
    assert set(ids(split.train)).isdisjoint(ids(split.held_out))
    assert {first(turns) for _, turns in split.train}.isdisjoint(first(turns) for _, turns in split.held_out)
    assert took < 15  # of the processor; 3 s on an idle machine
    began = time.process_time()
    assert chosen(workspace, "hh", held_out=0.1, count=50, looked_at=20).held_out == split.held_out[:20]
    assert time.process_time() - began < took / 2  # the near ones are known
