"""Numbers of a study by hand: how far it is, who hurries or errs, what is disputed and how it is settled."""

import pytest

from curation import rating, ratings_import, studies, study_disputes, study_numbers
from curation.rating import Outcome
from curation.stats.figures import Figure
from curation.stats.habits import StraightLine
from curation.stats.shares import Share
from curation.study_design import Aspect, Marks
from curation.study_numbers import Habits
from tests.raters import answer, answer_all, by_text, id_of, item, set_up

TONE = (Aspect(name="tone", points=5),)
KNOWN = {"better": "a", "ratings": [{"generator": "a", "aspect": "tone", "low": 4, "high": 5}]}


def always(key: int):
    return lambda card, question: key


def same_for_all(values: dict[int, tuple[int, int]]):
    """The values of a and b by the item's number."""
    texts = {f"answer {n} of {who}": value for n, given in values.items() for who, value in zip("ab", given, strict=True)}
    return by_text(texts)


def takes(clock, seconds: float):
    return lambda card: clock.forward(seconds=seconds)


# ---- nothing yet


def test_an_empty_study_has_zeros_and_nothing_where_nothing_is_known(workspace):
    set_up(workspace, [])
    none = Figure(None, None, None, 0, "prompts", "there are no comparisons")
    assert study_numbers.totals(workspace, "one") == (0, 0, 0, 0, 0, 0, 0, None, 0)
    assert study_numbers.items(workspace, "one") == []
    assert study_numbers.raters(workspace, "one") == []
    assert study_numbers.pace(workspace, "one") == []
    assert study_disputes.disputed(workspace, "one") == []
    assert study_numbers.all_habits(workspace, "one") == Habits(none, none)


def test_a_study_nobody_answered_wants_its_overlap_of_every_item(workspace):
    set_up(
        workspace,
        [item(n, kind=kind, expected=KNOWN if kind == "gold" else None) for n, kind in enumerate(["item"] * 4 + ["gold"])],
    )
    totals = study_numbers.totals(workspace, "one")
    assert (totals.items, totals.complete, totals.answers, totals.wanted) == (4, 0, 0, 12)
    rows = study_numbers.items(workspace, "one")
    assert [(one.kind, one.raters, one.wanted, one.held, one.agreement, one.seconds, one.settled) for one in rows] == [
        *[("item", 0, 3, 0, None, None, False)] * 4, ("gold", 0, 0, 0, None, None, False),
    ]  # fmt: skip
    assert rows[0].asked == "question 0"


@pytest.mark.parametrize("name", ["totals", "items", "raters"])
def test_a_study_there_is_not_is_refused(workspace, name):
    set_up(workspace, [])
    with pytest.raises(ValueError, match="no study 'two': there is one"):
        getattr(study_numbers, name)(workspace, "two")


# ---- how far it is


def test_answers_are_counted_by_item_and_over_the_study(workspace, clock):
    set_up(workspace, [item(n, subset="s") for n in range(3)], aspects=TONE, overlap=2)
    answer_all(workspace, "one", "ana", same_for_all(dict.fromkeys(range(3), (5, 1))), wait=takes(clock, 10))
    first = answer(workspace, "one", "ben", same_for_all(dict.fromkeys(range(3), (4, 2))), wait=takes(clock, 30))
    held = rating.next_card(workspace, "one", "ben")
    rows = {one.item_id: one for one in study_numbers.items(workspace, "one")}
    done = rows[first.item_id]
    assert (done.raters, done.wanted, done.held, done.subset) == (2, 2, 0, "s")
    assert done.agreement == pytest.approx(1 - 1 / 4)  # each response one point apart, of four
    assert done.seconds == 20
    mine = rows[held.item.item_id]
    assert (mine.raters, mine.wanted, mine.held, mine.agreement, mine.seconds) == (1, 2, 1, None, 10)
    totals = study_numbers.totals(workspace, "one")
    assert (totals.items, totals.complete, totals.answers, totals.wanted, totals.raters) == (3, 1, 4, 6, 2)
    assert (totals.disputed, totals.settled, totals.median_seconds, totals.skips) == (0, 0, 10, 0)
    assert rating.skip(workspace, held.claim.claim_id, "ben", "too hard")
    assert study_numbers.totals(workspace, "one").skips == 1
    by_name = {one.rater: one for one in study_numbers.raters(workspace, "one")}
    assert (by_name["ana"].done, by_name["ana"].left, by_name["ana"].skipped, by_name["ana"].seconds) == (3, 0, 0, 10)
    assert (by_name["ben"].done, by_name["ben"].skipped, by_name["ben"].seconds) == (1, 1, 30)
    assert by_name["ben"].last == clock.at
    assert [one.rater for one in study_numbers.raters(workspace, "one")] == ["ana", "ben"]  # who did most first


