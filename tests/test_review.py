"""Review: blind, one pair in one hand, an answer once, nothing lost; DESIGN.md section 5."""

import random
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest

from curation import review
from curation.review import Outcome, Settings, Verdict, View
from curation.workspace import Workspace
from tests.conftest import flag_pairs, import_rows, numbered

ALL = View(order="suspicious", pool="all")
PLAIN = Settings(control_share=0, gold_share=0)


def settings_in_force(workspace, **changes):
    settings = PLAIN.model_copy(update=changes)
    review.change_settings(workspace, "small", settings, "curator")
    return settings


@pytest.fixture
def ids(workspace):
    """Six pairs, all to be reviewed in row order, without gold and control."""
    ids = import_rows(workspace, numbered(6))
    settings_in_force(workspace)
    return ids


def take(workspace, person, view=ALL, **how):
    return review.next_card(workspace, person, "small", view, **how)


def answer(workspace, person, choice="vague", view=ALL):
    """Take the next pair and answer it; returns its id, None when nothing is left."""
    card = take(workspace, person, view)
    if card is None:
        return None
    assert review.decide(workspace, card.claim.claim_id, person, choice) is Outcome.RECORDED
    return card.claim.pair_id


def standing(workspace):
    return [(one.pair_id, one.person, one.verdict) for one in workspace.verdicts.standing()]


def reopened(workspace, clock):
    """The same workspace after the process has ended and started again."""
    workspace.close()
    return Workspace(workspace.folder, clock=clock)


# ---- blind


def test_the_side_of_the_chosen_response_is_drawn_for_each_pair_and_person_and_stored(workspace):
    ids = import_rows(workspace, numbered(100))
    settings_in_force(workspace, overlap=2)
    shown = defaultdict(dict)
    for person in ("ana", "ben"):
        for _ in ids:
            card = take(workspace, person)
            side = card.claim.chosen_shown
            assert (card.a, card.b)["AB".index(side)] == card.pair.chosen.text
            assert (card.b, card.a)["AB".index(side)] == card.pair.rejected.text
            review.decide(workspace, card.claim.claim_id, person, "A")
            shown[person][card.claim.pair_id] = side
    for person in shown:
        assert 30 <= sum(side == "A" for side in shown[person].values()) <= 70
    assert 30 <= sum(shown["ana"][pair_id] == shown["ben"][pair_id] for pair_id in ids) <= 70
    assert {(one.person, one.pair_id): one.chosen_shown for one in workspace.verdicts.standing()} == {
        (person, pair_id): side for person in shown for pair_id, side in shown[person].items()
    }


def test_the_sides_stay_where_they_were_when_a_pair_is_seen_again(workspace, ids, clock):
    first = take(workspace, "ana")
    assert take(workspace, "ana").claim == first.claim
    review.decide(workspace, first.claim.claim_id, "ana", "A")
    again = review.reopen(workspace, "ana", "small", first.claim.pair_id)
    assert (again.a, again.b) == (first.a, first.b)
    review.skip(workspace, again.claim.claim_id)
    undone = review.undo(workspace, "ana", "small")
    assert (undone.a, undone.b, undone.claim.pair_id) == (first.a, first.b, first.claim.pair_id)


@pytest.mark.parametrize(
    ("choice", "shown", "verdict"),
    [
        ("A", "A", "same"),
        ("B", "B", "same"),
        ("A", "B", "opposite"),
        ("B", "A", "opposite"),
        ("toxic", "A", "toxic"),
        ("empty", "B", "empty"),
    ],
)
def test_a_side_means_same_or_opposite_by_where_the_chosen_response_stood(choice, shown, verdict):
    assert review.verdict_of(choice, shown) == verdict


def test_every_button_is_stored_as_what_it_means_and_found_again(workspace, ids):
    for choice in review.CHOICES:
        card = take(workspace, "ana")
        review.decide(workspace, card.claim.claim_id, "ana", choice.name)
        (decision,) = workspace.verdicts.of_pair(card.claim.pair_id)
        better = {"A": card.a, "B": card.b}.get(choice.name)
        expected = {card.pair.chosen.text: "same", card.pair.rejected.text: "opposite"}.get(better, choice.name)
        assert (decision.verdict, review.choice_of(decision)) == (expected, choice.name)


