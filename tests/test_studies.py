"""Studies: the design that freezes with the first answer, what is recorded of it, closing, and an older workspace."""

from contextlib import closing
from datetime import UTC, datetime

import duckdb
import pytest

from curation import rating, studies, study_items
from curation.outputs import ItemResponse, ItemRow
from curation.pairs import Response, response_id_of, turn
from curation.rating import Halt, Outcome
from curation.store.schema import MIGRATIONS
from curation.store.studies import StudyEvent
from curation.store.verdicts import Decision
from curation.study_design import (
    COMPARISON,
    READY,
    Aspect,
    Design,
    Found,
    Marks,
    agreement_on_item,
    changes,
    marks_of,
    questions,
    values_of,
)
from curation.workspace import Workspace

PLAIN = Design(gold_share=0, overlap=2)


def rows(count, *, responses=2, start=0, **more):
    """Items as a file gives them: the prompt and each response say which they are."""
    kind = {"subset": "", "kind": "item", "expected": None, "explanation": "", **more}
    return [
        ItemRow(
            n + 1, f"item {n}", (turn("user", f"question {n}"),),
            tuple(ItemResponse("abcdef"[k], f"answer {n} of {'abcdef'[k]}") for k in range(responses)), **kind,
        )
        for n in range(start, start + count)
    ]  # fmt: skip


def add(workspace, given, study="one"):
    return studies.add_items(workspace, study, study_items.from_rows(study, given), "lead", words="by hand")


@pytest.fixture
def study(workspace):
    """A study of three items with two responses each."""
    studies.create(workspace, "one", PLAIN, "lead")
    add(workspace, rows(3))
    return "one"


def answer(workspace, person, study="one", value=1):
    """Take the next item and answer every question with the same key; returns the item's id."""
    card = rating.next_card(workspace, study, person)
    for number, one in enumerate(card.questions):
        assert rating.press(workspace, card.claim.claim_id, person, number, one.key, value) == Outcome.RECORDED
    assert rating.submit(workspace, card.claim.claim_id, person) == Outcome.RECORDED
    return card.item.item_id


# ---- a design


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"overlap": 0}, "overlap: Input should be greater than or equal to 1, got 0"),
        ({"overlap": "three"}, "overlap: Input should be a valid integer, unable to parse string as an integer, got 'three'"),
        ({"protocol": "rank"}, "protocol: Input should be 'rate', 'compare' or 'both', got 'rank'"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted, got 'red'"),
        ({"gold_share": 0.6}, "gold_share: Input should be less than or equal to 0.5, got 0.6"),
        ({"aspects": []}, "a study that rates has no aspect: expected 1 to 6"),
        ({"aspects": [{"name": "tone"}, {"name": "tone"}]}, "the aspects are tone, tone: expected each name once"),
        ({"aspects": [{"name": "tone", "points": 9}]}, "aspects.0.points: Input should be less than or equal to 7, got 9"),
        ({"aspects": [{"name": ""}]}, "aspects.0.name: String should have at least 1 character, got ''"),
        ({"overlap": 3, "raters_at_most": 2}, "2 raters at most for an item, but an overlap of 3: expected as many or more"),
    ],
)
def test_a_design_that_makes_no_sense_is_refused_with_one_sentence(values, sentence):
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the whole of it is looked at below
        studies.design_from(values)
    assert str(refused.value) == sentence
    assert not isinstance(refused.value, studies.ValidationError)


def test_anchors_that_do_not_fit_the_scale_are_refused_with_one_sentence():
    given = {"aspects": [{"name": "tone", "points": 5, "anchors": ["rude", "so", "kind"]}]}
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the whole of it is looked at below
        studies.design_from(given)
    told = str(refused.value)
    assert told.startswith("aspects.0: aspect 'tone' has 3 anchors: expected 2 (lowest, highest) or one for each of 5 points")
    assert "\n" not in told