def test_an_item_on_which_raters_disagree_wants_one_more(workspace):
    set_up(workspace, [item(0), item(1)], aspects=TONE, overlap=2, raters_at_most=3, extra_below=0.5)
    answer_all(workspace, "one", "ana", same_for_all({0: (5, 1), 1: (5, 1)}))
    answer_all(workspace, "one", "ben", same_for_all({0: (1, 5), 1: (5, 1)}))
    rows = {one.asked: one for one in study_numbers.items(workspace, "one")}
    assert (rows["question 0"].wanted, rows["question 0"].agreement) == (3, 0)
    assert (rows["question 1"].wanted, rows["question 1"].agreement) == (2, 1)
    totals = study_numbers.totals(workspace, "one")
    assert (totals.complete, totals.answers, totals.wanted) == (1, 4, 5)


def test_what_is_taken_back_is_in_no_number(workspace):
    set_up(workspace, [item(0), item(1)], aspects=TONE)
    answer_all(workspace, "one", "ana", always(5))
    assert study_numbers.totals(workspace, "one").answers == 2
    assert rating.undo(workspace, "one", "ana") is not None
    assert study_numbers.totals(workspace, "one").answers == 1
    assert [one.done for one in study_numbers.raters(workspace, "one")] == [1]


def test_pace_counts_answers_given_here_by_day_and_rater(workspace, clock, tmp_path):
    set_up(workspace, [item(n) for n in range(4)], aspects=TONE)
    for person, count in (("ana", 2), ("ben", 1)):
        for _ in range(count):
            answer(workspace, "one", person, always(3), wait=takes(clock, 5))
    clock.forward(days=1)
    answer(workspace, "one", "ana", always(3), wait=takes(clock, 5))
    file = tmp_path / "found.jsonl"
    file.write_text('{"prompt": "question 3", "response": "answer 3 of a", "rater": "zoe", "aspect": "tone", "value": 1}\n')
    assert ratings_import.import_ratings(workspace, "one", file, person="lead").new == 1
    assert study_numbers.pace(workspace, "one") == [
        {"day": "2026-11-02", "rater": "ana", "answers": 2}, {"day": "2026-11-02", "rater": "ben", "answers": 1},
        {"day": "2026-11-03", "rater": "ana", "answers": 1},
    ]  # fmt: skip
    imported = {one.rater: one for one in study_numbers.raters(workspace, "one")}["zoe"]
    assert (imported.done, imported.seconds) == (1, None)


# ---- checks and habits


def test_gold_and_attention_items_are_counted_as_passed_or_failed(workspace):
    rows = [item(n) for n in range(4)]
    rows += [item(10 + n, kind="gold", expected=KNOWN) for n in range(3)] + [
        item(20, kind="attention", expected={"better": "b"})
    ]
    set_up(workspace, rows, protocol="both", aspects=TONE, gold_share=0.5)

    def right(card, question):
        wants = "b" if card.item.kind == "attention" else "a"
        if not question.response:
            return 1 + next(place for place, text in enumerate(card.texts) if text.endswith(wants))
        return 5 if card.texts[question.place].endswith("a") else 1

    def wrong(card, question):
        return {1: 2, 2: 1}[right(card, question)] if not question.response else 1

    answer_all(workspace, "one", "ana", right)
    answer_all(workspace, "one", "ben", wrong)
    by_name = {one.rater: one for one in study_numbers.raters(workspace, "one")}
    gold = by_name["ana"].gold.n
    assert 1 <= gold <= 3
    assert by_name["ana"].gold == Share(gold, gold)
    assert (by_name["ben"].gold.part, by_name["ben"].gold.n) == (0, by_name["ben"].gold.n)
    assert by_name["ben"].gold.n >= 1
    attended = [one for one in by_name.values() if one.attention.n]
    assert attended
    assert all(one.attention.part == (one.attention.n if one.rater == "ana" else 0) for one in attended)