def test_an_answer_keeps_who_when_how_long_and_what_was_said_with_it(workspace, ids, clock):
    card = take(workspace, "ana")
    clock.forward(seconds=42)
    review.decide(workspace, card.claim.claim_id, "ana", "toxic", note="rude", tags=("refusal", "both bad"))
    (decision,) = workspace.verdicts.standing()
    assert decision == (
        card.claim.claim_id, "small", ids[0], "ana", "toxic", "open", card.claim.chosen_shown, 42.0, "rude",
        ["refusal", "both bad"], clock.at,
    )  # fmt: skip


def test_a_choice_that_is_no_button_is_refused(workspace, ids):
    card = take(workspace, "ana")
    with pytest.raises(ValueError, match="choice is 'same': expected one of A, B, vague, toxic, repetitive, empty"):
        review.decide(workspace, card.claim.claim_id, "ana", "same")
    assert standing(workspace) == []


# ---- compare and set


def test_a_second_press_on_the_same_card_records_nothing(workspace, ids):
    card = take(workspace, "ana")
    assert review.decide(workspace, card.claim.claim_id, "ana", "vague") is Outcome.RECORDED
    assert review.decide(workspace, card.claim.claim_id, "ana", "toxic") is Outcome.OVER
    assert standing(workspace) == [(ids[0], "ana", "vague")]
    assert len(workspace.verdicts.events()) == 1


def test_of_many_presses_at_once_one_counts(workspace, ids):
    card = take(workspace, "ana")
    gate = threading.Barrier(16)

    def press(choice):
        gate.wait()
        return review.decide(workspace, card.claim.claim_id, "ana", choice)

    with ThreadPoolExecutor(16) as threads:
        told = list(threads.map(press, ["vague", "toxic"] * 8))
    assert Counter(told) == {Outcome.RECORDED: 1, Outcome.OVER: 15}
    assert len(workspace.verdicts.events()) == 1


def test_another_persons_press_records_nothing(workspace, ids):
    card = take(workspace, "ana")
    assert review.decide(workspace, card.claim.claim_id, "ben", "toxic") is Outcome.OVER
    assert review.decide(workspace, "no such claim", "ana", "toxic") is Outcome.OVER
    assert standing(workspace) == []
    assert review.decide(workspace, card.claim.claim_id, "ana", "vague") is Outcome.RECORDED


def test_a_press_on_a_page_that_is_out_of_date_records_nothing(workspace, ids):
    card = take(workspace, "ana")
    assert review.skip(workspace, card.claim.claim_id) is True
    assert review.skip(workspace, card.claim.claim_id) is False
    assert review.decide(workspace, card.claim.claim_id, "ana", "vague") is Outcome.OVER
    assert standing(workspace) == []


def test_an_answer_that_could_not_be_stored_can_be_given_again(workspace, ids):
    card = take(workspace, "ana")
    with pytest.raises(Exception, match="surrogate"):
        review.decide(workspace, card.claim.claim_id, "ana", "vague", note="\ud83d")
    assert standing(workspace) == []
    assert review.decide(workspace, card.claim.claim_id, "ana", "vague") is Outcome.RECORDED


# ---- one pair, one hand


def test_nobody_is_handed_a_pair_somebody_else_holds(workspace, ids):
    people = [f"person {n}" for n in range(8)]
    cards = [take(workspace, person) for person in people]
    assert [card and card.claim.pair_id for card in cards] == [*ids, None, None]
    assert review.status(workspace, "person 7", "small", ALL).left == 6
    review.skip(workspace, cards[2].claim.claim_id)
    assert take(workspace, "person 7").claim.pair_id == ids[2]


@pytest.mark.parametrize("overlap", [1, 3])
def test_twenty_people_at_once_answer_every_pair_exactly_as_often_as_wanted(workspace, overlap):
    ids = import_rows(workspace, numbered(200))
    settings = settings_in_force(workspace, overlap=overlap)
    doubled = []
    holding, lock = Counter(), threading.Lock()

    def work(person):
        rng = random.Random(person)
        while (card := take(workspace, person, settings=settings)) is not None:
            pair_id = card.claim.pair_id
            with lock:
                holding[pair_id] += 1
                doubled.extend([pair_id] * (holding[pair_id] > overlap))
            pressed = [review.decide(workspace, card.claim.claim_id, person, "vague") for _ in range(rng.choice([1, 1, 2]))]
            assert pressed[0] is Outcome.RECORDED
            assert pressed[1:] in ([], [Outcome.OVER])

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(work, [f"person {n}" for n in range(20)]))
    settled = defaultdict(list)
    for event in workspace.verdicts.events():
        settled[event["pair_id"]].append(event["person"])
    assert doubled == []  # counting answered ones as held: no pair was ever in a hand too many
    assert settled.keys() == set(ids)
    assert [people for people in settled.values() if len(people) != overlap or len(set(people)) != overlap] == []