def test_a_value_is_called_by_its_anchor_where_there_is_one():
    two, all_three = Aspect(name="tone", points=3, anchors=("rude", "kind")), ("rude", "plain", "kind")
    assert [two.words(value) for value in (1, 2, 3)] == ["rude", "", "kind"]
    assert [two.model_copy(update={"anchors": all_three}).words(value) for value in (1, 2, 3)] == [*all_three]
    assert [Aspect(name="tone", points=3).words(value) for value in (1, 2, 3)] == ["", "", ""]


@pytest.mark.parametrize(
    ("protocol", "shown", "keys"),
    [
        ("rate", "ab", ["a/overall", "a/tone", "b/overall", "b/tone"]),
        ("compare", "ab", ["comparison"]),
        ("both", "ba", ["b/overall", "b/tone", "a/overall", "a/tone", "comparison"]),
        ("both", "abc", ["a/overall", "a/tone", "b/overall", "b/tone", "c/overall", "c/tone"]),
        ("rate", "a", ["a/overall", "a/tone"]),
    ],
)
def test_what_is_asked_comes_in_the_order_of_the_card(protocol, shown, keys):
    design = Design(protocol=protocol, aspects=studies.aspects_named(["overall", "tone"]))
    assert [one.key for one in questions(design, shown)] == keys
    assert [len(one.values) for one in questions(design, shown) if one.aspect == "overall"] == [7] * (len(keys) // 2)


def test_aspects_by_name_are_the_ready_ones_and_plain_ones_on_the_scale_asked_for():
    assert studies.aspects_named(["honesty"]) == (READY["honesty"],)
    helpfulness, tone = studies.aspects_named(["helpfulness", "tone"], points=3)
    assert helpfulness == READY["helpfulness"].model_copy(update={"points": 3})
    assert tone == Aspect(name="tone", question="How would you rate its tone?", points=3)
    with pytest.raises(ValueError, match="less than or equal to 7"):
        studies.aspects_named(["tone"], points=8)


def test_aspects_written_as_rows_of_a_table_come_back_as_they_were():
    aspects = studies.aspects_named(["helpfulness", "tone"], points=4)
    rows_of_it = [*studies.aspect_rows(aspects), {"name": " ", "question": None, "points": None, "words": None}]
    assert Design(aspects=studies.aspects_of_rows(rows_of_it)).aspects == aspects


# ---- marks


@pytest.mark.parametrize("comparison", ["choice", "strength"])
def test_the_keys_of_a_card_are_found_again_from_its_marks_in_either_order(comparison):
    design = Design(protocol="both", comparison=comparison, aspects=studies.aspects_named(["tone", "overall"]))
    turned = {1: 2, 2: 1, 3: 3, 4: 4} if comparison == "choice" else {key: 8 - key for key in range(1, 8)}
    for key, other in turned.items():
        values = {"a/tone": 5, "a/overall": 7, "b/tone": 2, "b/overall": 1, COMPARISON: key}
        marks = marks_of(design, "ab", values)
        assert values_of(design, "ab", marks) == values
        assert values_of(design, "ba", marks) == {**values, COMPARISON: other}


def test_marks_say_which_response_was_left_and_how_strongly_it_was_preferred():
    choice, strength = (Design(protocol="compare", comparison=one) for one in ("choice", "strength"))
    said = [marks_of(choice, "ba", {COMPARISON: key}).preferences for key in range(1, 5)]
    assert said == [(("b", "a", name, None),) for name in ("left", "right", "tie", "both bad")]
    said = [marks_of(strength, "ba", {COMPARISON: key}).preferences for key in range(1, 8)]
    names = ["left", "left", "left", "tie", "right", "right", "right"]
    assert said == [(("b", "a", name, number),) for name, number in zip(names, range(-3, 4), strict=True)]


def test_marks_of_a_card_that_is_not_filled_name_what_is_missing():
    design = Design(protocol="both", aspects=studies.aspects_named(["tone", "overall"]))
    with pytest.raises(ValueError, match=r"^not answered yet: overall of A, tone of B, comparison$"):
        marks_of(design, "ab", {"a/tone": 1, "b/overall": 2})
    with pytest.raises(ValueError, match=r"^not answered yet: overall$"):
        marks_of(design, "a", {"a/tone": 1})


def test_agreement_on_an_item_is_the_mean_over_pairs_of_raters_and_what_both_answered():
    design = Design(protocol="both", comparison="strength", aspects=(Aspect(name="tone", points=5),))

    def marks(tone, *preference):
        return Marks((("a", "tone", tone),), (preference,) if preference else ())

    alone = {"ana": marks(1.0)}
    assert agreement_on_item(design, alone) is None
    assert agreement_on_item(design, {**alone, "ben": Marks((("b", "tone", 1.0),))}) is None
    assert agreement_on_item(design, {**alone, "ben": marks(4.0)}) == 1 - 3 / 4
    assert agreement_on_item(design, {**alone, "ben": marks(4.0), "cat": marks(1.0)}) == (0.25 + 1 + 0.25) / 3
    # the same said of the sides exchanged is full agreement; strengths of 3 and 1 are 2 sixths apart
    left, right = marks(1.0, "a", "b", "left", -3), marks(1.0, "b", "a", "right", 3)
    assert agreement_on_item(design, {"ana": left, "ben": right}) == 1
    assert agreement_on_item(design, {"ana": left, "ben": marks(1.0, "b", "a", "right", 1)}) == pytest.approx((1 + 4 / 6) / 2)
    assert agreement_on_item(design, {"ana": marks(1.0, "a", "b", "tie", None), "ben": left}) == (1 + 0) / 2
    imported = Design(aspects=(), found=(Found(name="score", low=0, high=100),))
    scores = {person: Marks((("a", "score", value),)) for person, value in (("ana", 90.0), ("ben", 40.0))}
    assert agreement_on_item(imported, scores) == 0.5


# ---- names


def test_a_study_is_named_once_and_its_design_comes_back_whole(workspace):
    design = Design(
        guidelines="# Be *fair* <b>", protocol="both", aspects=studies.aspects_named(["honesty", "Ton & Höflichkeit"]),
        comparison="strength", reasons=("wrong facts", "ümlaut"), notes=False, at_once=True, overlap=4, raters_at_most=6,
        extra_below=0.25, pause_seconds=1.5, pause_gold=2, least_claim_minutes=0.5,
    )  # fmt: skip
    studies.create(workspace, "  Who is better? ", design, "lead")
    assert studies.design_of(workspace, "Who is better?") == design
    with pytest.raises(ValueError, match=r"^there is a study 'Who is better\?' already: give this one another name$"):
        studies.create(workspace, "Who is better?", PLAIN, "lead")
    with pytest.raises(ValueError, match=r"^no study 'other': there is Who is better\?$"):
        studies.design_of(workspace, "other")
    assert [one.study for one in studies.all_studies(workspace)] == ["Who is better?"]


@pytest.mark.parametrize("name", ["", "   ", "a/b", "x" * 81, "line\nbreak", "bell\x07"])
def test_a_name_that_cannot_be_used_is_refused(workspace, name):
    with pytest.raises(ValueError, match=r"cannot be used: expected up to 80 characters without '/'$"):
        studies.create(workspace, name, PLAIN, "lead")
    assert studies.all_studies(workspace) == []


def test_whoever_asks_for_a_study_there_is_not_is_told_what_there_is(workspace):
    for ask in (studies.design_of, studies.frozen):
        with pytest.raises(ValueError, match=r"^no study 'x': there is none yet, create one first$"):
            ask(workspace, "x")
    for act in (studies.close, studies.reopen):
        with pytest.raises(ValueError, match=r"^no study 'x'"):
            act(workspace, "x", "lead")
    with pytest.raises(ValueError, match=r"^no study 'x'"):
        add(workspace, rows(1), study="x")


# ---- freezing

ANOTHER = {
    "guidelines": "Look twice.", "protocol": "both", "aspects": studies.aspects_named(["honesty"]), "comparison": "strength",
    "question": "Which one?", "reasons": ("refusal",), "notes": False, "at_once": True, "overlap": 1, "raters_at_most": 2,
    "extra_below": 0.2, "gold_share": 0.3, "found": (Found(name="old", low=1, high=5),), "pause_seconds": 3.0, "pause_gold": 4,
    "least_claim_minutes": 9.0,
}  # fmt: skip
MAY_ALWAYS = {"gold_share", "found", "pause_seconds", "pause_gold", "least_claim_minutes"}
WIDER = {"raters_at_most"}  # from 0, which is the overlap of 2, to 2: nobody is asked less


def test_the_list_of_what_may_change_leaves_out_no_field():
    assert ANOTHER.keys() == Design.model_fields.keys()
    assert changes(PLAIN, PLAIN.model_copy(update=ANOTHER)).keys() == Design.model_fields.keys()


@pytest.mark.parametrize("field", [*ANOTHER])
def test_before_the_first_answer_everything_may_change_and_afterwards_only_what_asks_the_same(workspace, study, field):
    other = PLAIN.model_copy(update={field: ANOTHER[field]})
    assert studies.change(workspace, study, other, "lead") == {field: (getattr(PLAIN, field), ANOTHER[field])}
    assert studies.design_of(workspace, study) == other
    studies.change(workspace, study, PLAIN, "lead")
    answer(workspace, "ana")
    if field in MAY_ALWAYS | WIDER:
        studies.change(workspace, study, other, "lead")
        assert studies.design_of(workspace, study) == other
        return
    with pytest.raises(ValueError, match=rf"^the study has answers, so {field} from .* to .* cannot change any more: only"):
        studies.change(workspace, study, other, "lead")
    assert studies.design_of(workspace, study) == PLAIN


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ((2, 0), (3, 0), ""),
        ((2, 0), (2, 4), ""),
        ((2, 4), (4, 0), ""),
        ((2, 4), (3, 5), ""),
        ((2, 0), (1, 0), "overlap"),
        ((2, 4), (2, 3), "raters_at_most"),
        ((2, 4), (3, 0), "raters_at_most"),
        ((3, 4), (2, 5), "overlap"),
    ],
)
def test_after_the_first_answer_an_item_may_get_more_raters_and_never_fewer(workspace, before, after, refused):
    first, second = (Design(overlap=overlap, raters_at_most=most) for overlap, most in (before, after))
    studies.create(workspace, "one", first, "lead")
    add(workspace, rows(1))
    answer(workspace, "ana")
    if not refused:
        assert studies.change(workspace, "one", second, "lead") == changes(first, second) != {}
        return
    with pytest.raises(ValueError, match=rf"so {refused} from '\d' to '\d' cannot change any more"):
        studies.change(workspace, "one", second, "lead")
    assert studies.design_of(workspace, "one") == first


