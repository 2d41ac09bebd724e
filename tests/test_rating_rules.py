"""Who is asked besides: one more rater where they disagree, known answers; who is paused, and what is told of progress."""

from collections import Counter

import pytest

from curation import rating, studies
from curation.rating import Card, Feedback, Halt, Outcome, Status
from curation.store.studies import expected_of
from curation.study_design import Marks
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
    row,
    standing,
    submit,
    take,
)

# ---- one more rater where they disagree


def test_where_raters_disagree_one_more_is_asked_up_to_the_most_and_where_they_agree_nobody(workspace):
    make(workspace, RATE.model_copy(update={"overlap": 2, "raters_at_most": 4, "extra_below": 0.5}), items=3)
    names = {one.item_id: one.name for one in workspace.studies.items("one").values()}

    def by(person):  # "item 0": all the same; "item 1": the third agrees with one of two; "item 2": never agreed
        values = {"item 0": [3, 3, 3, 3], "item 1": [1, 5, 5, 5], "item 2": [1, 5, 1, 5]}
        place = ("ana", "ben", "cat", "dan", "eve").index(person)
        return lambda card, question: values[card.item.name][place]

    came = {person: sorted(names[item] for item in everything(workspace, person, by(person))) for person in ("ana", "ben")}
    assert came == {person: ["item 0", "item 1", "item 2"] for person in ("ana", "ben")}
    # two raters 4 of 4 points apart agree to 0; three, one of them apart, to a third: below 0.5, so a fourth is asked
    assert sorted(names[item] for item in everything(workspace, "cat", by("cat"))) == ["item 1", "item 2"]
    assert rating.status(workspace, "one", "dan").left == 2
    assert sorted(names[item] for item in everything(workspace, "dan", by("dan"))) == ["item 1", "item 2"]
    assert everything(workspace, "eve") == []  # 4 is the most, agreed or not
    assert rating.status(workspace, "one", "eve").left == 0


@pytest.mark.parametrize(("second", "asked"), [(1, False), (2, False), (3, False), (4, True), (5, True)])
def test_one_more_rater_is_asked_below_the_agreement_of_the_design_and_not_at_it(workspace, second, asked):
    make(workspace, RATE.model_copy(update={"overlap": 2, "raters_at_most": 3, "extra_below": 0.5}), items=1)
    answer(workspace, "ana", 1)
    answer(workspace, "ben", second)
    assert isinstance(take(workspace, "cat"), Card) is asked


def test_the_extra_rater_is_one_and_is_not_asked_any_more_when_the_others_come_to_agree(workspace, clock):
    make(workspace, RATE.model_copy(update={"overlap": 2, "raters_at_most": 5}), items=1)
    item = answer(workspace, "ana", 1)
    assert take(workspace, "cat").item.item_id == item  # cat and ben hold the two places
    answer_of_cat = take(workspace, "cat")
    fill(workspace, answer_of_cat, 5)
    submit(workspace, answer_of_cat)
    extra = take(workspace, "dan")
    assert (extra.item.item_id, take(workspace, "eve")) == (item, Halt("done"))
    rating.skip(workspace, extra.claim.claim_id, "dan")
    clock.forward(seconds=1)
    back = rating.reopen(workspace, "one", "cat", item)
    for one in back.questions:
        press(workspace, back, one.key, 1)
    submit(workspace, back)
    assert take(workspace, "eve") == Halt("done")
    clock.forward(seconds=1)
    rating.undo(workspace, "one", "cat")  # the 5 stands again
    assert workspace.answers.ratings("one")[-1]["value"] == 5.0
    assert take(workspace, "eve").item.item_id == item


def test_who_came_by_while_raters_agreed_is_asked_when_one_of_them_changes_their_mind(workspace, clock):
    make(workspace, RATE.model_copy(update={"overlap": 2, "raters_at_most": 3}), items=1)
    item = answer(workspace, "ana", 1)
    assert answer(workspace, "ben", 1) == item
    assert take(workspace, "cat") == Halt("done")
    clock.forward(seconds=1)
    back = rating.reopen(workspace, "one", "ben", item)
    for one in back.questions:
        press(workspace, back, one.key, 5)
    assert take(workspace, "cat") == Halt("done")
    submit(workspace, back)
    assert answer(workspace, "cat") == item


