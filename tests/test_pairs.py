"""Pairs and transcripts: nothing is lost on the way in and out, and identity is content."""

import gzip
import json
import random

import pytest

from curation.forms import pair_of
from curation.pairs import Pair, Response, Turn, parse, render, turn

HOSTILE = [
    "",
    "plain",
    "\n\nHuman: hi\n\nAssistant: ",
    "\n\nHuman: hi\n\nAssistant:",
    "\n\nHuman:hi\n\nAssistant:ho",
    "\n\nHuman: \n\nHuman: doubled\n\nAssistant: \n\nAssistant: doubled",
    "\n\nHuman: a\n\n\n\nAssistant: ",
    "\n\nHuman: a\n\n\nAssistant: three newlines",
    "\n\nHuman: a\n\nAssistant: b \n\nHuman:\n\nAssistant:",
    "before the first marker\n\nHuman: a\n\nAssistant: b",
    " \n\nHuman: led by a space\n\nAssistant: b",
    "\n\nSystem: be good\n\nHuman: a\n\nAssistant: b",
    "\n\nHuman: a\n\nSystem: not at the start\n\nAssistant: b",
    "\n\nHuman: a Human: stray\nHuman: stray\n\nAssistant stray: b\n\nhuman: c\n\nAssistant: d",
    "\n\nHuman: nul \0 in it\n\nAssistant: \0",
    "\n\nHuman: 🐘\u200d🏠 é e\u0301\n\nAssistant: \u2028\u2029\x85 \ufeff",
    "\r\n\r\nHuman: crlf\r\n\r\nAssistant: x\r\n\n\nHuman: y\n\nAssistant: z\r",
    "\n\nHuman:  two spaces\n\nAssistant:  two",
    "\n\n",
    "\n\nHuman",
    "\n\nHuman:\n\nHuman:\n\nAssistant:",
]
PIECES = [
    "\n\nHuman:",
    "\n\nHuman: ",
    "\n\nAssistant:",
    "\n\nAssistant: ",
    "\n\nSystem: ",
    "\n",
    "\n\n",
    " ",
    "",
    "a",
    "🐘",
    "\0",
    "\r\n",
]


def generated(seed: int, *, count: int) -> list[str]:
    """Texts thrown together from markers and what is easily taken for one."""
    rng = random.Random(seed)
    return ["".join(rng.choices(PIECES, k=rng.randrange(12))) for _ in range(count)]