def test_an_error_names_every_field_that_is_frozen_and_none_that_is_not(workspace, study):
    answer(workspace, "ana")
    other = PLAIN.model_copy(update={"overlap": 5, "question": "?" * 60, "notes": False, "pause_gold": 1})
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the whole of it is looked at below
        studies.change(workspace, study, other, "lead")
    assert str(refused.value) == (
        "the study has answers, so question from 'Which response is better?' to "
        f"'{'?' * 39}…'; notes from 'True' to 'False' cannot change any more: only what widens it can "
        "(overlap or raters_at_most upward, more items); make a new study for another question"
    )


def test_a_study_whose_only_answer_was_taken_back_stays_frozen_and_one_with_drafts_is_not(workspace, study):
    card = rating.next_card(workspace, study, "ana")
    rating.press(workspace, card.claim.claim_id, "ana", 0, card.questions[0].key, 3)
    assert studies.frozen(workspace, study) is False
    rating.skip(workspace, card.claim.claim_id, "ana", "no idea")
    answer(workspace, "ana")
    rating.undo(workspace, study, "ana")
    assert workspace.answers.standing(study) == []
    assert studies.frozen(workspace, study) is True
    with pytest.raises(ValueError, match="the study has answers, so overlap"):
        studies.change(workspace, study, PLAIN.model_copy(update={"overlap": 1}), "lead")


