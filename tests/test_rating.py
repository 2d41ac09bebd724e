"""Rating: blind, in an order of one's own, an answer once, nothing lost; DESIGN.md section 5, for raters."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from curation import rating
from curation.pairs import Response
from curation.rating import Card, Halt, Outcome, Status
from curation.store.answers import Answered
from curation.store.studies import NewItem, NewResponse
from curation.study_design import COMPARISON, Marks, values_of
from curation.workspace import Workspace
from tests.rating_steps import (
    BOTH,
    COMPARE,
    RATE,
    again,
    answer,
    everything,
    fill,
    make,
    meaning,
    press,
    redesign,
    row,
    standing,
    submit,
    take,
)

# ---- blind, in an order of one's own


def test_each_rater_has_an_order_of_their_own_and_the_same_again(workspace):
    design = COMPARE.model_copy(update={"overlap": 9})
    make(workspace, design, items=20)
    people = ["ana", "ben", "cat"]
    first = {person: [answer(workspace, person) for _ in range(8)] for person in people}
    assert len({tuple(order) for order in first.values()}) == 3
    with again(workspace) as opened:
        rest = {person: everything(opened, person) for person in people}
    whole = {person: first[person] + rest[person] for person in people}
    with closing(Workspace(workspace.folder / "another", clock=workspace.clock)) as other:
        make(other, design, items=20)
        assert {person: everything(other, person) for person in people} == whole


def test_the_early_items_of_a_study_come_first_for_everybody(workspace):
    ids = make(workspace, COMPARE.model_copy(update={"overlap": 9}), items=45)
    for person in ("ana", "ben"):
        order = everything(workspace, person)
        assert [{*order[start : start + 20]} for start in (0, 20, 40)] == [{*ids[n : n + 20]} for n in (0, 20, 40)]
        assert order[:20] != ids[:20]


def test_responses_are_shown_in_an_order_drawn_per_item_and_rater_that_is_stored_with_the_answer(workspace):
    make(workspace, RATE.model_copy(update={"overlap": 2}), items=30)
    shown = {}
    for person in ("ana", "ben"):
        for _ in range(30):
            card = take(workspace, person)
            names = {response: next(iter(by)) for response, by in generators(workspace, card).items()}
            assert [text[0] for text in card.texts] == [names[one] for one in card.claim.shown]
            assert sorted(card.claim.shown) == sorted(card.item.responses)
            shown[person, card.item.item_id] = card.claim.shown
            assert take(workspace, person).claim == card.claim
            fill(workspace, card)
            submit(workspace, card)
    as_added = {key: order == workspace.studies.item(key[1]).responses for key, order in shown.items()}
    for person in ("ana", "ben"):  # by chance 15 of 30, a standard deviation of 2.7
        assert 6 <= sum(same for (who, _), same in as_added.items() if who == person) <= 24
    assert 6 <= sum(shown["ana", item] == shown["ben", item] for person, item in shown if person == "ana") <= 24
    assert {(one.person, one.item_id): one.shown for one in workspace.answers.standing()} == shown
    for mark in workspace.answers.ratings("one"):
        assert tuple(mark["shown"]) == shown[mark["person"], mark["item_id"]]
        assert mark["shown"][mark["place"] - 1] == mark["response_id"]


def generators(workspace, card):
    return workspace.studies.generators("one")[card.item.item_id]


def test_every_order_of_three_responses_comes_about_as_often_as_the_others(workspace, clock):
    (item,) = make(workspace, RATE, items=0, rows=[row(0, responses=3)])
    texts = workspace.studies.content(item).texts
    orders = Counter()
    for number in range(600):
        claim = workspace.answers.lease("one", item, f"person {number}", "item", clock.at, clock.at)
        orders["".join(texts[one][0] for one in claim.shown)] += 1
    assert orders.keys() == {"abc", "acb", "bac", "bca", "cab", "cba"}
    assert all(65 <= count <= 135 for count in orders.values())  # 100 each, a standard deviation of 9


def test_an_item_that_comes_back_shows_its_responses_where_they_stood(workspace):
    make(workspace)
    card = take(workspace, "ana")
    fill(workspace, card)
    submit(workspace, card)
    back = rating.reopen(workspace, "one", "ana", card.item.item_id)
    assert (back.claim.shown, back.texts) == (card.claim.shown, card.texts)
    rating.skip(workspace, back.claim.claim_id, "ana")
    undone = rating.undo(workspace, "one", "ana")
    assert (undone.claim.shown, undone.texts, undone.item) == (card.claim.shown, card.texts, card.item)


def test_nothing_is_chosen_on_the_next_item(workspace):
    make(workspace, BOTH)
    card = take(workspace, "ana")
    fill(workspace, card, 2)
    rating.write(workspace, card.claim.claim_id, "ana", "a note", ("refusal",))
    submit(workspace, card)
    following = take(workspace, "ana")
    assert following.item != card.item
    assert (following.values, following.version, following.note, following.reasons) == ({}, 0, "", ())
    assert (following.earlier, following.missing) == (None, list(following.questions))


# ---- what is said lands where it was meant


@pytest.mark.parametrize("comparison", ["choice", "strength"])
def test_values_land_on_the_response_they_were_meant_for_whatever_the_order_shown(workspace, comparison):
    make(workspace, BOTH.model_copy(update={"comparison": comparison, "overlap": 12}), items=4)
    meant, strengths, turned = {}, {}, 0
    for number in range(12):
        person = f"person {number}"
        while isinstance(card := take(workspace, person), Card):
            code = hash_of(person, card.item.name)
            for question in card.questions:
                if question.response:
                    text = card.texts[question.place]
                    key = 1 + hash_of(person, text, question.aspect) % len(question.values)
                    meant[person, text, question.aspect] = float(key)
                else:
                    first = min(card.texts)
                    better = (first, max(card.texts), "tie", "both bad")[code % 4]
                    if comparison == "choice":
                        key = 1 + [*card.texts, "tie", "both bad"].index(better)
                    else:  # how much better the first in the alphabet is, -3 to 3
                        strengths[person, card.item.name] = code % 7 - 3
                        key = 4 - (code % 7 - 3) * (1 if card.texts[0] == first else -1)
                    meant[person, card.item.name] = better
                    turned += card.texts[0] != first
                press(workspace, card, question.key, key)
            assert submit(workspace, card) == Outcome.RECORDED
    text_of = dict(workspace.database.rows("SELECT response_id, text FROM responses"))
    ratings = workspace.answers.ratings("one")
    assert len(ratings) == 12 * 4 * 2 * 2
    assert {(one["person"], text_of[one["response_id"]], one["aspect"]): one["value"] for one in ratings} == {
        key: value for key, value in meant.items() if len(key) == 3
    }
    preferences = workspace.answers.preferences("one")
    assert len(preferences) == 12 * 4
    assert 12 <= turned <= 36  # both orders were shown
    for one in preferences:
        left, right = text_of[one["left_id"]], text_of[one["right_id"]]
        assert [one["left_id"], one["right_id"]] == one["shown"]
        if comparison == "choice":
            assert {"left": left, "right": right}.get(one["choice"], one["choice"]) == meant[one["person"], one["name"]]
            assert one["strength"] is None
        else:
            toward_first = strengths[one["person"], one["name"]]
            assert one["strength"] == (-toward_first if left < right else toward_first)
            assert one["choice"] == ("left" if one["strength"] < 0 else "right" if one["strength"] > 0 else "tie")


def hash_of(*parts):
    return sum(place * ord(letter) for place, letter in enumerate("/".join(parts), 7)) // 3


def test_the_first_key_of_a_strength_is_for_the_left_and_the_last_for_the_right(workspace):
    make(workspace, COMPARE.model_copy(update={"comparison": "strength"}), items=7)
    told = {}
    for key in range(1, 8):
        item = answer(workspace, "ana", key)
        (answered,) = [one for one in workspace.answers.standing() if one.item_id == item]
        ((left, right, choice, strength),) = answered.marks.preferences
        assert (left, right) == answered.shown
        told[key] = (choice, strength)
    assert told == {
        1: ("left", -3), 2: ("left", -2), 3: ("left", -1), 4: ("tie", 0), 5: ("right", 1), 6: ("right", 2), 7: ("right", 3),
    }  # fmt: skip


def test_an_answer_keeps_who_when_how_long_and_what_was_said_with_it(workspace, clock):
    make(workspace, BOTH, items=1)
    card = take(workspace, "ana")
    clock.forward(seconds=42)
    fill(workspace, card, meaning({"a on 0": 4, "b on 0": 2, "": "b on 0"}))
    rating.write(workspace, card.claim.claim_id, "ana", "not sure <b>", ("wrong facts", "refusal"))
    submit(workspace, card)
    (told,) = workspace.answers.standing()
    ids = {text: response for response, text in zip(card.claim.shown, card.texts, strict=True)}
    values = {"a on 0": 4.0, "b on 0": 2.0}
    left, right = card.claim.shown
    ratings = tuple((ids[text], aspect, values[text]) for text in card.texts for aspect in ("helpfulness", "overall"))
    marks = Marks(ratings, ((left, right, "right" if right == ids["b on 0"] else "left", None),))
    assert told == (
        card.claim.claim_id, "one", card.item.item_id, "ana", "item", card.claim.shown, marks, 42.0, "not sure <b>",
        ("wrong facts", "refusal"), clock.at,
    )  # fmt: skip
    assert rating.in_words(workspace, told) == (
        ", ".join(
            [f"{name} {aspect} {values[text]:g}" for name, text in zip("AB", card.texts, strict=True)
             for aspect in ("helpfulness", "overall")]
        ) + f", {'AB'[card.texts.index('b on 0')]} is better · not sure <b> · question 0"
    )  # fmt: skip


def test_ratings_and_preferences_are_kept_apart(workspace):
    make(workspace, RATE, items=2)
    everything(workspace, "ana", 3)
    assert (len(workspace.answers.ratings("one")), workspace.answers.preferences("one")) == (4, [])
    make(workspace, COMPARE, items=2, study="two")
    card = rating.next_card(workspace, "two", "ana")
    fill(workspace, card, 1)
    submit(workspace, card)
    assert (workspace.answers.ratings("two"), len(workspace.answers.preferences("two"))) == ([], 1)


def test_a_key_that_is_no_question_or_no_value_is_refused_and_changes_nothing(workspace):
    make(workspace)
    card = take(workspace, "ana")
    first = card.questions[0].key
    for key, value in ((first, 0), (first, 6), (first, "3"), (COMPARISON, 1), ("nothing", 1)):
        with pytest.raises(ValueError, match="no such question or value on this item"):
            rating.press(workspace, card.claim.claim_id, "ana", 0, key, value)
    assert take(workspace, "ana") == card


# ---- compare and set


def test_a_second_submit_records_nothing(workspace):
    make(workspace)
    card = take(workspace, "ana")
    fill(workspace, card)
    assert submit(workspace, card) == Outcome.RECORDED
    assert submit(workspace, card) == Outcome.OVER
    assert rating.press(workspace, card.claim.claim_id, "ana", card.version + 2, card.questions[0].key, 5) == Outcome.OVER
    assert rating.write(workspace, card.claim.claim_id, "ana", "late", ()) == Outcome.OVER
    assert rating.skip(workspace, card.claim.claim_id, "ana") is False
    assert standing(workspace) == [(card.item.item_id, "ana")]
    assert workspace.answers.count("one") == 1


def test_of_many_submits_at_once_one_counts(workspace):
    make(workspace)
    card = take(workspace, "ana")
    fill(workspace, card)
    gate = threading.Barrier(16)

    def together(_):
        gate.wait()
        return submit(workspace, card)

    with ThreadPoolExecutor(16) as threads:
        told = Counter(threads.map(together, range(16)))
    assert told == {Outcome.RECORDED: 1, Outcome.OVER: 15}
    assert workspace.answers.count("one") == 1


def test_nothing_is_recorded_while_a_question_is_open(workspace):
    make(workspace, BOTH)
    card = take(workspace, "ana")
    for number, one in enumerate(card.questions):
        assert submit(workspace, card) == Outcome.INCOMPLETE
        assert take(workspace, "ana").missing == list(card.questions[number:])
        rating.press(workspace, card.claim.claim_id, "ana", number, one.key, 1)
    assert workspace.answers.count("one") == 0
    assert submit(workspace, card) == Outcome.RECORDED


def test_a_press_on_a_card_that_has_moved_on_records_nothing(workspace):
    make(workspace)
    card = take(workspace, "ana")
    first, second = card.questions
    assert rating.press(workspace, card.claim.claim_id, "ana", card.version, first.key, 2) == Outcome.RECORDED
    assert rating.press(workspace, card.claim.claim_id, "ana", card.version, first.key, 5) == Outcome.STALE
    assert rating.press(workspace, card.claim.claim_id, "ana", card.version, second.key, 5) == Outcome.STALE
    now = take(workspace, "ana")
    assert (now.values, now.version) == ({first.key: 2}, 1)
    assert rating.press(workspace, card.claim.claim_id, "ana", 1, first.key, 3) == Outcome.RECORDED
    assert take(workspace, "ana").values == {first.key: 3}


def test_of_many_presses_on_the_same_card_one_counts(workspace):
    make(workspace)
    card = take(workspace, "ana")
    gate = threading.Barrier(10)

    def together(value):
        gate.wait()
        return rating.press(workspace, card.claim.claim_id, "ana", 0, card.questions[0].key, value)

    with ThreadPoolExecutor(10) as threads:
        told = list(threads.map(together, [1, 2, 3, 4, 5] * 2))
    assert Counter(told) == {Outcome.RECORDED: 1, Outcome.STALE: 9}
    assert take(workspace, "ana").values == {card.questions[0].key: told.index(Outcome.RECORDED) % 5 + 1}


def test_a_note_does_not_make_the_next_press_stale_and_none_leaves_what_was_written(workspace):
    make(workspace)
    card = take(workspace, "ana")
    assert rating.write(workspace, card.claim.claim_id, "ana", "so", ("refusal",)) == Outcome.RECORDED
    assert rating.press(workspace, card.claim.claim_id, "ana", 0, card.questions[0].key, 2) == Outcome.RECORDED
    assert rating.write(workspace, card.claim.claim_id, "ana", "so so", None) == Outcome.RECORDED
    assert rating.write(workspace, card.claim.claim_id, "ana", None, ("unsafe",)) == Outcome.RECORDED
    now = take(workspace, "ana")
    assert (now.values, now.note, now.reasons, now.version) == ({card.questions[0].key: 2}, "so so", ("unsafe",), 1)


def test_another_persons_claim_can_be_pressed_submitted_and_skipped_by_nobody_else(workspace):
    make(workspace)
    card = take(workspace, "ana")
    fill(workspace, card, 2)
    claim, key = card.claim.claim_id, card.questions[0].key
    for who, which in (("ben", claim), ("ana", "no such claim")):
        assert rating.press(workspace, which, who, 2, key, 5) == Outcome.OVER
        assert rating.write(workspace, which, who, "mine", ()) == Outcome.OVER
        assert rating.submit(workspace, which, who) == Outcome.OVER
        assert rating.skip(workspace, which, who) is False
    assert (standing(workspace), take(workspace, "ana").values) == ([], {one.key: 2 for one in card.questions})
    assert submit(workspace, card) == Outcome.RECORDED


def test_an_answer_that_could_not_be_stored_can_be_given_again(workspace):
    make(workspace)
    card = take(workspace, "ana")
    fill(workspace, card)
    with pytest.raises(Exception, match="surrogate"):
        rating.write(workspace, card.claim.claim_id, "ana", "\ud83d", ())
    assert submit(workspace, card) == Outcome.RECORDED
    assert [one.note for one in workspace.answers.standing()] == [""]


def test_a_submit_from_a_tab_that_shows_other_values_records_nothing(workspace):
    make(workspace, BOTH, items=1)
    card = take(workspace, "ana")
    fill(workspace, card, 2)
    shown = take(workspace, "ana")  # one tab shows this, another changes a value
    rating.press(workspace, card.claim.claim_id, "ana", shown.version, card.questions[0].key, 5)
    assert rating.submit(workspace, card.claim.claim_id, "ana", version=shown.version) == Outcome.STALE
    assert standing(workspace) == []
    assert rating.submit(workspace, card.claim.claim_id, "ana", version=shown.version + 1) == Outcome.RECORDED


def test_a_press_on_a_card_drawn_before_the_questions_were_changed_records_nothing(workspace):
    make(workspace, RATE, items=1)
    card = take(workspace, "ana")
    turned = tuple(one.model_copy(update={"anchors": one.anchors[::-1]}) for one in RATE.aspects)
    redesign(workspace, aspects=turned)
    press = (workspace, card.claim.claim_id, "ana", card.version, card.questions[0].key, 5)
    assert rating.press(*press, asked=card.asked) == Outcome.STALE
    assert take(workspace, "ana").values == {}
    assert rating.press(*press, asked=take(workspace, "ana").asked) == Outcome.RECORDED


# ---- claims


@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_an_item_is_never_in_more_hands_than_it_wants_raters(workspace, overlap):
    make(workspace, RATE.model_copy(update={"overlap": overlap}), items=4)
    cards = [take(workspace, f"person {n}") for n in range(20)]
    given = [card for card in cards if isinstance(card, Card)]
    assert cards[len(given) :] == [Halt("done")] * (20 - len(given))
    assert {*Counter(card.item.item_id for card in given).values()} == {overlap}
    assert rating.status(workspace, "one", "person 19") == Status(0, 4, 0, None)  # they are not done yet, only held
    rating.skip(workspace, given[0].claim.claim_id, given[0].claim.person)
    assert take(workspace, "person 19").item == given[0].item


def test_an_item_ends_with_exactly_as_many_distinct_raters_as_wanted(workspace):
    ids = make(workspace, RATE.model_copy(update={"overlap": 3}), items=5)
    done = {person: everything(workspace, person) for person in ("ana", "ben", "cat", "dan")}
    assert [len(done[person]) for person in ("ana", "ben", "cat", "dan")] == [5, 5, 5, 0]
    assert Counter(item for item, _ in standing(workspace)) == dict.fromkeys(ids, 3)
    assert len({*standing(workspace)}) == 15


def test_two_tabs_of_one_rater_show_the_same_card(workspace):
    make(workspace)
    gate = threading.Barrier(8)

    def ask(_):
        gate.wait()
        return take(workspace, "ana").claim

    with ThreadPoolExecutor(8) as threads:
        assert len({*threads.map(ask, range(8))}) == 1
    assert workspace.database.rows("SELECT count(*) FROM study_claims") == [(1,)]


def test_an_item_in_a_closed_tab_goes_to_another_after_its_time_and_the_late_answer_is_refused(workspace, clock):
    make(workspace, items=1)
    late = take(workspace, "ana")
    fill(workspace, late, 5)
    clock.forward(minutes=4, seconds=59)
    assert take(workspace, "ben") == Halt("done")
    clock.forward(seconds=1)
    card = take(workspace, "ben")
    assert (card.item, card.values, card.earlier) == (late.item, {}, None)  # and not the other's draft
    assert submit(workspace, late) == Outcome.OVER
    fill(workspace, card, 2)
    assert submit(workspace, card) == Outcome.RECORDED
    assert [(one.person, {value for _, _, value in one.marks.ratings}) for one in workspace.answers.standing()] == [
        ("ben", {2.0})
    ]
    assert take(workspace, "ana") == Halt("done")
    assert workspace.database.rows("SELECT claim_id, how FROM study_claim_ends") == [(late.claim.claim_id, "expired")]


def test_a_late_answer_counts_where_nobody_was_given_the_item_meanwhile(workspace, clock):
    make(workspace)
    card = take(workspace, "ana")
    fill(workspace, card)
    clock.forward(hours=9)
    assert submit(workspace, card) == Outcome.RECORDED
    assert standing(workspace) == [(card.item.item_id, "ana")]


def test_a_late_answer_counts_where_there_is_room_for_one_more_and_not_where_others_have_come(workspace, clock):
    make(workspace, RATE.model_copy(update={"overlap": 2}), items=1)
    late = take(workspace, "ana")
    fill(workspace, late)
    clock.forward(hours=1)
    second = take(workspace, "ben")
    assert rating.card_of(workspace, late.claim).values == dict.fromkeys([one.key for one in late.questions], 1)
    assert submit(workspace, late) == Outcome.RECORDED
    fill(workspace, second)
    assert submit(workspace, second) == Outcome.RECORDED
    assert take(workspace, "cat") == Halt("done")


def test_a_claim_lasts_as_long_as_the_design_says_or_three_median_answers(workspace, clock):
    make(workspace, RATE.model_copy(update={"least_claim_minutes": 10}))
    card = take(workspace, "ana")
    assert (card.claim.expires_at - card.claim.claimed_at).total_seconds() == 600
    for seconds in (60, 900, 300):
        card = take(workspace, "ana")
        fill(workspace, card)
        clock.forward(seconds=seconds)
        submit(workspace, card)
    card = take(workspace, "ana")
    assert (card.claim.expires_at - card.claim.claimed_at).total_seconds() == 3 * 300
    assert rating.status(workspace, "one", "ana") == Status(3, 3, 0, 300)


def test_an_item_of_one_study_is_held_beside_one_of_another(workspace):
    make(workspace, items=1)
    make(workspace, items=1, study="two")
    one, two = take(workspace, "ana"), rating.next_card(workspace, "two", "ana")
    assert (one.claim.study, two.claim.study) == ("one", "two")
    assert take(workspace, "ana").claim == one.claim
    fill(workspace, two)
    assert submit(workspace, two) == Outcome.RECORDED
    assert take(workspace, "ana").claim == one.claim
    assert rating.undo(workspace, "one", "ana") is None  # the last answer is of the other study


def test_an_item_without_its_texts_is_handed_to_nobody(workspace):
    (known,) = make(workspace, items=1)
    unknown = NewItem("f" * 32, "x", (), (NewResponse("a", Response("", "(not given)"), given=False),))
    workspace.studies.add_items("one", [unknown], None)
    assert everything(workspace, "ana") == [known]
    assert set(workspace.studies.contents("one")) == {known, "f" * 32}
    assert workspace.studies.contents("one")[known] == workspace.studies.content(known)


# ---- nothing is lost


def test_drafts_claims_answers_and_skips_are_there_after_a_restart(workspace, clock):
    make(workspace, BOTH)
    first = answer(workspace, "ana", 2)
    skipped = take(workspace, "ana")
    rating.skip(workspace, skipped.claim.claim_id, "ana", "too hard")
    card = take(workspace, "ana")
    for number, one in enumerate(card.questions[:3]):
        rating.press(workspace, card.claim.claim_id, "ana", number, one.key, 4 - number)
    rating.write(workspace, card.claim.claim_id, "ana", "ümlaut\nand <b>", ("refusal",))
    held, status = take(workspace, "ana"), rating.status(workspace, "one", "ana")
    ratings = workspace.answers.ratings("one")
    with again(workspace) as opened:
        assert take(opened, "ana") == held
        assert (list(held.values.values()), held.version, held.note, held.reasons) == (
            [4, 3, 2], 3, "ümlaut\nand <b>", ("refusal",)
        )  # fmt: skip
        assert rating.status(opened, "one", "ana") == status == Status(1, 5, 1, 0.0)
        assert opened.answers.ratings("one") == ratings
        others = [take(opened, f"person {n}").item.item_id for n in range(4)]
        assert {first, held.item.item_id} & {*others} == set()
        assert skipped.item.item_id in others
        assert rating.press(opened, held.claim.claim_id, "ana", 2, held.questions[3].key, 1) == Outcome.STALE
        assert rating.press(opened, held.claim.claim_id, "ana", 3, held.questions[3].key, 1) == Outcome.RECORDED
        assert rating.press(opened, held.claim.claim_id, "ana", 4, COMPARISON, 1) == Outcome.RECORDED
        assert submit(opened, held) == Outcome.RECORDED
        assert [(one["why"], one["person"]) for one in opened.answers.skips("one")] == [("too hard", "ana")]


def test_a_draft_outlives_the_claim_it_was_made_under(workspace, clock):
    make(workspace, BOTH, items=1)
    card = take(workspace, "ana")
    fill(workspace, card, 3)
    rating.write(workspace, card.claim.claim_id, "ana", "my note", ())
    clock.forward(hours=1)
    other = take(workspace, "ben")
    rating.skip(workspace, other.claim.claim_id, "ben")
    with again(workspace) as opened:
        back = take(opened, "ana")
        assert back.claim.claim_id != card.claim.claim_id
        assert (back.claim.shown, back.values, back.note) == (card.claim.shown, {q.key: 3 for q in card.questions}, "my note")
        assert submit(opened, back) == Outcome.RECORDED


def test_a_restart_does_not_put_an_item_back_into_the_late_hand(workspace, clock):
    make(workspace, items=1)
    late = take(workspace, "ana")
    fill(workspace, late)
    clock.forward(hours=1)
    held = take(workspace, "ben")
    with again(workspace) as opened:
        assert submit(opened, late) == Outcome.OVER
        assert (take(opened, "ana"), take(opened, "ben").claim) == (Halt("done"), held.claim)


def test_a_side_that_was_drafted_is_not_taken_for_the_other_where_the_order_is_another_now(workspace, clock):
    (item,) = make(workspace, BOTH, items=1)
    card = take(workspace, "ana")
    fill(workspace, card, 2)
    rating.skip(workspace, card.claim.claim_id, "ana")
    turned = card.claim.shown[::-1]
    said = Answered("elsewhere", "one", item, "ana", "imported", turned, Marks(), None, "", (), clock.at)
    assert workspace.answers.add([said]) == 1
    workspace.raters.reload()
    back = rating.reopen(workspace, "one", "ana", item)
    assert back.texts == card.texts[::-1]
    assert back.values == {one.key: 2 for one in card.questions if one.response}
    assert [one.key for one in back.missing] == [COMPARISON]


def test_a_claim_that_is_being_written_outlives_an_import(workspace):
    make(workspace, items=2)
    store, claim = workspace.answers, workspace.answers.claim

    class Slow:
        """The store, to which an import comes in between a claim and its writing."""

        def __getattr__(self, name):
            return getattr(store, name)

        def claim(self, one):
            workspace.raters.reload()
            claim(one)

    workspace.raters._store = Slow()
    card = take(workspace, "ana")
    fill(workspace, card)
    assert submit(workspace, card) == Outcome.RECORDED
    assert standing(workspace) == [(card.item.item_id, "ana")]


# ---- skips, undo, second thoughts


def test_a_skipped_item_goes_to_others_and_comes_back_only_when_asked_for_and_its_reason_is_kept(workspace, clock):
    make(workspace)
    card = take(workspace, "ana")
    clock.forward(seconds=5)
    assert rating.skip(workspace, card.claim.claim_id, "ana", "  I know the author ") is True
    assert rating.skip(workspace, card.claim.claim_id, "ana", "again") is False
    assert workspace.answers.skips("one") == [
        {"item_id": card.item.item_id, "person": "ana", "why": "I know the author", "ended_at": clock.at}
    ]
    assert card.item.item_id not in everything(workspace, "ana")
    assert rating.status(workspace, "one", "ana") == Status(5, 1, 1, 0.0)
    assert take(workspace, "ana", again=True).item == card.item
    assert answer(workspace, "ana", again=True) == card.item.item_id
    assert rating.status(workspace, "one", "ana") == Status(6, 0, 0, 0.0)


def test_a_skipped_item_wants_a_rater_still(workspace):
    make(workspace, items=1)
    card = take(workspace, "ana")
    rating.skip(workspace, card.claim.claim_id, "ana")
    assert workspace.answers.skips("one")[0]["why"] == ""
    assert answer(workspace, "ben") == card.item.item_id


def test_undo_brings_back_the_item_with_what_was_said_of_it(workspace, clock):
    make(workspace, BOTH)
    card = take(workspace, "ana")
    fill(workspace, card, 4)
    rating.write(workspace, card.claim.claim_id, "ana", "my note", ("refusal",))
    submit(workspace, card)
    answers = workspace.answers.standing()
    clock.forward(seconds=3)
    back = rating.undo(workspace, "one", "ana")
    assert (back.item, back.texts, back.values) == (card.item, card.texts, {one.key: 4 for one in card.questions})
    assert (back.note, back.reasons, back.missing, back.earlier) == ("my note", ("refusal",), [], None)
    assert (workspace.answers.standing(), workspace.answers.ratings("one"), workspace.answers.preferences("one")) == (
        [],
        [],
        [],
    )
    assert workspace.answers.count("one") == 1  # the event stays
    assert workspace.database.rows("SELECT claim_id FROM study_undos") == [(answers[0].claim_id,)]
    press(workspace, back, COMPARISON, 1)
    assert submit(workspace, back) == Outcome.RECORDED
    assert values_of(back.design, back.claim.shown, workspace.answers.standing()[0].marks) == {**back.values, COMPARISON: 1}


def test_undo_steps_back_through_ones_own_answers_and_lets_go_of_what_was_held(workspace, clock):
    make(workspace, RATE.model_copy(update={"overlap": 2}), items=4)
    mine = []
    for _ in range(3):
        mine.append(answer(workspace, "ana"))
        clock.forward(seconds=1)
        answer(workspace, "ben")
        clock.forward(seconds=1)
    held = take(workspace, "ana")
    assert rating.undo(workspace, "one", "ana").item.item_id == mine[2]
    assert submit(workspace, held) == Outcome.OVER
    assert rating.undo(workspace, "one", "ana").item.item_id == mine[1]
    assert [item for item, person in standing(workspace) if person == "ana"] == [mine[0]]
    assert sum(person == "ben" for _, person in standing(workspace)) == 3
    assert rating.status(workspace, "one", "ana") == Status(1, 3, 0, 0.0)
    assert rating.undo(workspace, "one", "cat") is None
    assert rating.undo(workspace, "one", "ana").item.item_id == mine[0]
    assert rating.undo(workspace, "one", "ana") is None


def test_an_item_that_is_undone_is_in_nobody_elses_hand_before_it_is_back(workspace):
    make(workspace, items=1)
    stop, seen = threading.Event(), []

    def lurk(person):
        while not stop.is_set():
            seen.extend([] if isinstance(take(workspace, person), Halt) else [person])

    item = answer(workspace, "ana")
    threads = [threading.Thread(target=lurk, args=(f"person {n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        card = rating.undo(workspace, "one", "ana")
        assert card.item.item_id == item
        assert submit(workspace, card) == Outcome.RECORDED
    stop.set()
    for thread in threads:
        thread.join()
    assert (seen, standing(workspace)) == ([], [(item, "ana")])


def test_an_item_that_is_opened_again_shows_the_answer_which_stands_until_there_is_a_new_one(workspace, clock):
    make(workspace, BOTH)
    first = answer(workspace, "ana", 2)
    clock.forward(seconds=1)
    held = take(workspace, "ana")
    back = rating.reopen(workspace, "one", "ana", first)
    (before,) = workspace.answers.standing()
    assert (back.values, back.earlier) == (values_of(back.design, back.claim.shown, before.marks), before)
    assert back.values == {one.key: 2 for one in back.questions}
    assert submit(workspace, held) == Outcome.OVER
    press(workspace, back, back.questions[0].key, 5)
    press(workspace, back, COMPARISON, 3)
    assert workspace.answers.standing() == [before]
    clock.forward(seconds=1)
    assert submit(workspace, back) == Outcome.RECORDED
    (after,) = workspace.answers.standing()
    assert values_of(back.design, back.claim.shown, after.marks) == {**back.values, back.questions[0].key: 5, COMPARISON: 3}
    assert workspace.answers.count("one") == 2
    assert [one["value"] for one in workspace.answers.ratings("one")] == [5.0, 2.0, 2.0, 2.0]  # as shown, and by aspect
    assert [(one["choice"], one["claim_id"]) for one in workspace.answers.preferences("one")] == [("tie", after.claim_id)]
    assert rating.status(workspace, "one", "ana").done == 1
    undone = rating.undo(workspace, "one", "ana")
    assert undone.item.item_id == first
    assert workspace.answers.standing() == [before]  # the earlier one stands again
    assert [one["value"] for one in workspace.answers.ratings("one")] == [2.0] * 4
    assert [(one["choice"], one["claim_id"]) for one in workspace.answers.preferences("one")] == [("right", before.claim_id)]


def test_only_an_item_one_has_answered_can_be_opened_again(workspace):
    ids = make(workspace, items=2)
    make(workspace, items=1, study="two")
    done = answer(workspace, "ana")
    (other,) = {*ids} - {done}
    for study, person, item in (("one", "ben", done), ("one", "ana", other), ("two", "ana", done)):
        assert rating.reopen(workspace, study, person, item) is None
    with pytest.raises(ValueError, match=r"^no item 'x': expected the 32 hex digits of an item of a study$"):
        rating.reopen(workspace, "one", "ana", "x")
    assert answer(workspace, "ben") == other
    assert Counter(item for item, _ in standing(workspace)) == {done: 1, other: 1}


def test_a_skip_keeps_its_reason_and_the_note(workspace):
    make(workspace, items=1)
    card = take(workspace, "ana")
    rating.write(workspace, card.claim.claim_id, "ana", "half of it is in Latin", None)
    assert rating.skip(workspace, card.claim.claim_id, "ana", "Another reason, see my note")
    (skip,) = workspace.answers.skips("one")
    assert skip["why"] == "Another reason, see my note: half of it is in Latin"
