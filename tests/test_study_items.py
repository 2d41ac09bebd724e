"""What a study is about: drawn in the proportions asked for, the same again with the same seed, named by content."""

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from curation import rating, review, studies, study_items
from curation.importing import import_source
from curation.outputs import ItemResponse, ItemRow, Output
from curation.pairs import Response, prompt_id_of, response_id_of, turn
from curation.rating import Outcome
from curation.release import Policy, release
from curation.sources import source_of
from curation.store.studies import expected_of
from curation.store.verdicts import Decision
from curation.study_design import Design, questions
from curation.study_items import Sample, drawn
from tests.conftest import SMALL, flag_pairs, hh, import_rows, numbered

RATE, COMPARE = Design(gold_share=0), Design(protocol="compare", gold_share=0)
BOTH = Design(protocol="both", aspects=studies.aspects_named(["helpfulness", "overall"]), gold_share=0)
EVERYTHING = Sample(10_000)


def sides(item):
    """The texts of an item by who wrote them."""
    return {one.generator: one.response.text for one in item.responses}


def asked(item):
    return item.prompt[-1].content


def say(workspace, pair_id, clock, **verdicts):
    """Record people's verdicts on a pair of the dataset "small"."""
    for person, verdict in verdicts.items():
        clock.forward(seconds=1)
        row = Decision(f"{pair_id}-{person}", "small", pair_id, person, verdict, "open", "A", 4.0, "", [], clock.at)
        workspace.verdicts.add([row])