def test_answers_of_another_study_freeze_nothing_here(workspace, study):
    studies.create(workspace, "two", PLAIN, "lead")
    add(workspace, rows(1), study="two")
    answer(workspace, "ana", study="two")
    assert (studies.frozen(workspace, "one"), studies.frozen(workspace, "two")) == (False, True)


def test_what_was_drafted_under_another_scale_is_not_taken_for_an_answer(workspace, study):
    strength = Design(protocol="compare", comparison="strength", overlap=2)
    studies.change(workspace, study, strength, "lead")
    card = rating.next_card(workspace, study, "ana")
    rating.press(workspace, card.claim.claim_id, "ana", 0, COMPARISON, 4)  # "the same"; of a choice 4 is "both bad"
    rating.write(workspace, card.claim.claim_id, "ana", "a note", ())
    studies.change(workspace, study, strength.model_copy(update={"overlap": 3}), "lead")
    assert rating.next_card(workspace, study, "ana").values == {COMPARISON: 4}  # the same question
    studies.change(workspace, study, strength.model_copy(update={"comparison": "choice"}), "lead")
    again = rating.next_card(workspace, study, "ana")
    assert (again.claim, again.values, again.note) == (card.claim, {}, "a note")
    assert rating.submit(workspace, card.claim.claim_id, "ana") == Outcome.INCOMPLETE
    assert rating.press(workspace, card.claim.claim_id, "ana", again.version, COMPARISON, 3) == Outcome.RECORDED
    assert rating.submit(workspace, card.claim.claim_id, "ana") == Outcome.RECORDED
    assert [one["choice"] for one in workspace.answers.preferences(study)] == ["tie"]