def test_with_preferences_a_tie_and_a_side_disagree_and_the_same_side_in_another_place_agrees(workspace):
    make(workspace, COMPARE.model_copy(update={"overlap": 2, "raters_at_most": 3}), items=12)

    def better(card, question):
        side = "tie" if card.claim.person == "ben" and int(card.item.name[5:]) % 2 else f"a on {card.item.name[5:]}"
        return 1 + [*card.texts, "tie", "both bad"].index(side)

    for person in ("ana", "ben"):
        assert len(everything(workspace, person, better)) == 12
    shown = {(one.item_id, one.person): one.shown for one in workspace.answers.standing()}
    turned = sum(shown[item, "ana"] != shown[item, "ben"] for item, person in shown if person == "ana")
    assert 1 <= turned <= 11
    names = workspace.studies.items("one")
    assert {int(names[item].name[5:]) % 2 for item in everything(workspace, "cat")} == {1}
    assert Counter(person for _, person in standing(workspace)) == {"ana": 12, "ben": 12, "cat": 6}


# ---- warm-up and known answers

GOOD = {"better": "a"}
CLEAR = {"ratings": [{"generator": "a", "aspect": "helpfulness", "low": 4, "high": 5}]}


def test_warm_up_items_come_first_to_everybody_in_an_order_of_their_own(workspace):
    warm = [row(n, kind="warm-up", expected=GOOD) for n in range(10, 16)]
    ids = make(workspace, RATE, items=3, rows=warm)
    orders = {}
    for person in ("ana", "ben", "cat"):
        orders[person] = [answer(workspace, person) for _ in range(6)]
        assert {*orders[person]} == {*ids[3:]}
    assert len({tuple(order) for order in orders.values()}) > 1
    assert rating.status(workspace, "one", "ana") == Status(6, 3, 0, 0.0)
    assert [everything(workspace, person) == [] for person in ("ana", "ben", "cat")] == [False, True, True]
    assert Counter(item for item, _ in standing(workspace)) == {**dict.fromkeys(ids[:3], 1), **dict.fromkeys(ids[3:], 3)}


def test_whoever_answers_a_warm_up_item_is_told_what_was_expected_and_why(workspace, clock):
    make(workspace, BOTH, items=1, rows=[row(9, kind="warm-up", expected={**GOOD, **CLEAR}, explanation="It is a river.")])
    card = take(workspace, "ana")
    fill(workspace, card, meaning({"a on 9": 2, "b on 9": 3, "": "b on 9"}))
    submit(workspace, card)
    name = "AB"[card.texts.index("a on 9")]
    wrong = (f"helpfulness of {name}: 2, expected 4 to 5", f"expected {name} to be better")
    assert rating.last_feedback(workspace, "one", "ana") == Feedback(False, wrong, "It is a river.")
    clock.forward(seconds=1)
    back = rating.undo(workspace, "one", "ana")
    for one in back.questions:
        press(workspace, back, one.key, meaning({"a on 9": 4, "b on 9": 3, "": "a on 9"})(back, one))
    submit(workspace, back)
    assert rating.last_feedback(workspace, "one", "ana") == Feedback(True, (), "It is a river.")
    clock.forward(seconds=1)
    answer(workspace, "ana")
    assert rating.last_feedback(workspace, "one", "ana") is None  # an item like any other tells nothing
    assert rating.last_feedback(workspace, "one", "ben") is None


def test_gold_items_come_to_everybody_now_and_then_each_once_and_tell_nothing(workspace):
    gold = [row(n, kind="gold", expected=GOOD, explanation="why") for n in range(40, 54)]
    ids = make(workspace, COMPARE.model_copy(update={"overlap": 2, "gold_share": 0.2}), items=40, rows=gold)
    for person in ("ana", "ben"):
        done = everything(workspace, person)
        known = [item for item in done if item in ids[40:]]
        assert len(done) == len({*done}) == 40 + len(known)
        assert 2 <= len(known) <= 14  # 10 of 50 by chance, a standard deviation of 2.8, and 14 at most
        kinds = Counter(one.kind for one in workspace.answers.standing() if one.person == person)
        assert kinds == {"item": 40, "gold": len(known)}
        assert rating.status(workspace, "one", person) == Status(len(done), 0, 0, 0.0)
        last = workspace.answers.history(person, "one", limit=500)
        assert {rating.feedback(workspace, one) for one in last} == {None}
    first, second = (
        {one.item_id for one in workspace.answers.standing() if (one.person, one.kind) == (person, "gold")}
        for person in ("ana", "ben")
    )
    assert first != second


def marks(better=None, **values):
    preferences = () if better is None else (("a", "b", better, None),)
    return Marks(tuple((name, "helpfulness", value) for name, value in values.items()), preferences)


def strength(value):
    return Marks((), (("a", "b", "left" if value < 0 else "right" if value else "tie", value),))


RANGE = {"ratings": [{"response": "a", "aspect": "helpfulness", "low": 2, "high": 4}]}