def hh_rows(data):
    """Chosen and rejected of every row of HH-RLHF's test splits."""
    for file in sorted((data / "hh-rlhf").glob("*/test.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                yield row["chosen"], row["rejected"]


@pytest.fixture(scope="module")
def real(data):
    return list(hh_rows(data))


# ---- round trips


def test_every_transcript_of_the_data_comes_back_byte_for_byte(real):
    texts = [text for row in real for text in row]
    assert len(texts) == 17_104
    assert [text for text in texts if render(parse(text)) != text] == []


def test_every_pair_of_the_data_gives_back_both_transcripts(real):
    assert [row for row in real if Pair.of_texts(*row).transcripts() != row] == []


def test_the_quick_way_and_the_plain_way_make_the_same_pair_of_all_data(real):
    assert [row for row in real if Pair.of_texts(*row) != Pair.of_turns(*map(parse, row))] == []


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_comes_back_byte_for_byte(text):
    assert render(parse(text)) == text


def test_generated_hostile_texts_come_back_and_both_ways_agree():
    texts = HOSTILE + generated(1, count=3000)
    rng = random.Random(2)
    for text in texts:
        assert render(parse(text)) == text
        context = rng.choice(texts)
        for other in (rng.choice(texts), text, text + rng.choice(PIECES)):
            for row in ((text, other), (context + text, context + other)):
                pair = Pair.of_texts(*row)
                assert pair == Pair.of_turns(*map(parse, row))
                assert pair.transcripts() == row


# ---- where the prompt ends


def test_a_transcript_is_parsed_into_its_turns():
    assert parse("\n\nHuman: a\n\nAssistant:b\n\nHuman: ") == [
        Turn("user", "a", "\n\nHuman: "), Turn("assistant", "b", "\n\nAssistant:"), Turn("user", "", "\n\nHuman: "),
    ]  # fmt: skip
    assert parse("before\n\nAssistant: b") == [Turn("", "before", ""), Turn("assistant", "b", "\n\nAssistant: ")]
    assert parse("") == []


def test_the_prompt_is_all_common_turns_not_the_first_question():
    context = "\n\nHuman: one\n\nAssistant: two\n\nHuman: three"
    pair = Pair.of_texts(context + "\n\nAssistant: good", context + "\n\nAssistant: bad")
    assert pair == Pair(
        (turn("user", "one"), turn("assistant", "two"), turn("user", "three")), Response("good"), Response("bad")
    )


def test_where_the_contexts_part_early_the_response_holds_the_further_turns():
    chosen = "\n\nHuman: one\n\nAssistant: two\n\nHuman: three\n\nAssistant: four"
    rejected = "\n\nHuman: one\n\nAssistant: 2\n\nHuman: three\n\nAssistant: 4"
    pair = Pair.of_texts(chosen, rejected)
    assert pair.prompt == (turn("user", "one"),)
    assert (pair.chosen, pair.rejected) == (
        Response("two\n\nHuman: three\n\nAssistant: four"), Response("2\n\nHuman: three\n\nAssistant: 4"),
    )  # fmt: skip


def test_the_prompt_of_every_real_pair_is_the_longest_that_both_sides_share(real):
    for chosen, rejected in real:
        pair = Pair.of_texts(chosen, rejected)
        sides = parse(chosen), parse(rejected)
        size = len(pair.prompt)
        assert tuple(sides[0][:size]) == tuple(sides[1][:size]) == pair.prompt
        assert size == 0 or pair.prompt[-1].role == "user"
        longer = [n for n in range(size + 1, min(map(len, sides)) + 1) if sides[0][:n] == sides[1][:n]]
        assert [n for n in longer if sides[0][n - 1].role == "user"] == []


def test_an_identical_pair_keeps_its_last_answer_as_the_response():
    text = "\n\nHuman: a\n\nAssistant: b"
    assert Pair.of_texts(text, text) == Pair((turn("user", "a"),), Response("b"), Response("b"))


def test_sides_without_anything_in_common_are_two_whole_texts():
    pair = Pair.of_texts("one", "two")
    assert (pair.prompt, pair.chosen, pair.rejected) == ((), Response("one", ""), Response("two", ""))


# ---- identity

SAME_ROW_IN_MANY_FORMS = [
    {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
    {"prompt": "q", "chosen": "good", "rejected": "bad"},
    {"prompt": "\n\nHuman: q", "chosen": "good", "rejected": "bad"},
    {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " good", "rejected": " bad"},
    {"prompt": "\n\nHuman: q\n\nAssistant: ", "chosen": "good", "rejected": "bad"},
    {"prompt": "\n\nHuman: q", "chosen": "\n\nAssistant: good", "rejected": "\n\nAssistant: bad"},
    {"prompt": "q", "chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
    {"prompt": [{"role": "user", "content": "q"}], "chosen": "good", "rejected": "bad"},
    {
        "prompt": [{"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    },
    {
        "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
        "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}],
    },
    {
        "prompt": "q",
        "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
        "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}],
    },
]


@pytest.mark.parametrize("row", SAME_ROW_IN_MANY_FORMS)
def test_the_same_content_has_the_same_ids_in_every_form(row):
    expected = Pair((turn("user", "q"),), Response("good"), Response("bad"))
    pair = pair_of(row, {})
    assert pair == expected
    assert (pair.pair_id, pair.prompt_id, pair.chosen_id, pair.rejected_id) == (
        expected.pair_id, expected.prompt_id, expected.chosen_id, expected.rejected_id,
    )  # fmt: skip


def test_different_content_has_different_ids():
    prompts = [
        (),
        (turn("user", "q"),),
        (turn("user", "q "),),
        (turn("user", "q"), turn("user", "")),
        (Turn("user", "q", "\n\nHuman:"),),
    ]
    texts = ["", " ", "a", "a\n1:b", "A", "é", "e\u0301"]
    pairs = [Pair(p, Response(c), Response(r)) for p in prompts for c in texts for r in texts]
    assert len({pair.pair_id for pair in pairs}) == len(pairs)
    assert len({pair.chosen_id for pair in pairs}) == len(prompts) * len(texts)
    assert len({pair.prompt_id for pair in pairs}) == len(prompts)


def test_ids_name_the_same_content_in_every_version_of_the_program():
    pair = Pair((turn("user", "q"),), Response("good"), Response("bad"))
    assert (pair.prompt_id, pair.pair_id) == ("d21c81fe244da787707da7095d409b6a", "cd4fdcf4b0b7fe99f881c968ca96fc59")


def test_swapped_turns_the_label_round_and_twice_is_the_pair_again():
    pair = Pair.of_texts("\n\nHuman: q\n\nAssistant: good", "\n\nHuman: q\n\nAssistant: bad")
    turned = pair.swapped()
    assert (turned.chosen_id, turned.rejected_id, turned.prompt_id) == (pair.rejected_id, pair.chosen_id, pair.prompt_id)
    assert turned.pair_id != pair.pair_id
    assert turned.swapped() == pair
    assert turned.swapped().pair_id == pair.pair_id


def test_an_unusual_marker_is_part_of_a_response_and_of_its_id():
    usual = Pair.of_texts("\n\nHuman: q\n\nAssistant: good", "\n\nHuman: q\n\nAssistant: bad")
    unusual = Pair.of_texts("\n\nHuman: q\n\nAssistant:good", "\n\nHuman: q\n\nAssistant: bad")
    assert unusual.chosen == Response("good", "\n\nAssistant:")
    assert unusual.chosen_id != usual.chosen_id
    assert (unusual.rejected_id, unusual.prompt_id) == (usual.rejected_id, usual.prompt_id)


def test_ids_of_all_data_tell_all_different_rows_apart(real):
    assert len({Pair.of_texts(*row).pair_id for row in real}) == len(set(real))


def test_the_place_in_a_dataset_is_no_part_of_identity():
    one = Pair((turn("user", "q"),), Response("a"), Response("b"), rows=(3, 7), subset="harmless")
    assert one.pair_id == Pair((turn("user", "q"),), Response("a"), Response("b")).pair_id