def test_a_design_that_would_ask_nothing_of_an_item_is_refused(workspace):
    compare = Design(protocol="compare")
    studies.create(workspace, "one", PLAIN, "lead")
    add(workspace, [*rows(1), *rows(1, responses=3, start=1)])
    item = rows(2)[1].item
    with pytest.raises(ValueError, match=r"^item '[0-9a-f]{32}' has 3 different responses: expected 2 to compare$"):
        studies.change(workspace, "one", compare, "lead")
    studies.create(workspace, "two", compare, "lead")
    with pytest.raises(ValueError, match=rf"^item '{item}' has 3 different responses: expected 2 to compare$"):
        add(workspace, [*rows(1), *rows(1, responses=3, start=1)], study="two")
    twice = rows(1)[0]._replace(responses=(ItemResponse("a", "alike"), ItemResponse("b", "alike")))
    with pytest.raises(ValueError, match=r"has 1 different responses: expected 2 to compare$"):
        add(workspace, [twice], study="two")
    assert workspace.studies.items("two") == {}


# ---- what is recorded


def test_everything_that_happens_to_a_study_is_recorded_with_who_and_when(workspace, clock):
    studies.create(workspace, "one", PLAIN, "lead")
    clock.forward(minutes=1)
    add(workspace, [*rows(2), *rows(1, start=2, kind="gold", expected={"better": "a"})])
    clock.forward(minutes=1)
    studies.change(workspace, "one", PLAIN.model_copy(update={"overlap": 3, "question": "Which?"}), "deputy")
    clock.forward(minutes=1)
    studies.close(workspace, "one", "lead")
    studies.reopen(workspace, "one", "deputy")
    studies.let_on(workspace, "one", "ana", "lead")
    assert studies.record_of(workspace, "one") == [
        {"when": "2026-11-02 09:00", "who": "lead", "what": "created"},
        {"when": "2026-11-02 09:01", "who": "lead", "what": "items added: 2 item, 1 gold; by hand"},
        {"when": "2026-11-02 09:02", "who": "deputy", "what": "question: Which response is better? → Which?; overlap: 2 → 3"},
        {"when": "2026-11-02 09:03", "who": "lead", "what": "closed"},
        {"when": "2026-11-02 09:03", "who": "deputy", "what": "reopened"},
        {"when": "2026-11-02 09:03", "who": "lead", "what": "let on: ana"},
    ]