def imported_in_parts(workspace, **sizes):
    """A dataset whose subsets have these sizes."""
    folder = workspace.folder / "parts"
    for subset, size in sizes.items():
        (folder / subset).mkdir(parents=True)
        rows = [hh(f"Question {n} of {subset}?", f"Good {n}.", f"Bad {n}.") for n in range(size)]
        (folder / subset / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_source(workspace, source_of(str(folder)), "parts")


def outputs_of(prompts, *generators, text="{generator} on {n}"):
    return [
        Output(
            (turn("user", f"question {n}"),), text.format(generator=generator, n=n), generator, "odd" if n % 2 else "even", ""
        )
        for generator in generators
        for n in range(prompts)
    ]


# ---- drawing


@pytest.mark.parametrize(
    ("sizes", "count", "equal", "expected"),
    [
        ({"a": 50, "b": 30, "c": 20}, 10, False, {"a": 5, "b": 3, "c": 2}),
        ({"a": 50, "b": 30, "c": 20}, 100, False, {"a": 50, "b": 30, "c": 20}),
        ({"a": 50, "b": 30, "c": 20}, 5000, False, {"a": 50, "b": 30, "c": 20}),
        # 7 of 16: shares 3.94, 2.19, 0.88; whole 3, 2, 0; the two left go to the largest remainders, .94 and .88
        ({"a": 9, "b": 5, "c": 2}, 7, False, {"a": 4, "b": 2, "c": 1}),
        # 10 of 21: shares 3.33 each; one left, and among equals the first name
        ({"a": 7, "b": 7, "c": 7}, 10, False, {"a": 4, "b": 3, "c": 3}),
        ({"a": 97, "b": 2, "c": 1}, 3, False, {"a": 3}),
        ({"a": 97, "b": 2, "c": 1}, 3, True, {"a": 1, "b": 1, "c": 1}),
        ({"a": 50, "b": 30, "c": 20}, 12, True, {"a": 4, "b": 4, "c": 4}),
        # 2 and 1 are all there is of b and c: a gives the rest
        ({"a": 97, "b": 2, "c": 1}, 12, True, {"a": 9, "b": 2, "c": 1}),
        ({"a": 40, "b": 1, "c": 40}, 11, True, {"a": 5, "b": 1, "c": 5}),
        ({"a": 3}, 2, True, {"a": 2}),
    ],
)
def test_strata_get_whole_numbers_by_largest_remainder_and_give_what_they_have_not(sizes, count, equal, expected):
    ids = [f"{name}{n}" for name, size in sizes.items() for n in range(size)]
    chosen = drawn(ids, Sample(count, equal=equal), lambda one: (one[0],))
    assert Counter(one[0] for one in chosen) == expected
    assert len(set(chosen)) == len(chosen)


def test_the_number_drawn_is_the_number_asked_for_whatever_the_strata():
    ids = [f"{n}" for n in range(60)]
    for count in range(1, 61):
        for parts in (1, 2, 7, 13, 60):
            for equal in (False, True):
                chosen = drawn(
                    ids, Sample(count, equal=equal, seed=count), lambda one, parts=parts: (str(int(one) ** 2 % parts),)
                )
                assert len(chosen) == len(set(chosen)) == count


def test_the_same_seed_draws_the_same_in_the_same_order_however_the_pairs_lie_and_another_draws_others():
    ids = [f"{n}" for n in range(200)]
    by_last_digit = lambda one: (one[-1],)  # noqa: E731
    first = drawn(ids, Sample(50, seed=1), by_last_digit)
    assert drawn(ids[::-1], Sample(50, seed=1), by_last_digit) == first
    assert first != sorted(first)
    others = [drawn(ids, Sample(50, seed=seed), by_last_digit) for seed in range(2, 12)]
    assert all(set(other) != set(first) for other in others)
    # 50 of 200 by chance: 12.5 in common, a standard deviation of about 2.7
    assert all(2 <= len(set(other) & set(first)) <= 24 for other in others)


def test_every_member_of_a_stratum_is_as_likely_as_the_others():
    ids = [f"{n}" for n in range(20)]
    counts = Counter(one for seed in range(2000) for one in drawn(ids, Sample(5, seed=seed), lambda one: ("all",)))
    expected, deviation = 500, (2000 * 0.25 * 0.75) ** 0.5
    assert [one for one in ids if abs(counts[one] - expected) > 4 * deviation] == []


def test_a_sample_of_nothing_and_strata_there_are_not_are_refused():
    with pytest.raises(ValueError, match=r"^0 items were asked for: expected 1 or more$"):
        Sample(0)
    with pytest.raises(ValueError, match=r"^cannot stratify by 'colour': expected some of subset, length, flag$"):
        study_items.strata_named(["subset", "colour"])
    assert study_items.strata_named(["length", "subset", "length"]) == ("length", "subset")
    with pytest.raises(ValueError, match=r"^there is nothing to draw from"):
        drawn([], Sample(3), lambda one: ())


# ---- a dataset


def test_items_of_a_dataset_hold_the_pairs_sides_under_the_ids_the_dataset_has(workspace):
    ids = import_rows(workspace, numbered(5))
    found = study_items.from_dataset(workspace, "one", "small", EVERYTHING)
    assert found.words == "5 of 5 pairs of dataset small, seed 0"
    pairs = {one.prompt: one for one in workspace.pairs.many(ids)}
    assert {one.prompt for one in found.items} == pairs.keys()
    studies.create(workspace, "one", RATE, "lead")
    assert studies.add_items(workspace, "one", found.items, "lead", words=found.words) == 5
    stored = workspace.studies.items("one")
    generators = workspace.studies.generators("one")
    for item in found.items:
        pair = pairs[item.prompt]
        assert sides(item) == {"chosen": pair.chosen.text, "rejected": pair.rejected.text}
        assert stored[item.item_id].prompt_id == pair.prompt_id
        assert generators[item.item_id] == {pair.chosen_id: ("chosen",), pair.rejected_id: ("rejected",)}
    assert workspace.database.rows("SELECT count(*) FROM responses") == [(10,)]  # those of the dataset, and no other


def test_pairs_with_an_empty_side_or_equal_sides_are_left_out_and_counted(workspace):
    rows = [*SMALL, hh("Same?", "Yes.", "Yes."), hh("Same but for space?", "Yes.", " Yes.\t\n"), hh("Blank?", " \n", "Yes.")]
    import_rows(workspace, rows)
    found = study_items.from_dataset(workspace, "one", "small", EVERYTHING)
    assert sorted(asked(one) for one in found.items) == ["Is tea hot?", "Name a river.", "Please."]
    assert found.words == ("3 of 3 pairs of dataset small, seed 0; 4 left out, with an empty side or two equal sides")


def test_a_dataset_without_a_pair_that_can_be_rated_is_refused(workspace):
    import_rows(workspace, [SMALL[1], hh("Same?", "Yes.", "Yes.")])
    with pytest.raises(ValueError, match=r"^there is nothing to draw from: no pair or prompt is left that can be rated$"):
        study_items.from_dataset(workspace, "one", "small", Sample(1))
    with pytest.raises(ValueError, match=r"other"):
        study_items.from_dataset(workspace, "one", "other", Sample(1))


def test_a_sample_by_subset_has_the_subsets_shares_or_equal_numbers(workspace):
    imported_in_parts(workspace, chat=30, code=18, law=2)
    by_share = study_items.from_dataset(workspace, "one", "parts", Sample(10, ("subset",), seed=3))
    assert Counter(one.subset for one in by_share.items) == {"chat": 6, "code": 4}  # 6, 3.6, 0.4
    assert all(asked(one).endswith(f"of {one.subset}?") for one in by_share.items)
    assert by_share.words == "10 of 50 pairs of dataset parts, by subset, seed 3"
    equal = study_items.from_dataset(workspace, "one", "parts", Sample(10, ("subset",), equal=True))
    assert Counter(one.subset for one in equal.items) == {"chat": 4, "code": 4, "law": 2}
    assert equal.words == "10 of 50 pairs of dataset parts, by subset in equal numbers, seed 0"


def test_a_sample_by_length_has_as_many_of_each_third(workspace):
    import_rows(workspace, [hh(f"Question {n}?", "x" * (n + 1), "y") for n in range(30)])
    found = study_items.from_dataset(workspace, "one", "small", Sample(9, ("length",)))
    assert Counter(len(sides(one)["chosen"]) > 20 for one in found.items) == {True: 3, False: 6}
    assert Counter(len(sides(one)["chosen"]) > 10 for one in found.items) == {True: 6, False: 3}


def test_a_sample_by_flag_has_the_share_of_each_filter_and_of_unflagged_pairs(workspace):
    ids = import_rows(workspace, numbered(20))
    flag_pairs(workspace, dict.fromkeys(ids[:10], 0.9), filter="vague")
    flag_pairs(workspace, dict.fromkeys(ids[5:10], 0.9), filter="toxic")
    by_prompt = {one.prompt: one.pair_id for one in workspace.pairs.many(ids)}
    found = study_items.from_dataset(workspace, "one", "small", Sample(8, ("flag",)))
    places = [ids.index(by_prompt[one.prompt]) for one in found.items]
    assert (sum(n < 5 for n in places), sum(5 <= n < 10 for n in places), sum(n >= 10 for n in places)) == (2, 2, 4)


def test_the_same_seed_gives_the_same_items_in_the_same_order_and_adding_them_again_adds_nothing(workspace):
    import_rows(workspace, numbered(40))
    first, again, other = (
        study_items.from_dataset(workspace, "one", "small", Sample(10, ("length",), seed=seed)) for seed in (7, 7, 8)
    )
    assert first == again
    assert {one.item_id for one in first.items} != {one.item_id for one in other.items}
    studies.create(workspace, "one", RATE, "lead")
    assert [studies.add_items(workspace, "one", first.items, "lead", words="x") for _ in range(3)] == [10, 0, 0]
    assert [*workspace.studies.items("one")] == [one.item_id for one in first.items]
    more = study_items.from_dataset(workspace, "one", "small", EVERYTHING)
    assert studies.add_items(workspace, "one", more.items, "lead", words="x") == 30
    assert len(workspace.studies.items("one")) == 40


def test_the_same_pairs_in_two_studies_are_two_items_with_the_same_responses(workspace):
    import_rows(workspace, numbered(3))
    one, two = (study_items.from_dataset(workspace, name, "small", EVERYTHING).items for name in ("one", "two"))
    assert {item.item_id for item in one} & {item.item_id for item in two} == set()
    for name, items in (("one", one), ("two", two)):
        studies.create(workspace, name, RATE, "lead")
        assert studies.add_items(workspace, name, items, "lead", words="x") == 3
    responses = [
        sorted(x for item in workspace.studies.items(name).values() for x in item.responses) for name in ("one", "two")
    ]
    assert responses[0] == responses[1]


# ---- a release


@pytest.fixture
def released(workspace, clock):
    """Twelve pairs, the first four swapped and the next four dropped in the release "clean"."""
    ids = import_rows(workspace, numbered(12))
    for place, pair_id in enumerate(ids[:8]):
        say(workspace, pair_id, clock, ana="opposite" if place < 4 else "toxic")
    release(workspace, "small", "clean", Policy())
    return ids


def test_of_a_release_swapped_pairs_are_turned_and_dropped_ones_never_drawn(workspace, released):
    pairs = {one.prompt: one for one in workspace.pairs.many(released)}
    for seed in range(10):
        found = study_items.from_dataset(workspace, "one", "small", Sample(6, seed=seed), release="clean")
        for item in found.items:
            pair = pairs[item.prompt]
            place = released.index(pair.pair_id)
            assert place not in range(4, 8)
            as_it_is = {"chosen": pair.chosen.text, "rejected": pair.rejected.text}
            turned = {"chosen": pair.rejected.text, "rejected": pair.chosen.text}
            assert sides(item) == (turned if place < 4 else as_it_is)
    found = study_items.from_dataset(workspace, "one", "small", EVERYTHING, release="clean")
    assert found.words == "8 of 8 pairs of release clean of small, seed 0"
    assert {released.index(pairs[one.prompt].pair_id) for one in found.items} == {*range(4), *range(8, 12)}


def test_a_turned_pair_keeps_its_responses_ids(workspace, released):
    studies.create(workspace, "one", RATE, "lead")
    found = study_items.from_dataset(workspace, "one", "small", EVERYTHING, release="clean")
    studies.add_items(workspace, "one", found.items, "lead", words="x")
    pairs = {one.prompt_id: one for one in workspace.pairs.many(released)}
    generators = workspace.studies.generators("one")
    for item in workspace.studies.items("one").values():
        pair = pairs[item.prompt_id]
        better, worse = (
            (pair.rejected_id, pair.chosen_id) if pair.pair_id in released[:4] else (pair.chosen_id, pair.rejected_id)
        )
        assert generators[item.item_id] == {better: ("chosen",), worse: ("rejected",)}


def test_a_release_that_is_not_there_is_named_with_those_that_are(workspace, released):
    with pytest.raises(ValueError, match=r"^no release 'dirty' of 'small': there is clean$"):
        study_items.from_dataset(workspace, "one", "small", EVERYTHING, release="dirty")
    folder = workspace.folder / workspace.releases.all("small")[0].folder
    (folder / "dropped.jsonl").unlink()
    with pytest.raises(ValueError, match=r"^the release 'clean' is not at '.*' any more: no dropped\.jsonl there$"):
        study_items.from_dataset(workspace, "one", "small", EVERYTHING, release="clean")


# ---- gold


def test_gold_items_expect_the_side_people_settled_on(workspace, clock):
    ids = import_rows(workspace, [*numbered(6), hh("Same?", "Yes.", "Yes.")])
    say(workspace, ids[0], clock, ana="same", ben="same")
    say(workspace, ids[1], clock, ana="opposite", ben="opposite")
    say(workspace, ids[2], clock, ana="same", ben="opposite")  # no agreement
    say(workspace, ids[3], clock, ana="same")  # one voice
    say(workspace, ids[4], clock, ana="toxic", ben="toxic")  # no side
    review.settle(workspace, "small", ids[5], review.Verdict.OPPOSITE, "judith")
    say(workspace, ids[6], clock, ana="same", ben="same")  # two equal sides
    found = study_items.gold_from_settled(workspace, "one", "small", EVERYTHING)
    pairs = workspace.pairs.many(ids)
    better = {one.prompt: json.loads(one.expected) for one in found.items}
    assert better == {
        pairs[0].prompt: {"better": pairs[0].chosen_id},
        pairs[1].prompt: {"better": pairs[1].rejected_id},
        pairs[5].prompt: {"better": pairs[5].rejected_id},
    }
    assert {(one.kind, one.explanation) for one in found.items} == {
        ("gold", "Reviewers who looked at this pair agreed on this.")
    }
    assert found.words == "3 gold items of 3 settled pairs of dataset small"


def test_a_pair_can_be_an_item_and_a_gold_item_of_one_study(workspace, clock):
    ids = import_rows(workspace, numbered(1))
    say(workspace, ids[0], clock, ana="same", ben="same")
    (item,) = study_items.from_dataset(workspace, "one", "small", EVERYTHING).items
    (gold,) = study_items.gold_from_settled(workspace, "one", "small", EVERYTHING).items
    assert item.item_id != gold.item_id
    studies.create(workspace, "one", RATE, "lead")
    assert studies.add_items(workspace, "one", [item, gold], "lead", words="x") == 2
    assert [one.kind for one in workspace.studies.items("one").values()] == ["item", "gold"]


def test_gold_and_warm_up_items_are_of_pairs_that_are_not_in_the_study(workspace, clock):
    ids = import_rows(workspace, numbered(12))
    for pair_id in ids:
        say(workspace, pair_id, clock, ana="same", ben="same")
    plain = study_items.from_dataset(workspace, "one", "small", Sample(6)).items
    gold = study_items.gold_from_settled(workspace, "one", "small", Sample(3), without=plain).items
    warm = study_items.gold_from_settled(workspace, "one", "small", Sample(3), without=[*plain, *gold], kind="warm-up").items
    assert [len(one) for one in (plain, gold, warm)] == [6, 3, 3]
    assert len({one.prompt for one in (*plain, *gold, *warm)}) == 12
    assert {one.kind for one in warm} == {"warm-up"}
    studies.create(workspace, "one", COMPARE, "lead")
    studies.add_items(workspace, "one", [*plain, *gold], "lead", words="x")
    later = study_items.gold_from_settled(workspace, "one", "small", EVERYTHING).items
    assert {one.prompt for one in later} == {one.prompt for one in warm}


def test_no_settled_pair_is_no_gold_and_said_so(workspace):
    import_rows(workspace, numbered(2))
    with pytest.raises(ValueError, match=r"^there is nothing to draw from"):
        study_items.gold_from_settled(workspace, "one", "small", EVERYTHING)


# ---- outputs


@pytest.mark.parametrize(
    ("each", "prompts", "names"), [(1, 60, "abcd"), (1, 61, "abcd"), (2, 50, "abc"), (3, 40, "abc"), (4, 21, "abcde")]
)
def test_every_two_generators_are_compared_as_often_as_every_other_and_a_prompt_never_twice_with_the_same(each, prompts, names):
    found = study_items.from_outputs("one", COMPARE, outputs_of(prompts, *names), Sample(1000), each=each)
    compared = Counter(tuple(sides(one)) for one in found.items)
    assert compared.keys() == set(combinations(names, 2))
    assert sum(compared.values()) == prompts * each
    assert max(compared.values()) - min(compared.values()) <= 1
    assert set(Counter((one.prompt, tuple(sides(one))) for one in found.items).values()) == {1}
    assert set(Counter(one.prompt for one in found.items).values()) == {each}


def test_more_comparisons_of_a_prompt_than_there_are_give_all_there_are():
    found = study_items.from_outputs("one", COMPARE, outputs_of(4, *"abc"), EVERYTHING, each=9)
    assert len(found.items) == 4 * 3


def test_to_rate_an_item_has_the_responses_of_all_generators():
    found = study_items.from_outputs("one", RATE, outputs_of(7, *"cab"), EVERYTHING)
    assert sorted(asked(one) for one in found.items) == [f"question {n}" for n in range(7)]
    for item in found.items:
        number = asked(item).split()[1]
        assert sides(item) == {name: f"{name} on {number}" for name in "abc"}
        assert item.subset == ("odd" if int(number) % 2 else "even")


def test_prompts_that_not_all_generators_answered_are_left_out_and_counted():
    given = [one for one in outputs_of(10, "a", "b") if (one.generator, one.prompt[0].content) != ("b", "question 3")]
    found = study_items.from_outputs("one", COMPARE, given, EVERYTHING)
    assert sorted(asked(one) for one in found.items) == [f"question {n}" for n in range(10) if n != 3]
    assert found.words == ("9 items of 9 of 9 prompts, answered by a, b, seed 0; 1 left out, that not all of them answered")


def test_two_responses_that_are_the_same_are_not_compared_and_counted():
    given = [*outputs_of(6, "a", "b", text="both on {n}")[:6], *outputs_of(6, "b", text=" both on {n}\n")]
    given[0] = given[0]._replace(response="another")
    found = study_items.from_outputs("one", COMPARE, given, EVERYTHING)
    assert [asked(one) for one in found.items] == ["question 0"]
    assert found.words == "1 items of 6 of 6 prompts, answered by a, b, seed 0; 5 left out, two responses that are the same"


def test_two_generators_that_always_say_the_same_do_not_take_the_place_of_the_others():
    given = [*outputs_of(30, "a"), *outputs_of(30, "b", "c", text="alike on {n}")]
    found = study_items.from_outputs("one", COMPARE, given, EVERYTHING)
    assert Counter(tuple(sides(one)) for one in found.items) == {("a", "b"): 15, ("a", "c"): 15}


def test_comparing_needs_two_generators():
    with pytest.raises(ValueError, match=r"^the outputs are of a: expected two generators or more to compare$"):
        study_items.from_outputs("one", COMPARE, outputs_of(3, "a"), EVERYTHING)
    with pytest.raises(ValueError, match=r"^the outputs are of nobody: expected two generators or more to compare$"):
        study_items.from_outputs("one", COMPARE, [], EVERYTHING)


def test_outputs_are_drawn_by_subset_and_the_same_again_with_the_same_seed(workspace):
    given = outputs_of(30, "a", "b", "c")
    sample = Sample(10, ("subset",), equal=True, seed=5)
    found = study_items.from_outputs("one", BOTH, given, sample)
    assert study_items.from_outputs("one", BOTH, given[::-1], sample) == found
    assert Counter(one.subset for one in found.items) == {"odd": 5, "even": 5}
    studies.create(workspace, "one", BOTH, "lead")
    assert [studies.add_items(workspace, "one", found.items, "lead", words="x") for _ in range(2)] == [10, 0]


def test_an_output_has_the_id_that_the_same_content_has_in_a_dataset(workspace):
    ids = import_rows(workspace, [hh("Name a river.", "The Danube.", "Rivers flow.")])
    pair = workspace.pairs.pair(ids[0])
    given = [
        Output((turn("user", "Name a river."),), text, name, "", "")
        for name, text in (("x", "The Danube."), ("y", "Rivers flow."))
    ]
    studies.create(workspace, "one", COMPARE, "lead")
    studies.add_items(workspace, "one", study_items.from_outputs("one", COMPARE, given, EVERYTHING).items, "lead", words="x")
    (item,) = workspace.studies.items("one").values()
    assert (item.prompt_id, {*item.responses}) == (pair.prompt_id, {pair.chosen_id, pair.rejected_id})
    assert workspace.database.rows("SELECT count(*) FROM responses") == [(2,)]


def test_two_generators_of_the_same_words_are_rated_once_and_both_known(workspace):
    given = [
        Output((turn("user", "Name a river."),), text, name, "", "") for name, text in (("x", "A"), ("y", "A"), ("z", "B"))
    ]
    studies.create(workspace, "one", RATE, "lead")
    studies.add_items(workspace, "one", study_items.from_outputs("one", RATE, given, EVERYTHING).items, "lead", words="x")
    (item,) = workspace.studies.items("one").values()
    ids = {text: response_id_of(item.prompt_id, Response(text)) for text in "AB"}
    assert {*item.responses} == {*ids.values()}
    assert len(item.responses) == 2
    assert workspace.studies.generators("one")[item.item_id] == {ids["A"]: ("x", "y"), ids["B"]: ("z",)}


# ---- a file of items


def test_rows_become_items_with_kinds_and_known_answers_by_response(workspace, tmp_path):
    records = [
        {"item": "plain", "prompt": "One?", "responses": [{"generator": "x", "text": "1"}, {"generator": "y", "text": "2"}]},
        {
            "item": "gold", "prompt": "Two?", "responses": [{"generator": "x", "text": "1"}, {"generator": "y", "text": "2"}],
            "kind": "gold", "subset": "sums", "explanation": "1 + 1 is 2.",
            "expected": {"better": "y", "ratings": [{"generator": "x", "aspect": "helpfulness", "low": 1, "high": 2}]},
        },
        {
            "prompt": "Three?", "responses": [{"generator": "x", "text": "1"}, {"generator": "y", "text": "2"}],
            "kind": "warm-up", "expected": {"better": "both bad"},
        },
        {"prompt": "Four?", "responses": []},
    ]  # fmt: skip
    path = Path(tmp_path / "items.jsonl")
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    found = study_items.from_item_file("one", path)
    assert found.words == (
        "3 items of items.jsonl; 1 records could not be used, the first items.jsonl line 4: "
        "responses is []: expected a list of objects with generator and text"
    )
    studies.create(workspace, "one", COMPARE, "lead")
    assert [studies.add_items(workspace, "one", found.items, "lead", words=found.words) for _ in range(2)] == [3, 0]
    plain, gold, first = workspace.studies.items("one").values()
    assert [(one.name, one.kind, one.subset, one.explanation) for one in (plain, gold, first)] == [
        ("plain", "item", "", ""), ("gold", "gold", "sums", "1 + 1 is 2."), ("", "warm-up", "", ""),
    ]  # fmt: skip
    prompt_id = prompt_id_of((turn("user", "Two?"),))
    one, two = (response_id_of(prompt_id, Response(text)) for text in "12")
    assert [expected_of(item) for item in (plain, gold, first)] == [
        {},
        {"better": two, "ratings": [{"response": one, "aspect": "helpfulness", "low": 1, "high": 2}]},
        {"better": "both bad"},
    ]


def test_two_items_of_the_same_content_and_different_names_are_two_and_without_names_one(workspace):
    row = ItemRow(1, "a", (turn("user", "One?"),), (ItemResponse("x", "1"), ItemResponse("y", "2")), "", "item", None, "")
    items = study_items.from_rows(
        "one", [row, row._replace(item="b"), row, row._replace(item=""), row._replace(item="", line=9)]
    )
    studies.create(workspace, "one", COMPARE, "lead")
    assert studies.add_items(workspace, "one", items, "lead", words="x") == 3
    turned = study_items.from_rows("one", [row._replace(responses=row.responses[::-1])])
    assert studies.add_items(workspace, "one", turned, "lead", words="x") == 0  # the order of a file is no content


# ---- attention items


@pytest.mark.parametrize("design", [RATE, COMPARE, BOTH], ids=lambda one: one.protocol)
def test_doing_what_an_attention_item_says_passes_and_anything_else_fails(workspace, design):
    import_rows(workspace, numbered(12))
    plain = study_items.from_dataset(workspace, "one", "small", EVERYTHING).items
    made = study_items.attention_items("one", design, plain, 12)
    assert len({one.item_id for one in made} | {one.item_id for one in plain}) == 24
    studies.create(workspace, "one", design, "lead")
    studies.add_items(workspace, "one", made, "lead", words="x")
    for item in workspace.studies.items("one").values():
        content = workspace.studies.content(item.item_id)
        ((check, text),) = [one for one in content.texts.items() if one[1].startswith("This is a check")]
        values = {}
        for one in questions(design, item.responses):
            wanted = re.findall(rf"give it the value (\d) for {one.aspect}\b", text)
            assert len(wanted) == (one.response != "")
            values[one.key] = int(wanted[0]) if one.response == check else 1
        if design.compares:
            assert "choose it as the better one" in text
            values["comparison"] = 1 + item.responses.index(check)
        assert rating.passes(expected_of(item), rating.marks_of(design, item.responses, values)) is True
        for one in questions(design, item.responses):
            if one.response in ("", check):
                wrong = {**values, one.key: values[one.key] % len(one.values) + 1}
                assert rating.passes(expected_of(item), rating.marks_of(design, item.responses, wrong)) is False


def test_attention_items_are_as_many_as_asked_for_and_there_are_and_the_same_for_the_same_seed(workspace):
    import_rows(workspace, numbered(5))
    plain = study_items.from_dataset(workspace, "one", "small", EVERYTHING).items
    first, again, other = (study_items.attention_items("one", BOTH, plain, 3, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert [len(study_items.attention_items("one", BOTH, plain, count)) for count in (0, 1, 5, 9)] == [0, 1, 5, 5]
    assert {one.kind for one in first} == {"attention"}
    assert {one.prompt for one in first} <= {one.prompt for one in plain}
    assert study_items.attention_items("one", BOTH, first, 3) == []  # only of plain items


def test_the_place_of_the_check_is_drawn_and_the_other_response_stays():
    given = outputs_of(60, "a", "b")
    plain = study_items.from_outputs("one", BOTH, given, EVERYTHING).items
    texts = {one.prompt: sides(one) for one in plain}
    made = study_items.attention_items("one", BOTH, plain, 60)
    kept = [{name: text for name, text in sides(one).items() if name != "attention"} for one in made]
    assert all(left.items() <= texts[one.prompt].items() and len(left) == 1 for left, one in zip(kept, made, strict=True))
    assert 15 <= sum("a" in left for left in kept) <= 45


def test_who_answers_an_attention_item_is_asked_what_it_says(workspace):
    import_rows(workspace, numbered(1))
    plain = study_items.from_dataset(workspace, "one", "small", EVERYTHING).items
    studies.create(workspace, "one", COMPARE.model_copy(update={"gold_share": 0.5}), "lead")
    studies.add_items(workspace, "one", study_items.attention_items("one", COMPARE, plain, 1), "lead", words="x")
    cards = [rating.next_card(workspace, "one", f"person {n}") for n in range(20)]
    assert all(isinstance(card, rating.Card) for card in cards)  # where nothing else is left everybody is given it
    for card in cards:
        check = next(n for n, text in enumerate(card.texts) if text.startswith("This is a check"))
        rating.press(workspace, card.claim.claim_id, card.claim.person, 0, "comparison", 1 + check)
        assert rating.submit(workspace, card.claim.claim_id, card.claim.person) == Outcome.RECORDED
    (item,) = workspace.studies.items("one").values()
    assert {rating.passes(expected_of(item), one.marks) for one in workspace.answers.standing()} == {True}