def test_habits_are_those_of_the_comparisons_as_they_stood_on_the_screen(workspace):
    long_ones = 3  # items whose response of a is the longer one; of the others that of b
    rows = [
        item(n, {"a": "yes, because it is so" if n < long_ones else "yes", "b": "no" if n < long_ones else "no, never at all"})
        for n in range(8)
    ]
    set_up(workspace, rows, protocol="compare", aspects=())
    answer_all(workspace, "one", "first", always(1))
    answer_all(workspace, "one", "second", always(2))
    answer_all(workspace, "one", "tie", lambda card, question: 3 if int(card.prompt[0].content.split()[-1]) % 2 else 4)
    by_name = {one.rater: one for one in study_numbers.raters(workspace, "one")}
    assert (by_name["first"].first_side, by_name["second"].first_side) == (Share(8, 8), Share(0, 8))
    assert (by_name["tie"].first_side, by_name["tie"].longer) == (Share(0, 0), Share(0, 0))
    longer = {}
    for one in workspace.answers.standing("one"):
        ((left, right, choice, _),) = one.marks.preferences
        if choice in ("left", "right"):
            texts = workspace.studies.content(one.item_id).texts
            won, lost = (left, right) if choice == "left" else (right, left)
            longer.setdefault(one.person, []).append(len(texts[won]) > len(texts[lost]))
    for name, told in longer.items():
        assert by_name[name].longer == Share(sum(told), 8)
    assert 0 < by_name["first"].longer.part < 8  # the order was drawn
    both = sum(map(sum, longer.values()))
    seen = study_numbers.all_habits(workspace, "one")
    assert (seen.first_side.value, seen.first_side.n, seen.first_side.of) == (0.5, 8, "prompts")  # of 16 comparisons
    assert (seen.longer.value, seen.longer.n) == (both / 16, 8)
    assert by_name["first"].straight == StraightLine(8, Share(8, 8))
    assert by_name["tie"].straight.most_common == Share(4, 8)


def test_one_answer_for_everything_is_a_straight_line_in_order_of_time(workspace, clock):
    set_up(workspace, [item(n) for n in range(4)], aspects=TONE)
    answer_all(workspace, "one", "same", always(3), wait=takes(clock, 1))
    values = iter([1, 2, 2, 2, 5, 2, 2, 1])
    answer_all(workspace, "one", "other", lambda card, question: next(values), wait=takes(clock, 1))
    by_name = {one.rater: one for one in study_numbers.raters(workspace, "one")}
    assert by_name["same"].straight == StraightLine(8, Share(8, 8))
    assert by_name["other"].straight == StraightLine(3, Share(5, 8))


def test_known_answers_are_in_no_habit(workspace):
    set_up(workspace, [item(0), item(9, kind="warm-up", expected={"better": "a"})], protocol="compare", aspects=())
    assert answer_all(workspace, "one", "ana", always(1)) == 2
    (row,) = study_numbers.raters(workspace, "one")
    assert (row.done, row.first_side, row.straight) == (2, Share(1, 1), StraightLine(1, Share(1, 1)))


def test_a_paused_rater_is_shown_with_the_reason_until_let_on(workspace):
    rows = [item(n) for n in range(6)] + [item(10 + n, kind="gold", expected=KNOWN) for n in range(2)]
    set_up(workspace, rows, aspects=TONE, gold_share=0.5, pause_gold=1)
    answer_all(workspace, "one", "ana", always(1))
    (row,) = study_numbers.raters(workspace, "one")
    assert row.paused.startswith("1 of your answers to items with a known answer were not as expected.")
    assert row.gold == Share(0, 1)
    studies.let_on(workspace, "one", "ana", "lead")
    assert [one.paused for one in study_numbers.raters(workspace, "one")] == [""]


def test_the_figure_beside_the_others_is_a_correlation_for_ratings_and_the_same_choice_for_comparisons(workspace):
    values = {n: (1 + n % 5, 5 - n % 5) for n in range(6)}
    set_up(workspace, [item(n) for n in range(6)], "rated", aspects=TONE)
    set_up(workspace, [item(n) for n in range(6)], "compared", protocol="compare", aspects=())
    for person, by in (("ana", values), ("ben", values), ("cy", {n: (b, a) for n, (a, b) in values.items()})):
        answer_all(workspace, "rated", person, same_for_all(by))
        better = {f"question {n}": f"answer {n} of {'b' if person == 'cy' else 'a'}" for n in range(6)}
        answer_all(workspace, "compared", person, by_text({}, better))
    rated = {one.rater: one.same_as_others.value for one in study_numbers.raters(workspace, "rated")}
    assert rated["cy"] == pytest.approx(-1)
    compared = {one.rater: one.same_as_others.value for one in study_numbers.raters(workspace, "compared")}
    assert compared == {"ana": 0.5, "ben": 0.5, "cy": 0}


# ---- disputes


@pytest.fixture
def disputes(workspace):
    """Four items: full agreement, a point apart, opposite, and one with a single rater."""
    set_up(workspace, [item(n) for n in range(4)], aspects=TONE, overlap=2)
    ana = {0: (5, 1), 1: (5, 1), 2: (5, 1), 3: (5, 1)}
    ben = {0: (5, 1), 1: (4, 1), 2: (1, 5)}
    answer_all(workspace, "one", "ana", same_for_all(ana))
    for _ in range(4):
        card = rating.next_card(workspace, "one", "ben")
        if card.prompt[0].content == "question 3":
            assert rating.skip(workspace, card.claim.claim_id, "ben")
        else:
            answer(workspace, "one", "ben", same_for_all(ben))
    return {workspace.studies.content(one).prompt[0].content: one for one in workspace.studies.items("one")}