def test_a_change_that_changes_nothing_is_not_recorded_and_a_refused_one_neither(workspace, study):
    before = studies.record_of(workspace, study)
    assert studies.change(workspace, study, Design(**PLAIN.model_dump()), "lead") == {}
    answer(workspace, "ana")
    with pytest.raises(ValueError, match="the study has answers"):
        studies.change(workspace, study, PLAIN.model_copy(update={"overlap": 1}), "lead")
    assert studies.record_of(workspace, study) == before


def test_adding_no_items_is_refused_with_where_they_should_have_come_from(workspace, study):
    with pytest.raises(ValueError, match=r"^there is no item to add: by hand$"):
        add(workspace, [])


def test_items_can_be_added_after_the_first_answer(workspace, study):
    answered = [answer(workspace, "ana") for _ in range(3)]
    assert rating.next_card(workspace, study, "ana") == Halt("done")
    assert add(workspace, rows(5)) == 2
    assert len({*answered, answer(workspace, "ana"), answer(workspace, "ana")}) == 5
    assert rating.next_card(workspace, study, "ana") == Halt("done")


def test_a_list_of_studies_counts_items_answers_and_raters(workspace, study, clock):
    studies.create(workspace, "two", PLAIN, "lead")
    add(workspace, [*rows(4), *rows(2, start=4, kind="gold", expected={"better": "a"})], study="two")
    for person in ("ana", "ben", "ana"):
        answer(workspace, person)
    rating.undo(workspace, study, "ben")
    studies.close(workspace, "two", "lead")
    assert studies.all_studies(workspace) == [
        studies.Study("one", PLAIN, 3, 0, 2, 1, False, clock.at), studies.Study("two", PLAIN, 4, 2, 0, 0, True, clock.at),
    ]  # fmt: skip


# ---- closed and open


def test_a_closed_study_hands_out_nothing_takes_nothing_and_loses_nothing(workspace, study):
    kept = answer(workspace, "ana")
    card = rating.next_card(workspace, study, "ana")
    for number, one in enumerate(card.questions):
        rating.press(workspace, card.claim.claim_id, "ana", number, one.key, 2)
    studies.close(workspace, study, "lead")
    assert rating.next_card(workspace, study, "ana") == Halt("closed", "This study is closed. Thank you.")
    assert rating.submit(workspace, card.claim.claim_id, "ana") == Outcome.CLOSED
    assert rating.undo(workspace, study, "ana") is None
    assert [(one.item_id, one.person) for one in workspace.answers.standing()] == [(kept, "ana")]
    studies.reopen(workspace, study, "lead")
    again = rating.next_card(workspace, study, "ana")
    assert (again.claim, list(again.values.values())) == (card.claim, [2, 2])
    assert rating.submit(workspace, card.claim.claim_id, "ana") == Outcome.RECORDED


def test_a_change_made_while_somebody_reads_the_design_is_not_forgotten(workspace, study):
    wider = PLAIN.model_copy(update={"overlap": 5})
    workspace.close()
    with closing(Workspace(workspace.folder, clock=workspace.clock)) as again:  # nothing is in memory yet

        def read(text):
            found = Design.model_validate_json(text)
            if found == PLAIN:  # the one who reads is slow: meanwhile the lead widens the study and closes it
                again.studies.record(StudyEvent(study, "design", "", wider.model_dump_json(), "lead", again.clock()))
                studies.close(again, study, "lead")
            return found

        assert again.studies.design(study, read) == PLAIN
        assert studies.design_of(again, study) == wider
        assert again.studies.closed(study) is True