def test_two_tabs_of_one_person_show_the_same_card(workspace, ids):
    gate = threading.Barrier(8)

    def ask(_):
        gate.wait()
        return take(workspace, "ana").claim

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1
    assert workspace.database.rows("SELECT count(*) FROM claims") == [(1,)]


def test_a_pair_whose_time_is_over_goes_to_another_and_the_late_answer_is_refused(workspace, ids, clock):
    late = take(workspace, "ana")
    clock.forward(minutes=4, seconds=59)
    assert take(workspace, "ben").claim.pair_id == ids[1]
    clock.forward(seconds=1)
    card = take(workspace, "cat")
    assert card.claim.pair_id == ids[0]
    assert review.decide(workspace, late.claim.claim_id, "ana", "toxic") is Outcome.OVER
    assert review.decide(workspace, card.claim.claim_id, "cat", "vague") is Outcome.RECORDED
    assert standing(workspace) == [(ids[0], "cat", "vague")]
    assert take(workspace, "ana").claim.pair_id == ids[2]
    assert workspace.database.rows("SELECT claim_id, how FROM claim_ends") == [(late.claim.claim_id, "expired")]


def test_a_late_answer_counts_where_nobody_was_given_the_pair_meanwhile(workspace, ids, clock):
    card = take(workspace, "ana")
    clock.forward(hours=9)
    assert review.decide(workspace, card.claim.claim_id, "ana", "vague") is Outcome.RECORDED
    assert standing(workspace) == [(ids[0], "ana", "vague")]


def test_a_late_answer_counts_where_there_is_room_for_one_more_person(workspace, ids, clock):
    settings_in_force(workspace, overlap=3)
    late = take(workspace, "ana")
    clock.forward(hours=1)
    others = [take(workspace, "ben"), take(workspace, "cat")]
    assert {card.claim.pair_id for card in others} == {ids[0]}
    assert take(workspace, "ana").claim.claim_id == late.claim.claim_id
    assert review.decide(workspace, late.claim.claim_id, "ana", "vague") is Outcome.RECORDED
    assert take(workspace, "dan").claim.pair_id == ids[1]


def test_the_fourth_person_takes_the_place_of_the_latest_of_three(workspace, ids, clock):
    settings_in_force(workspace, overlap=3)
    late = take(workspace, "ana")
    clock.forward(hours=1)
    others = [take(workspace, person) for person in ("ben", "cat", "dan")]
    assert {card.claim.pair_id for card in others} == {ids[0]}
    assert review.decide(workspace, late.claim.claim_id, "ana", "vague") is Outcome.OVER
    assert [review.decide(workspace, card.claim.claim_id, card.claim.person, "vague") for card in others] == [
        Outcome.RECORDED
    ] * 3


def test_who_comes_back_gets_the_same_claim_with_new_time(workspace, ids, clock):
    card = take(workspace, "ana")
    clock.forward(minutes=4)
    assert take(workspace, "ana").claim == card.claim
    clock.forward(hours=1)
    back = take(workspace, "ana")
    assert (back.claim.claim_id, back.claim.pair_id) == (card.claim.claim_id, ids[0])
    clock.forward(minutes=4)
    assert take(workspace, "ben").claim.pair_id == ids[1]


def test_a_claim_lasts_three_times_the_median_answer_and_at_least_the_least(workspace, ids, clock):
    settings_in_force(workspace, least_claim_minutes=10)
    card = take(workspace, "ana")
    assert (card.claim.expires_at - card.claim.claimed_at).total_seconds() == 600
    for seconds in (60, 900, 300):
        card = take(workspace, "ana")
        clock.forward(seconds=seconds)
        review.decide(workspace, card.claim.claim_id, "ana", "vague")
    card = take(workspace, "ana")
    assert (card.claim.expires_at - card.claim.claimed_at).total_seconds() == 3 * 300
    assert review.status(workspace, "ana", "small", ALL).pace == 300


# ---- nothing is lost


