"""Each rule filter on pairs whose answer is known beforehand."""

from collections.abc import Iterable

import pytest

from curation.filters.base import Flag
from curation.filters.registry import FILTERS, configured
from curation.forms import pair_of as pair_of_record
from curation.pairs import Pair, Response, turn

LONG = "Rinse the rice until the water runs clear, then simmer it under a lid for fifteen minutes and let it rest."


def pair_of(chosen: str, rejected: str = LONG, *asked: str, rows: tuple[int, ...] = ()) -> Pair:
    """A pair of responses to these turns, which alternate and begin with the human's."""
    asked = asked or ("How do I cook rice?",)
    prompt = tuple(turn("user" if index % 2 == 0 else "assistant", text) for index, text in enumerate(asked))
    return Pair(prompt, Response(chosen), Response(rejected), rows)


def found(name: str, pairs: Pair | Iterable[Pair], **parameters: object) -> list[Flag]:
    """What is flagged: findings below the threshold are left out."""
    judge = configured(name, parameters)
    return [one for one in judge.flags([pairs] if isinstance(pairs, Pair) else pairs) if one.score >= judge.threshold]


def sides(name: str, pair: Pair, **parameters: object) -> list[str]:
    return [flag.side for flag in found(name, pair, **parameters)]


# every filter


def test_the_filters_come_in_the_order_they_are_shown():
    assert list(FILTERS) == [
        "empty", "transcript", "repetitive", "vague", "indistinct", "duplicate", "toxic", "contested",
    ]  # fmt: skip


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_explains_itself_and_its_parameters(name):
    assert len(FILTERS[name].description()) > 40
    assert all(field.description for field in FILTERS[name].model_fields.values())


@pytest.mark.parametrize("name", FILTERS)
def test_two_good_and_different_answers_are_not_flagged(name):
    assert found(name, pair_of("Use two cups of water for each cup of rice, and do not lift the lid while it cooks.")) == []


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("先炒蛋，再炒番茄，最后放盐。", "番茄炒蛋是一道家常菜。"),
        ("نعم، بالطبع يمكنك ذلك.", "لا أعرف طبخة كهذه."),
        ("👍 oui", "🙃 non"),
    ],
    ids=["Chinese", "Arabic", "emoji"],
)
def test_answers_in_other_scripts_are_not_flagged(name, chosen, rejected):
    assert found(name, pair_of(chosen, rejected)) == []


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "\n" * 1_000_000 + "x Human: y",
        "what " * 200_000,
        ". " * 500_000,
        "- " * 500_000,
        "😀" * 250_000,
    ],
    ids=["letters", "line breaks", "words", "full stops", "list marks", "emoji"],
)
def test_a_response_of_a_megabyte_is_read_in_linear_time(name, text):
    other = text[:-1] + "z"  # quadratic work on these would not end within the hour
    flags = found(name, [pair_of(text, other, "What?", other, text), pair_of("What?", "Huh?", text)])
    assert {flag.filter for flag in flags} <= {name}


@pytest.mark.parametrize("name", FILTERS)
def test_a_pair_without_a_prompt_is_read(name):
    assert found(name, [Pair((), Response("One."), Response("Two."))]) == []


def test_a_pair_with_half_a_character_has_no_name_and_import_refuses_it():
    with pytest.raises(UnicodeEncodeError):
        _ = pair_of("\ud800 yes", "no \udfff way").pair_id
    with pytest.raises(ValueError, match="half a character"):
        pair_of_record({"prompt": "q", "chosen": "\ud800 yes", "rejected": "no"}, {})


# parameters