# ---- an older workspace


def test_a_workspace_of_the_version_before_studies_keeps_everything_and_takes_a_study(tmp_path):
    at = datetime(2026, 11, 1, tzinfo=UTC)
    prompt, chosen, rejected = (turn("user", "Name a river."),), Response("The Danube."), Response("No.")
    with closing(duckdb.connect(str(tmp_path / "workspace.duckdb"))) as old:
        for number, statements in enumerate(MIGRATIONS[:2], start=1):
            old.execute(statements)
            old.execute("INSERT INTO schema_versions VALUES (?, now())", [number])
        pair = study_items.Pair(prompt, chosen, rejected)
        old.execute("INSERT INTO prompts VALUES (?, ?)", [pair.prompt_id, pair.packed_prompt])
        for response_id, one in ((pair.chosen_id, chosen), (pair.rejected_id, rejected)):
            old.execute("INSERT INTO responses VALUES (?, ?, ?, ?)", [response_id, pair.prompt_id, one.text, one.lead])
        old.execute("INSERT INTO pairs VALUES (?, ?, ?, ?)", [pair.pair_id, pair.prompt_id, pair.chosen_id, pair.rejected_id])
        row = ("c1", "d", pair.pair_id, "ana", "same", "open", "A", 1.0, "a note", ["refusal"], at)
        old.execute(f"INSERT INTO verdict_events VALUES ({', '.join('?' * len(row))})", row)
        old.execute("INSERT INTO screenings VALUES ('run', 'd', 'vague', 1, '{}', 3, 2, ?, 0.5, 'model')", [at])
        tables = [name for (name,) in old.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        before = {name: sorted(map(str, old.execute(f"SELECT * FROM {name}").fetchall())) for name in tables}
    with closing(Workspace(tmp_path)) as opened:
        after = {name: sorted(map(str, opened.database.rows(f"SELECT * FROM {name}"))) for name in tables}
        new = [f"({version}, " for version in range(3, len(MIGRATIONS) + 1)]
        added = [row for row in after["schema_versions"] if row not in before["schema_versions"]]
        assert [row[:4] for row in added] == new
        assert {**after, "schema_versions": before["schema_versions"]} == before
        assert opened.pairs.pair(pair.pair_id) == pair
        assert opened.verdicts.standing() == [Decision(*row)]
        assert (opened.studies.all(), opened.answers.standing()) == ([], [])
        studies.create(opened, "one", PLAIN, "lead")
        given = ItemRow(1, "", prompt, (ItemResponse("a", chosen.text), ItemResponse("b", rejected.text)), "", "item", None, "")
        add(opened, [given])
        answer(opened, "ana", value=5)
        assert sorted((one["response_id"], one["value"]) for one in opened.answers.ratings("one")) == sorted(
            [(pair.chosen_id, 5.0), (pair.rejected_id, 5.0)]
        )
        assert response_id_of(pair.prompt_id, chosen) == pair.chosen_id


def test_a_study_is_all_there_when_the_workspace_is_opened_again(workspace, study, clock):
    answer(workspace, "ana", value=4)
    studies.close(workspace, study, "lead")
    before = (
        studies.all_studies(workspace), studies.record_of(workspace, study), workspace.studies.items(study),
        workspace.answers.ratings(study), workspace.studies.generators(study),
    )  # fmt: skip
    workspace.close()
    with closing(Workspace(workspace.folder, clock=clock)) as again:
        assert (
            studies.all_studies(again), studies.record_of(again, study), again.studies.items(study),
            again.answers.ratings(study), again.studies.generators(study),
        ) == before  # fmt: skip
        contents = [again.studies.content(item_id) for item_id in again.studies.items(study)]
        assert sorted(text for one in contents for text in one.texts.values()) == [
            f"answer {n} of {name}" for n in range(3) for name in "ab"
        ]