def test_claims_answers_skips_and_drafts_are_there_after_a_restart(workspace, ids, clock):
    answer(workspace, "ana", "toxic")
    review.skip(workspace, take(workspace, "ana").claim.claim_id)
    held = take(workspace, "ana")
    review.save_draft(workspace, held.claim.claim_id, "not su", ())
    review.save_draft(workspace, held.claim.claim_id, "not sure", ("refusal",))
    before = review.status(workspace, "ana", "small", ALL)
    again = reopened(workspace, clock)
    try:
        card = take(again, "ana")
        assert card == held._replace(draft=("not sure", ["refusal"]))
        assert review.status(again, "ana", "small", ALL) == before == (1, 5, 1, 0.0)
        assert standing(again) == [(ids[0], "ana", "toxic")]
        assert take(again, "ben").claim.pair_id == ids[1]
        assert take(again, "cat").claim.pair_id == ids[3]
        assert review.decide(again, held.claim.claim_id, "ana", "vague") is Outcome.RECORDED
        assert answer(again, "ana") == ids[4]
    finally:
        again.close()


def test_a_restart_does_not_put_a_pair_back_into_the_late_hand(workspace, ids, clock):
    late = take(workspace, "ana")
    clock.forward(hours=1)
    held = take(workspace, "ben")
    again = reopened(workspace, clock)
    try:
        assert review.decide(again, late.claim.claim_id, "ana", "vague") is Outcome.OVER
        assert take(again, "ana").claim.pair_id == ids[1]
        assert take(again, "ben").claim == held.claim
    finally:
        again.close()


def test_skipped_pairs_come_again_only_when_asked_for(workspace, ids):
    skipped = take(workspace, "ana")
    review.skip(workspace, skipped.claim.claim_id)
    assert [answer(workspace, "ana") for _ in range(6)] == [*ids[1:], None]
    assert review.status(workspace, "ana", "small", ALL)[:3] == (5, 1, 1)
    card = take(workspace, "ana", again=True)
    assert card.claim.pair_id == ids[0]
    review.decide(workspace, card.claim.claim_id, "ana", "vague")
    assert review.status(workspace, "ana", "small", ALL)[:3] == (6, 0, 0)
    assert take(workspace, "ana", again=True) is None


def test_a_pair_one_person_skipped_goes_to_the_next(workspace, ids):
    review.skip(workspace, take(workspace, "ana").claim.claim_id)
    assert take(workspace, "ben").claim.pair_id == ids[0]


# ---- undo and second thoughts


def test_undo_brings_back_the_pair_and_the_earlier_verdict(workspace, ids, clock):
    first = answer(workspace, "ana", "toxic")
    clock.forward(seconds=1)
    card = review.reopen(workspace, "ana", "small", first)
    review.decide(workspace, card.claim.claim_id, "ana", "vague")
    assert standing(workspace) == [(first, "ana", "vague")]
    back = review.undo(workspace, "ana", "small")
    assert back.claim.pair_id == first
    assert standing(workspace) == [(first, "ana", "toxic")]
    back = review.undo(workspace, "ana", "small")
    assert (back.claim.pair_id, standing(workspace)) == (first, [])
    assert review.undo(workspace, "ana", "small") is None
    assert [(one["verdict"], one["undone_at"] is not None) for one in workspace.verdicts.events()] == [
        ("toxic", True),
        ("vague", True),
    ]


def test_undo_steps_back_through_the_decisions_and_lets_go_of_what_was_held(workspace, ids, clock):
    for _ in range(3):
        answer(workspace, "ana")
        clock.forward(seconds=1)
    assert take(workspace, "ana").claim.pair_id == ids[3]
    assert review.undo(workspace, "ana", "small").claim.pair_id == ids[2]
    assert review.undo(workspace, "ana", "small").claim.pair_id == ids[1]
    assert review.status(workspace, "ana", "small", ALL)[:2] == (1, 5)
    assert [take(workspace, person).claim.pair_id for person in ("ana", "ben", "cat")] == [ids[1], ids[2], ids[3]]
    assert answer(workspace, "ana") == ids[1]


def test_undo_takes_back_only_ones_own(workspace, ids):
    settings_in_force(workspace, overlap=2)
    answer(workspace, "ana", "toxic")
    answer(workspace, "ben", "vague")
    review.undo(workspace, "ana", "small")
    assert standing(workspace) == [(ids[0], "ben", "vague")]
    assert review.undo(workspace, "cat", "small") is None