def test_parameters_may_come_as_text():
    assert configured("repetitive", {"at_least": "0.9"}) == configured("repetitive", {"at_least": 0.9})
    assert configured("empty", {"punctuation_too": "true"}) == configured("empty", {"punctuation_too": True})


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        (
            "vaque",
            {},
            "there is no filter 'vaque'; expected one of empty, transcript, repetitive, vague, indistinct, duplicate, "
            "toxic, contested",
        ),
        ("empty", {"at_least": 1}, "filter 'empty' has no parameter 'at_least'; expected one of threshold, punctuation_too"),
        ("duplicate", {"at_least": 1}, "filter 'duplicate' has no parameter 'at_least'; expected one of threshold"),
        (
            "repetitive",
            {"at_least": "2"},
            "filter 'repetitive': at_least is '2', but it should be less than or equal to 1",
        ),
        (
            "vague",
            {"longest": "many"},
            "filter 'vague': longest is 'many', but it should be a valid integer, unable to parse string as an integer",
        ),
    ],
)
def test_a_wrong_filter_parameter_or_value_is_named_in_one_sentence(name, parameters, message):
    with pytest.raises(ValueError, match="filter") as error:
        configured(name, parameters)
    assert str(error.value) == message


# empty


def test_empty_finds_blank_sides_each_for_itself():
    assert sides("empty", pair_of("", " \n")) == ["chosen", "rejected"]


def test_empty_leaves_wordless_responses_to_vague_unless_told():
    pair = pair_of(" ... ")
    assert sides("empty", pair) == []
    assert sides("vague", pair) == ["chosen"]
    assert sides("empty", pair, punctuation_too=True) == ["chosen"]


@pytest.mark.parametrize("text", ["好", "نعم", "한", "é", "7", "𝒳"])
def test_one_word_character_of_any_script_is_neither_empty_nor_wordless(text):
    assert sides("empty", pair_of(text), punctuation_too=True) == []
    assert sides("vague", pair_of(text)) == []


# transcript


def of_texts(chosen: str, rejected: str) -> Pair:
    return Pair.of_texts(chosen, rejected)


CONTEXT = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: How are you?"


@pytest.mark.parametrize(
    ("chosen", "rejected", "how"),
    [
        (CONTEXT, CONTEXT.replace("Hello", "Hey"), "they differ in turn 2"),
        (CONTEXT, CONTEXT.replace("Hello", "Hey").replace("How", "Who"), "they differ from turn 2 on"),
        (CONTEXT, "\n\nHuman: Hi", "the chosen transcript has 2 more turns"),
        (CONTEXT, CONTEXT + "\n\nAssistant: Well.", "the rejected transcript has 1 more turn"),
    ],
)
def test_transcript_says_how_two_contexts_differ(chosen, rejected, how):
    flags = found("transcript", of_texts(chosen + "\n\nAssistant: Fine.", rejected + "\n\nAssistant: So so."))
    assert [(flag.side, flag.score, flag.reason) for flag in flags] == [("pair", 1.0, f"the two contexts differ: {how}")]


def test_transcript_finds_a_further_human_turn_though_the_contexts_are_the_same():
    flags = found("transcript", of_texts(CONTEXT + "\n\nAssistant: Fine.\n\nHuman: Good", CONTEXT + "\n\nAssistant: Fine."))
    assert [(flag.side, flag.reason) for flag in flags] == [("chosen", "the chosen response goes on with a further Human turn")]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Assistant: Fine.", "repeats its own marker: Assistant: Assistant:"),
        ("Human: Fine.", "begins with the other role's marker, Human:"),
        ("Fine.\nAssistant: And you?", "has a stray Assistant: marker inside it"),
        ("Fine.  Human: Good.", "has a stray Human: marker inside it"),
    ],
)
def test_transcript_finds_a_marker_that_does_not_belong(text, what):
    flags = found("transcript", of_texts(CONTEXT + "\n\nAssistant: " + text, CONTEXT + "\n\nAssistant: Well."))
    assert [(flag.side, flag.reason) for flag in flags] == [("chosen", f"the chosen response {what}")]


def test_transcript_finds_a_doubled_marker_in_the_shared_prompt_once_for_the_pair():
    context = CONTEXT.replace("Human: Hi", "Human: Human: Hi")
    flags = found("transcript", of_texts(context + "\n\nAssistant: Fine.", context + "\n\nAssistant: Well."))
    assert [(flag.side, flag.reason) for flag in flags] == [
        ("pair", "turn 1 of the shared prompt repeats its own marker: Human: Human:")
    ]