@pytest.mark.parametrize(
    ("expected", "given", "passed"),
    [
        (RANGE, marks(a=1.0), False),
        (RANGE, marks(a=2.0), True),
        (RANGE, marks(a=4.0, b=1.0), True),
        (RANGE, marks(a=5.0), False),
        (RANGE, marks(b=3.0), None),
        (RANGE, marks("left"), None),
        ({"better": "a"}, marks("left"), True),
        ({"better": "b"}, marks("left"), False),
        ({"better": "b"}, marks("right"), True),
        ({"better": "a"}, marks("tie"), False),
        ({"better": "tie"}, marks("tie"), True),
        ({"better": "both bad"}, marks("both bad"), True),
        ({"better": "both bad"}, marks("tie"), False),
        ({"better": "both bad"}, strength(0), None),  # a strength cannot say it
        ({"better": "both bad"}, marks(a=1.0, b=1.0), None),  # nor can ratings
        ({"better": "a"}, strength(-1), True),
        ({"better": "a"}, strength(2), False),
        ({"better": "tie"}, strength(0), True),
        ({"better": "a"}, marks(a=3.0, b=2.0), True),
        ({"better": "a"}, marks(a=3.0, b=3.0), True),  # no other has a higher mean
        ({"better": "a"}, marks(a=2.0, b=3.0), False),
        ({"better": "tie"}, marks(a=3.0, b=3.0), True),
        ({"better": "tie"}, marks(a=3.0, b=2.0), False),
        ({"better": "a"}, marks("right", a=5.0, b=1.0), False),  # what was compared goes before what was rated
        ({"better": "a", **RANGE}, marks("left", a=5.0), False),
        ({"better": "a", **RANGE}, marks("left", a=3.0), True),
        ({"better": "a"}, marks(), None),
        ({}, marks("left", a=3.0), None),
    ],
)
def test_an_answer_passes_where_all_that_was_expected_and_can_be_compared_is_so(expected, given, passed):
    assert rating.passes(expected, given) is passed


def test_a_mean_over_aspects_says_which_response_is_better():
    given = Marks((("a", "x", 1.0), ("a", "y", 5.0), ("b", "x", 4.0), ("b", "y", 1.0)))
    assert [rating.passes({"better": name}, given) for name in ("a", "b", "tie")] == [True, False, False]


# ---- pauses


def test_a_rater_whose_last_ten_answers_were_too_fast_is_paused_and_another_is_not(workspace, clock):
    make(workspace, RATE.model_copy(update={"pause_seconds": 5, "overlap": 2}), items=40)

    def at_pace(person, seconds):
        card = take(workspace, person)
        fill(workspace, card)
        clock.forward(seconds=seconds)
        return submit(workspace, card)

    for _ in range(9):
        at_pace("ana", 2)
        at_pace("ben", 5)
    assert (rating.why_paused(workspace, "one", "ana"), isinstance(take(workspace, "ana"), Card)) == ("", True)
    at_pace("ana", 2)
    at_pace("ben", 5)  # as fast as allowed
    words = (
        "Your last 10 answers took 2.0 s each, which is faster than the study allows. "
        "Please ask whoever runs the study; nothing you answered is lost."
    )
    assert take(workspace, "ana") == Halt("paused", words)
    assert isinstance(take(workspace, "ben"), Card)
    assert sum(person == "ana" for _, person in standing(workspace)) == 10
    with again(workspace) as opened:
        assert take(opened, "ana") == Halt("paused", words)
        clock.forward(seconds=1)
        studies.let_on(opened, "one", "ana", "lead")
        clock.forward(seconds=1)
        for number in range(10):  # it counts anew: nine fast ones pause nobody
            assert [rating.why_paused(opened, "one", "ana"), number] == ["", number]
            card = take(opened, "ana")
            fill(opened, card)
            clock.forward(seconds=2)
            submit(opened, card)
        assert rating.why_paused(opened, "one", "ana") == words
        assert [line["what"] for line in studies.record_of(opened, "one")][2:] == [
            f"paused: ana ({words})", "let on: ana", f"paused: ana ({words})",
        ]  # fmt: skip


def test_the_median_decides_and_one_long_break_hides_no_haste(workspace, clock):
    make(workspace, RATE.model_copy(update={"pause_seconds": 5}), items=20)
    for number in range(10):
        card = take(workspace, "ana")
        fill(workspace, card)
        clock.forward(seconds=200 if number == 4 else 1)
        submit(workspace, card)
    assert rating.why_paused(workspace, "one", "ana").startswith("Your last 10 answers took 1.0 s each")