def test_an_undone_pair_of_a_full_queue_can_be_answered_by_another(workspace, ids):
    first = answer(workspace, "ana")
    assert answer(workspace, "ben") == ids[1]  # ben is past the first pair
    card = review.undo(workspace, "ana", "small")
    review.skip(workspace, card.claim.claim_id)
    assert [answer(workspace, "ben") for _ in range(5)] == [first, *ids[2:]]
    assert [(one.person, one.verdict) for one in workspace.verdicts.of_pair(first)] == [("ben", "vague")]


def test_a_decision_that_is_changed_leaves_both_events_and_the_latest_stands(workspace, ids, clock):
    first = answer(workspace, "ana", "toxic")
    clock.forward(seconds=1)
    held = take(workspace, "ana")
    card = review.reopen(workspace, "ana", "small", first)
    assert review.decide(workspace, held.claim.claim_id, "ana", "vague") is Outcome.OVER
    assert standing(workspace) == [(first, "ana", "toxic")]
    assert review.decide(workspace, card.claim.claim_id, "ana", "empty") is Outcome.RECORDED
    assert standing(workspace) == [(first, "ana", "empty")]
    assert [one["verdict"] for one in workspace.verdicts.events()] == ["toxic", "empty"]
    assert review.status(workspace, "ana", "small", ALL)[:2] == (1, 5)
    assert [one.verdict for one in workspace.verdicts.history("ana", "small")] == ["empty"]
    assert take(workspace, "ana").claim.pair_id == ids[1]


def test_a_pair_somebody_looks_at_again_is_not_kept_from_the_others(workspace, ids):
    settings_in_force(workspace, overlap=2)
    review.reopen(workspace, "ana", "small", answer(workspace, "ana"))
    assert take(workspace, "ben").claim.pair_id == ids[0]


def test_a_pair_that_is_not_there_is_not_claimed(workspace, ids):
    with pytest.raises(ValueError, match="no pair 'nothing'"):
        review.reopen(workspace, "ana", "small", "nothing")
    assert take(workspace, "ana").claim.pair_id == ids[0]


# ---- which pairs, in which order