def test_disputed_items_come_with_the_least_agreed_first(workspace, disputes):
    found = study_disputes.disputed(workspace, "one")
    assert [(one.item_id, one.agreement) for one in found] == [(disputes["question 2"], 0), (disputes["question 1"], 0.875)]
    assert [{answer.person for answer in one.answers} for one in found] == [{"ana", "ben"}] * 2
    assert [one.item_id for one in study_disputes.disputed(workspace, "one", below=0.5)] == [disputes["question 2"]]
    assert study_numbers.totals(workspace, "one").disputed == 1  # under the agreement at which one more rater is asked


def test_a_settlement_stands_until_another_that_knows_of_it(workspace, clock, disputes):
    item_id = disputes["question 2"]
    a, b = id_of("question 2", "answer 2 of a"), id_of("question 2", "answer 2 of b")

    def settle(value: float, person: str, instead_of: str | None) -> bool:
        clock.forward(minutes=1)
        marks = Marks(((a, "tone", value), (b, "tone", 1.0)), ())
        return study_disputes.settle(
            workspace, "one", item_id, marks, person, note=f"by {person}", seconds=3.5, instead_of=instead_of
        )

    assert settle(5, "lead", None) is True
    first = workspace.studies.settlements("one")[item_id]
    assert (first.person, first.note, first.seconds, first.settled_at) == ("lead", "by lead", 3.5, clock.at)
    assert settle(4, "late", None) is False  # began before the first was there
    assert workspace.studies.settlements("one")[item_id] == first
    assert settle(3, "chief", first.settlement_id) is True
    second = workspace.studies.settlements("one")[item_id]
    assert study_disputes.marks_of_settlement(second) == Marks(((a, "tone", 3.0), (b, "tone", 1.0)), ())
    assert settle(2, "late", first.settlement_id) is False
    assert workspace.studies.settlements("one") == {item_id: second}
    open_ones = study_disputes.disputed(workspace, "one", settled=False)
    assert [one.item_id for one in open_ones] == [disputes["question 1"]]
    (done,) = study_disputes.disputed(workspace, "one", settled=True)
    assert done.settlement == second
    totals = study_numbers.totals(workspace, "one")
    assert (totals.disputed, totals.settled) == (1, 1)
    assert {one.item_id: one.settled for one in study_numbers.items(workspace, "one")}[item_id] is True


def test_settling_changes_no_answer_and_no_count_of_agreement(workspace, disputes):
    before = workspace.answers.standing("one"), [one.agreement for one in study_numbers.items(workspace, "one")]
    marks = Marks(((id_of("question 2", "answer 2 of a"), "tone", 3.0),), ())
    assert study_disputes.settle(workspace, "one", disputes["question 2"], marks, "lead")
    assert (workspace.answers.standing("one"), [one.agreement for one in study_numbers.items(workspace, "one")]) == before


def test_what_can_be_settled_comes_back_from_the_marks_it_made(workspace):
    set_up(workspace, [item(0)], protocol="both", comparison="strength", aspects=TONE)
    answer_all(workspace, "one", "ana", always(2))
    (item_id,) = workspace.studies.items("one")
    design = studies.design_of(workspace, "one")
    fields = study_disputes.fields(workspace, "one", item_id)
    assert [(one.aspect, len(one.words)) for one in fields] == [("tone", 5), ("tone", 5), ("comparison", 7)]
    values = dict(zip(fields, (4.0, 1.0, 6.0), strict=True))
    marks = study_disputes.settled_marks(design, values)
    ((left, right, choice, strength),) = marks.preferences
    assert (left, right, choice, strength) == (fields[2].first, fields[2].second, "right", 2)
    assert study_disputes.settled_values(design, fields, marks) == values
    some = dict(list(values.items())[:1])
    assert study_disputes.settled_values(design, fields, study_disputes.settled_marks(design, some)) == some
    with pytest.raises(ValueError, match="nothing is settled yet"):
        study_disputes.settled_marks(design, {})


def test_gold_items_are_disputed_by_nobody(workspace):
    rows = [item(0), item(9, kind="warm-up", expected=KNOWN)]
    set_up(workspace, rows, aspects=TONE)
    answer_all(workspace, "one", "ana", always(1))
    answer_all(workspace, "one", "ben", always(5))
    asked = [workspace.studies.content(one.item_id).prompt[0].content for one in study_disputes.disputed(workspace, "one")]
    assert asked == ["question 0"]
    card = rating.next_card(workspace, "one", "cy")
    assert card.item.kind == "warm-up"
    assert rating.submit(workspace, card.claim.claim_id, "cy") == Outcome.INCOMPLETE