def test_a_rater_who_fails_too_many_known_items_is_paused_and_let_on_counts_anew(workspace, clock):
    rows = [row(n, kind=("gold", "attention")[n % 2], expected=GOOD) for n in range(20, 40)]
    rows += [row(n, kind="warm-up", expected=GOOD) for n in range(40, 43)]
    make(workspace, COMPARE.model_copy(update={"pause_gold": 3, "gold_share": 0.5}), items=60, rows=rows)

    def until_paused(right):
        failed = 0
        while isinstance(card := take(workspace, "ana"), Card):
            number = card.item.name[5:]
            fill(workspace, card, meaning({"": f"{'a' if right else 'b'} on {number}"}))
            clock.forward(seconds=10)
            submit(workspace, card)
            (said,) = workspace.answers.history("ana", "one", limit=1)
            known = said.kind in ("gold", "attention")
            failed += known and rating.passes(expected_of(card.item), said.marks) is False
            if failed == 0 and len(standing(workspace)) > 8 and right:
                return "never", 0
        return card.why, failed

    assert until_paused(right=True) == ("never", 0)
    assert until_paused(right=False) == ("paused", 3)
    assert rating.why_paused(workspace, "one", "ana").startswith(
        "3 of your answers to items with a known answer were not as expected. Please ask"
    )
    clock.forward(seconds=1)
    studies.let_on(workspace, "one", "ana", "lead")
    clock.forward(seconds=1)
    assert until_paused(right=False) == ("paused", 3)
    assert isinstance(take(workspace, "ben"), Card)


def test_warm_up_items_pause_nobody(workspace):
    warm = [row(n, kind="warm-up", expected=GOOD) for n in range(20, 25)]
    make(workspace, COMPARE.model_copy(update={"pause_gold": 1}), items=1, rows=warm)
    for _ in warm:
        answer(workspace, "ana", 4)
    assert rating.why_paused(workspace, "one", "ana") == ""
    assert isinstance(take(workspace, "ana"), Card)


def test_a_second_look_at_an_answer_is_no_haste(workspace, clock):
    make(workspace, COMPARE.model_copy(update={"pause_seconds": 5}), items=14)
    done = []
    for _ in range(12):
        card = take(workspace, "ana")
        clock.forward(seconds=40)
        fill(workspace, card)
        assert submit(workspace, card) == Outcome.RECORDED
        done.append(card.item.item_id)
    for item_id in done[:8]:
        card = rating.reopen(workspace, "one", "ana", item_id)
        clock.forward(seconds=2)
        assert submit(workspace, card) == Outcome.RECORDED
    assert rating.why_paused(workspace, "one", "ana") == ""
    assert workspace.answers.spent("one", "ana")[done[0], "ana"] == 42


# ---- progress


def test_progress_and_pace_are_those_of_the_rater(workspace, clock):
    make(workspace, RATE.model_copy(update={"overlap": 2}), items=4)
    assert rating.status(workspace, "one", "ana") == Status(0, 4, 0, None)
    for seconds in (10, 30, 20):
        card = take(workspace, "ana")
        fill(workspace, card)
        clock.forward(seconds=seconds)
        submit(workspace, card)
    assert rating.status(workspace, "one", "ana") == Status(3, 1, 0, 20.0)
    assert rating.status(workspace, "one", "ben") == Status(0, 4, 0, None)
    everything(workspace, "ben")
    assert rating.status(workspace, "one", "cat") == Status(0, 1, 0, None)
    rating.undo(workspace, "one", "ben")
    assert rating.status(workspace, "one", "ben")[:2] == (3, 1)
    everything(workspace, "ben")
    everything(workspace, "ana")
    assert [rating.status(workspace, "one", person)[:2] for person in ("ana", "ben", "cat")] == [(4, 0), (4, 0), (0, 0)]


def test_what_is_left_falls_by_one_with_every_answer_so_that_nobody_can_tell_gold(workspace):
    rows = [row(n, kind="gold", expected=GOOD) for n in range(20, 40)]
    make(workspace, COMPARE.model_copy(update={"gold_share": 0.25}), items=12, rows=[*rows, row(50, kind="warm-up")])
    left, kinds = [rating.status(workspace, "one", "ana").left], Counter()
    while isinstance(card := take(workspace, "ana"), Card):
        kinds[card.claim.kind] += 1
        fill(workspace, card)
        submit(workspace, card)
        left.append(rating.status(workspace, "one", "ana").left)
    assert left == list(range(17, -1, -1))
    assert kinds == {"item": 12, "gold": 4, "warm-up": 1}  # a quarter of 16