@pytest.mark.parametrize("text", ["To Sell is Human: a book.", "Your Personal Assistant: it knows.", "Assistant"])
def test_transcript_leaves_the_word_in_a_sentence_alone(text):
    assert found("transcript", of_texts(CONTEXT + "\n\nAssistant: " + text, CONTEXT + "\n\nAssistant: Well.")) == []


# repetitive


@pytest.mark.parametrize(
    "text",
    [
        "Go to the shop and then " + "to the bank and then " * 6,
        "I cannot help you with that. " * 5,
        "Jobs:\n" + "".join(f"{number}. Work at a grocery store\n" for number in range(1, 5)),
        "very " * 30,
        "我不知道你在说什么。" * 6,
    ],
    ids=["phrase", "sentence", "lines", "word", "Chinese"],
)
def test_repetitive_finds_a_loop(text):
    assert sides("repetitive", pair_of(text)) == ["chosen"]


@pytest.mark.parametrize("opening", ["", "Well, "])
def test_repetitive_finds_an_earlier_answer_said_again(opening):
    flags = found("repetitive", pair_of(opening + LONG, "Try less water.", "How do I cook rice?", LONG, "It was mushy."))
    assert [flag.side for flag in flags] == ["chosen"]
    assert "says the earlier answer in turn 2 once more" in flags[0].reason


def test_repetitive_allows_an_answer_changed_as_asked_but_not_the_same_again():
    asked = ("How do I cook rice?", LONG, "Please put it in capitals at the start: RINSE")
    assert sides("repetitive", pair_of(LONG.replace("Rinse", "RINSE"), "No.", *asked)) == []
    assert sides("repetitive", pair_of(LONG, "No.", *asked)) == ["chosen"]


SONG = """The tide comes in, the tide goes out,
and no one asks it why;
the gulls above the harbour shout
their news across the sky.
Oh, row me home, row me home.

My father mended nets of blue,
my mother sold the fish,
and I, who had no work to do,
sat wishing me a wish.
Oh, row me home, row me home."""
RECIPE = """1. 1 cup of flour
2. 1 cup of sugar
3. 1/2 cup of milk
4. 1/2 cup of butter
5. 1 teaspoon of salt
6. 1 teaspoon of vanilla
Mix the flour and the sugar, add the milk and the butter, and bake for 30 minutes."""
CODE = """for i in range(10):
    for j in range(10):
        if grid[i][j] == 0:
            grid[i][j] = 1
        else:
            grid[i][j] = 0
    print(i)
}
}
}"""
TABLE = "2 x 1 = 2\n2 x 2 = 4\n2 x 3 = 6\n2 x 4 = 8\n2 x 5 = 10\n2 x 6 = 12\n2 x 7 = 14"
LIST = "You could try:\n- a walk in the park\n- a walk by the river\n- a swim in the lake\n- a ride in the hills\n- a nap"


@pytest.mark.parametrize("text", [SONG, RECIPE, CODE, TABLE, LIST], ids=["song", "recipe", "code", "table", "list"])
def test_repetitive_leaves_form_that_repeats_alone(text):
    assert found("repetitive", pair_of(text)) == []


# vague


@pytest.mark.parametrize(
    "text",
    [
        *("What?", "How do you mean?", "I understand.", "I’m not sure what you mean.", "Hmm, I see.", "Sure!", "Okay."),
        *("Sorry, what was that?", "Can you tell me more?", "Why do you ask?", "Okay, tell me more.", "Oh, really?"),
        *("?", "...", ":-(", "!?!", "🤷", "I don’t know."),
        "I'm sorry, I don't quite understand your question. Could you rephrase it, please?",
    ],
)
def test_vague_finds_a_stub_after_a_question(text):
    assert sides("vague", pair_of(text)) == ["chosen"]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("When did it come out?", "1983."),
        ("Is it far?", "Yes."),
        ("Is it far?", "Sure."),
        ("How are you today?", "Great!"),
        ("How was the film?", "Bad."),
        ("Would you like to go there?", "Sure."),
        ("Where is the Louvre?", "Paris"),
        ("Thanks a lot!", "You're welcome!"),
        ("Thanks, bye", "Okay."),
        ("I'll try that tomorrow.", "Great!"),
        ("I'm thinking of moving.", "Can you tell me more about that?"),
        ("asdf", "What do you mean?"),
        ("How do I fix it?", "What do you mean by fix?"),
        ("How do I fix it?", "What? Turn it off first."),
        ("Where does she live?", "I'm sorry, I can't help you with that."),
    ],
)
def test_vague_leaves_a_short_answer_that_fits_alone(asked, text):
    assert sides("vague", pair_of(text, LONG, asked)) == []