@pytest.mark.parametrize(
    ("flagged", "share", "control"), [(90, 0.1, 10), (50, 0.5, 50), (10, 0.9, 90), (30, 0.0, 0), (1, 0.1, 1), (90, 0.5, 10)]
)
def test_control_pairs_are_mixed_in_in_the_right_number_and_spread(workspace, flagged, share, control):
    ids = import_rows(workspace, numbered(100))
    flag_pairs(workspace, {pair_id: 1 - n / 1000 for n, pair_id in enumerate(ids[:flagged])})
    settings_in_force(workspace, control_share=share)
    handed = [take(workspace, "ana", View())]
    while review.decide(workspace, handed[-1].claim.claim_id, "ana", "vague") and (card := take(workspace, "ana", View())):
        handed.append(card)
    kinds = [card.claim.kind for card in handed]
    assert Counter(kinds) == Counter(flagged=flagged, control=control)
    assert [card.claim.pair_id for card in handed if card.claim.kind == "flagged"] == ids[:flagged]
    assert {card.claim.pair_id for card in handed if card.claim.kind == "control"} <= set(ids[flagged:])
    if control >= 10:  # each fifth of the queue holds its part of them, give or take one at each end
        for fifth in range(5):
            stretch = kinds[fifth * len(kinds) // 5 : (fifth + 1) * len(kinds) // 5]
            assert abs(stretch.count("control") - control / 5) <= 2


def test_the_most_suspicious_come_first_and_a_view_narrows(workspace):
    rows = [{**row, "subset": "even" if n % 2 == 0 else "odd"} for n, row in enumerate(numbered(10))]
    ids = import_rows(workspace, rows)
    settings_in_force(workspace)
    flag_pairs(workspace, {ids[0]: 0.2, ids[1]: 0.9, ids[2]: 0.5}, filter="empty")
    flag_pairs(workspace, {ids[2]: 0.5, ids[3]: 0.5, ids[4]: 0.8}, filter="vague")

    def order(**view):
        queue = []
        while (pair_id := answer(workspace, f"person {view}", view=View(**view))) is not None:
            queue.append(ids.index(pair_id))
        settings_in_force(workspace, overlap=review.settings_of(workspace, "small").overlap + 1)
        return queue

    assert order() == [1, 4, 2, 3, 0]
    assert order(filter="empty") == [1, 2, 0]
    assert order(filter="vague", subset="even") == [4, 2]
    assert order(pool="all") == list(range(10))
    assert order(pool="all", subset="odd") == [1, 3, 5, 7, 9]
    assert sorted(order(order="random")) == [0, 1, 2, 3, 4]
    shuffled = order(pool="all", order="random")
    assert sorted(shuffled) == list(range(10)) != shuffled


def test_a_new_screening_changes_the_queue_and_leaves_the_claims(workspace):
    ids = import_rows(workspace, numbered(4))
    settings_in_force(workspace)
    flag_pairs(workspace, {ids[0]: 0.5, ids[1]: 0.4})
    held = take(workspace, "ana", View())
    assert held.claim.pair_id == ids[0]
    flag_pairs(workspace, {ids[0]: 0.5, ids[3]: 0.9})
    assert take(workspace, "ana", View()).claim == held.claim
    assert take(workspace, "ben", View()).claim.pair_id == ids[3]
    assert review.status(workspace, "ben", "small", View()).left == 2


def test_overlap_is_counted_over_distinct_people(workspace, ids, clock):
    settings_in_force(workspace, overlap=2)
    first = answer(workspace, "ana", "toxic")
    clock.forward(seconds=1)
    card = review.reopen(workspace, "ana", "small", first)
    review.decide(workspace, card.claim.claim_id, "ana", "vague")
    assert take(workspace, "ana").claim.pair_id == ids[1]
    assert answer(workspace, "ben") == first
    assert take(workspace, "cat").claim.pair_id == ids[1]


def test_settings_can_be_changed_while_people_work_and_every_change_is_kept(workspace, ids):
    assert answer(workspace, "ana") == ids[0]
    assert take(workspace, "ben").claim.pair_id == ids[1]
    changed = settings_in_force(workspace, overlap=2, blind=False)
    assert review.settings_of(workspace, "small") == changed
    assert take(workspace, "ben").claim.pair_id == ids[1]
    assert take(workspace, "cat").claim.pair_id == ids[0]
    assert workspace.database.rows("SELECT count(*) FROM review_settings") == [(2,)]
    with pytest.raises(ValueError, match="no dataset 'other'"):
        review.change_settings(workspace, "other", changed, "curator")
    with pytest.raises(ValueError, match="overlap"):
        Settings(overlap=0)


# ---- gold


def test_gold_pairs_are_mixed_in_and_scored_swapped_ones_apart(workspace):
    ids = import_rows(workspace, numbered(300))
    golden = [
        review.make_gold(workspace, "small", pair_id, Verdict.SAME, "curator", swapped=n % 2 == 0)
        for n, pair_id in enumerate(ids[:20])
    ]
    assert golden[1::2] == ids[1:20:2]
    assert golden[::2] == [workspace.pairs.pair(pair_id).swapped().pair_id for pair_id in ids[:20:2]]
    assert workspace.verdicts.gold("small") == {one: "opposite" if n % 2 == 0 else "same" for n, one in enumerate(golden)}
    settings_in_force(workspace, gold_share=0.2)
    handed = []
    for _ in range(120):
        card = take(workspace, "ana", View(order="random", pool="all"))
        handed.append(card.claim)
        swapped = card.claim.pair_id in golden[::2]
        better = "A" if ("Good" in card.a) else "B"
        pressed = {"A": "B", "B": "A"}[better] if swapped else better  # this one misses every swap
        review.decide(workspace, card.claim.claim_id, "ana", pressed)
    gold = [claim.pair_id for claim in handed if claim.kind == "gold"]
    assert len(set(gold)) == len(gold) >= 15
    assert set(gold) <= set(golden)
    (score,) = workspace.verdicts.gold_scores("small")
    swaps = len(set(gold) & set(golden[::2]))
    assert score == {"person": "ana", "seen": len(gold), "right": len(gold) - swaps, "swapped_seen": swaps, "swapped_right": 0}


@pytest.fixture
def golden(workspace):
    """Ten pairs of which two are gold, and every second item handed out is gold."""
    ids = import_rows(workspace, numbered(10))
    settings_in_force(workspace, gold_share=0.5)
    return [review.make_gold(workspace, "small", pair_id, Verdict.SAME, "curator", swapped=True) for pair_id in ids[:2]]


def gold_card(workspace, person):
    """The first gold pair this person is handed."""
    while (card := take(workspace, person)).claim.kind != "gold":
        review.decide(workspace, card.claim.claim_id, person, "vague")
        workspace.clock.forward(seconds=1)
    return card


def test_a_gold_pair_that_is_skipped_is_not_handed_out_at_once_again(workspace, golden):
    card = gold_card(workspace, "ana")
    review.skip(workspace, card.claim.claim_id)
    after = []
    while (following := take(workspace, "ana")) is not None:
        after.append(following.claim.pair_id)
        review.decide(workspace, following.claim.claim_id, "ana", "vague")
        assert len(after) < 20
    assert card.claim.pair_id not in after


def test_a_gold_answer_that_was_undone_and_given_again_still_counts(workspace, golden, clock):
    card = gold_card(workspace, "ana")
    right = "A" if card.claim.chosen_shown == "B" else "B"  # the label is turned round, so the rejected one is better
    review.decide(workspace, card.claim.claim_id, "ana", "vague")
    back = review.undo(workspace, "ana", "small")
    assert back.claim.pair_id == card.claim.pair_id
    clock.forward(seconds=1)
    review.decide(workspace, back.claim.claim_id, "ana", right)
    assert workspace.verdicts.gold_scores("small") == [
        {"person": "ana", "seen": 1, "right": 1, "swapped_seen": 1, "swapped_right": 1}
    ]


def test_a_swapped_gold_pair_does_not_enter_the_dataset(workspace, golden):
    card = gold_card(workspace, "ana")
    review.decide(workspace, card.claim.claim_id, "ana", "A")
    assert card.claim.pair_id not in {one.pair_id for one in workspace.verdicts.standing("small")}
    assert len(workspace.pairs.rows_in_order("small")) == 10


def test_only_an_answer_with_a_side_can_be_swapped(workspace, ids):
    with pytest.raises(ValueError, match="the answer is 'vague': only same or opposite can be swapped"):
        review.make_gold(workspace, "small", ids[0], Verdict.VAGUE, "curator", swapped=True)
    assert workspace.verdicts.gold("small") == {}


def test_gold_is_made_of_what_is_settled_once(workspace, ids):
    settings_in_force(workspace, overlap=2)
    for person in ("ana", "ben"):
        for _ in range(4):
            card = take(workspace, person)
            same = card.claim.chosen_shown
            disagree = person == "ben" and card.claim.pair_id == ids[3]
            review.decide(workspace, card.claim.claim_id, person, "toxic" if card.claim.pair_id == ids[2] or disagree else same)
    review.settle(workspace, "small", ids[3], Verdict.OPPOSITE, "curator", note="", seconds=None)
    assert review.gold_of_settled(workspace, "small", "curator", wanted=10) == 3
    known = workspace.verdicts.gold("small")
    swapped = {workspace.pairs.pair(pair_id).swapped().pair_id: pair_id for pair_id in ids}
    assert {swapped.get(one, one) for one in known} == {ids[0], ids[1], ids[3]}
    assert sum(one in swapped for one in known) == 2
    turned = {"same": "opposite", "opposite": "same"}
    truth = {ids[0]: "same", ids[1]: "same", ids[3]: "opposite"}
    assert known == {one: turned[truth[swapped[one]]] if one in swapped else truth[one] for one in known}
    assert review.gold_of_settled(workspace, "small", "curator", wanted=10) == 0
    assert workspace.verdicts.gold("small") == known


# ---- disagreement


def test_disputed_pairs_come_with_the_lowest_agreement_first_until_they_are_settled(workspace, ids, clock):
    settings_in_force(workspace, overlap=4)
    said = {
        ids[0]: ["vague", "vague", "vague", "vague"],
        ids[1]: ["vague", "vague", "vague", "toxic"],  # 3 of 6 pairs of people agree
        ids[2]: ["vague", "vague", "toxic", "toxic"],  # 2 of 6
        ids[3]: ["vague", "toxic", "empty", "repetitive"],  # none
        ids[4]: ["vague", "toxic"],  # none of 1
        ids[5]: ["vague"],
    }
    for number, person in enumerate(("ana", "ben", "cat", "dan")):
        for pair_id in ids:
            if number < len(said[pair_id]):
                card = take(workspace, person)
                assert card.claim.pair_id == pair_id
                review.decide(workspace, card.claim.claim_id, person, said[pair_id][number])
    disputed = [(ids[3], 4, 0.0), (ids[4], 2, 0.0), (ids[2], 4, pytest.approx(2 / 6)), (ids[1], 4, pytest.approx(3 / 6))]
    assert workspace.verdicts.disputed("small") == disputed
    assert workspace.verdicts.agreement("small") == (1, 5)
    review.settle(workspace, "small", ids[2], Verdict.TOXIC, "curator", note="clearly", seconds=3.0)
    (first,) = workspace.verdicts.settlements("small")
    clock.forward(seconds=1)
    settled_on_top = {"note": "not so clear", "seconds": 4.0, "instead_of": first.adjudication_id}
    assert review.settle(workspace, "small", ids[2], Verdict.VAGUE, "curator", **settled_on_top) is True
    assert review.settle(workspace, "small", ids[2], Verdict.EMPTY, "other", **settled_on_top) is False  # a stale page
    assert review.settle(workspace, "small", ids[2], Verdict.EMPTY, "other") is False
    assert workspace.verdicts.disputed("small") == [disputed[0], disputed[1], disputed[3]]
    assert workspace.verdicts.disputed("small", settled=True) == [disputed[2]]
    (settlement,) = workspace.verdicts.settlements("small")
    assert settlement[1:] == ("small", ids[2], "curator", "vague", "not so clear", 4.0, clock.at)
    assert workspace.database.rows("SELECT count(*) FROM adjudication_events") == [(2,)]


def test_the_reasons_of_the_filters_can_be_shown(workspace, ids):
    flag_pairs(workspace, {ids[0]: 0.5})
    assert review.reasons(workspace, "small", ids[0]) == [
        {"filter": "empty", "side": "chosen", "score": 0.5, "reason": "because", "detail": ""}
    ]


# ---- anything may happen


class Reference:
    """What should be known of a queue after any events, counted the slow way."""

    def __init__(self, ids, overlap):
        self.ids, self.overlap = ids, overlap
        self.given = defaultdict(list)  # person -> (pair, verdict) in order, undone ones taken out
        self.skipped = defaultdict(set)

    def standing(self, person):
        return dict(self.given[person])

    def answers(self, pair_id):
        return {person for person in self.given if pair_id in self.standing(person)}

    def status(self, person):
        mine = self.standing(person)
        left = [one for one in self.ids if one not in mine and len(self.answers(one)) < self.overlap]
        return len(mine), len(left), len(self.skipped[person] - mine.keys())


@pytest.mark.parametrize("seed", range(4))
def test_status_and_verdicts_equal_a_recount_after_anything_people_do(workspace, clock, seed):
    rng = random.Random(seed)
    overlap = rng.choice([1, 2, 3])
    ids = import_rows(workspace, numbered(12))
    settings_in_force(workspace, overlap=overlap)
    people = ["ana", "ben", "cat", "dan"]
    known = Reference(ids, overlap)
    opened = workspace
    for _ in range(150):
        person = rng.choice(people)
        clock.forward(seconds=rng.choice([1, 20, 400]))
        deed = rng.choices(["answer", "skip", "again", "undo", "reopen", "look", "restart"], [10, 3, 2, 3, 2, 2, 0.5])[0]
        if deed in ("answer", "skip", "again", "look"):
            card = take(opened, person, again=deed == "again")
            if card is None or deed == "look":
                continue
            pair_id = card.claim.pair_id
            assert person not in known.answers(pair_id) or card.earlier is not None
            if deed == "skip":
                assert review.skip(opened, card.claim.claim_id)
                known.skipped[person].add(pair_id)
            else:
                assert review.decide(opened, card.claim.claim_id, person, "vague") is Outcome.RECORDED
                known.given[person].append((pair_id, "vague"))
        elif deed == "undo":
            card = review.undo(opened, person, "small")
            assert (card is None) == (not known.given[person])
            if card is not None:
                assert card.claim.pair_id == known.given[person].pop()[0]
        elif deed == "reopen" and known.given[person]:
            review.reopen(opened, person, "small", rng.choice(known.given[person])[0])
        elif deed == "restart":
            opened = reopened(opened, clock)
        for one in people:
            assert review.status(opened, one, "small", ALL)[:3] == known.status(one)
        assert sorted(standing(opened)) == sorted((p, one, v) for one in people for p, v in known.standing(one).items())
    opened.close()


def test_a_verdict_stands_for_the_same_pair_in_every_dataset(workspace, ids):
    answer(workspace, "ana", "toxic")
    import_rows(workspace, numbered(3)[::-1], "other")
    assert [(one.pair_id, one.verdict) for one in workspace.verdicts.standing("other")] == [(ids[0], "toxic")]