def test_vague_flags_two_stubs_once_even_where_one_alone_would_be_excused():
    flags = found("vague", pair_of("What do you mean?", "Sorry, I don't understand.", "asdf"))
    assert [(flag.side, flag.reason) for flag in flags] == [
        ("both", "both responses say nothing in particular: \"Sorry, I don't understand.\" and 'What do you mean?'")
    ]


def test_vague_can_let_not_knowing_pass():
    assert sides("vague", pair_of("I don't know."), not_knowing_too=False) == []


# indistinct


@pytest.mark.parametrize(
    ("chosen", "rejected", "score"),
    [
        ("Yes.", "Yes.", 1.0),
        ("You’re welcome!", "you're  welcome", 0.95),
        ("Try it at 5 GHz, and see.", "try it at 5 ghz and see", 0.95),
    ],
)
def test_indistinct_finds_sides_that_are_the_same_but_for_their_looks(chosen, rejected, score):
    assert [(flag.side, flag.score) for flag in found("indistinct", pair_of(chosen, rejected))] == [("pair", score)]


def test_indistinct_finds_a_word_changed_in_many_and_scores_it_lower():
    (flag,) = found("indistinct", pair_of(LONG, LONG.replace("simmer it", "simmer that")))
    assert flag.side == "pair"
    assert 0.9 < flag.score < 0.95


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("Yes.", "No."),
        ("It is 12.", "It is 13."),
        (LONG, LONG.replace("fifteen", "15")),
        (LONG + " It takes 20 minutes.", LONG + " It takes 25 minutes."),
        (LONG + " You can lift the lid.", LONG + " You can't lift the lid."),
        (LONG + " It is safe.", LONG + " It is not safe."),
        ("2 + 3", "2 - 3"),
        ("...", "?"),
        ("Great 👍", "Great 👎"),
        ("", "  "),
        ("", ""),
    ],
)
def test_indistinct_takes_a_number_a_negation_or_a_sign_for_a_difference(chosen, rejected):
    assert found("indistinct", pair_of(chosen, rejected)) == []


# duplicate


def test_duplicate_says_in_which_rows_a_pair_comes_again():
    flags = found("duplicate", [pair_of("One.", "Two.", rows=(3, 17)), pair_of("One.", "Three.", rows=(4,))])
    assert [(flag.side, flag.reason) for flag in flags] == [("pair", "the same pair comes 2 times in rows 3, 17")]


def test_duplicate_flags_both_members_of_a_contradiction_and_names_the_other():
    pair = pair_of("One.", "Two.", rows=(5,))
    other = Pair(pair.prompt, pair.rejected, pair.chosen, (9,))
    assert [(flag.pair_id, flag.score, flag.reason) for flag in found("duplicate", [pair, other])] == [
        (pair.pair_id, 1.0, "the same responses stand with the label swapped in row 9"),
        (other.pair_id, 1.0, "the same responses stand with the label swapped in row 5"),
    ]


def test_duplicate_counts_the_same_pair_met_twice_and_tells_a_contradiction_first():
    pair = pair_of("One.", "Two.", rows=(0,))
    again = pair_of("One.", "Two.", rows=(2,))
    flags = found("duplicate", [pair, again, Pair(pair.prompt, pair.rejected, pair.chosen, (1,))])
    assert [flag.reason for flag in flags] == [
        "the same responses stand with the label swapped in row 1, and the same pair comes 2 times in rows 0, 2",
        "the same responses stand with the label swapped in rows 0, 2",
    ]


def test_duplicate_does_not_take_identical_sides_for_a_contradiction():
    assert found("duplicate", pair_of("One.", "One.", rows=(0,))) == []
