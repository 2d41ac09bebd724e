"""Probes: every one of them on real and on written transcripts, what each must keep, and when none applies."""

import gzip
import json
import re
from pathlib import Path

import pytest

from curation.pairs import Pair, Response, parse, prompt_id_of, response_id_of, turn
from curation.probes import FILLERS, INSULTS, PROBES, REFUSAL, Spoilt, others_of, spoil
from tests.conftest import ROOT

PHRASES = ("I hope this helps", "here are some")
ASKED = (turn("user", "Name a river."),)
NAMES = [
    "empty", "twice", "echo", "half", "padded", "elsewhere", "toxic", "refusal", "formatting", "favourite", "roles",
]  # fmt: skip


def pairs_in(lines: list[str]) -> list[Pair]:
    return [Pair.of_texts(row["chosen"], row["rejected"]) for row in map(json.loads, lines)]


@pytest.fixture(scope="module", params=["sample", "hh-rlhf"])
def pairs(request: pytest.FixtureRequest) -> list[Pair]:
    """The sample; and of HH-RLHF every 20th pair, all with an empty side and all with further turns in a response."""
    if request.param == "sample":
        return pairs_in((ROOT / "data" / "sample.jsonl").read_text().splitlines())
    folder: Path = request.getfixturevalue("data") / "hh-rlhf"
    files = sorted(folder.glob("*/test.jsonl.gz"))
    lines = [line for file in files for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
    assert len(lines) == 8552
    return [
        pair
        for place, pair in enumerate(pairs_in(lines))
        if place % 20 == 0 or any(not text.strip() or "\n\nHuman:" in text for _, text in pair.sides())
    ]


@pytest.fixture(scope="module")
def others(pairs: list[Pair]) -> list[tuple[str, str]]:
    return others_of((pair.prompt_id, text) for pair in pairs for _, text in pair.sides())


@pytest.fixture(scope="module")
def spoilt(pairs, others) -> dict[str, list[tuple[Pair, Response, Spoilt | None]]]:
    """What each probe makes of each side of each pair."""
    return {
        name: [
            (pair, side, spoil(name, pair.prompt, side, others=others, phrases=PHRASES))
            for pair in pairs
            for side in (pair.chosen, pair.rejected)
        ]
        for name in PROBES
    }


def made(spoilt, name: str) -> list[tuple[str, str]]:
    """The text before and after, where the probe applied."""
    found = [(side.text, one.response.text) for _, side, one in spoilt[name] if one is not None]
    assert len(found) > 300
    return found


def of(name: str, text: str, **given) -> str | None:
    one = spoil(name, ASKED, Response(text), others=given.pop("others", ()), **given)
    return None if one is None else one.response.text


def joined(before: str, more: str) -> str:
    return before + more if before[-1].isspace() else f"{before} {more}"


def words(text: str) -> list[str]:
    """The words, without what makes a list or bold type of them."""
    return re.sub(r"(?m)^\s*[-*•]\s+|\*\*", "", text).split()


def test_the_probes_are_those_of_the_paper_in_their_order_and_say_what_they_do():
    assert list(PROBES) == NAMES
    assert all(probe.name == name and len(probe.about) > 60 for name, probe in PROBES.items())


@pytest.mark.parametrize("name", NAMES)
def test_every_probe_changes_one_thing_under_a_new_id_or_does_not_apply(spoilt, name):
    applied = 0
    for pair, side, one in spoilt[name]:
        if one is None:
            continue
        applied += 1
        original = response_id_of(pair.prompt_id, side)
        assert one.probe == name
        assert one.response.lead == side.lead
        assert one.response_id != original
        assert one.response_id == response_id_of(one.prompt_id, one.response)
        assert ((one.prompt, one.prompt_id) != (pair.prompt, pair.prompt_id)) == (name == "roles")
        assert (one.response != side) == (name != "roles")
    assert applied > 0.9 * len(spoilt[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_probe_makes_the_same_of_the_same_whatever_came_before(spoilt, others, name):
    for pair, side, one in reversed(spoilt[name][::7]):
        assert spoil(name, list(pair.prompt), Response(*side), others=list(others), phrases=PHRASES) == one


def test_different_responses_are_given_different_draws(spoilt):
    endings = {name: {after[len(before) :].strip() for before, after in made(spoilt, name)} for name in ("toxic", "padded")}
    assert endings["toxic"] == set(INSULTS)
    assert {next(filler for filler in FILLERS if ending.startswith(filler)) for ending in endings["padded"]} == set(FILLERS)


def test_nothing_is_spoilt_that_is_no_answer(spoilt):
    no_answer = [side for _, side, _ in spoilt["roles"] if not side.text.strip() or parse(side.text)[-1].role == "user"]
    assert no_answer
    for name in NAMES:
        assert [one for _, side, one in spoilt[name] if side in no_answer and one is not None] == []
        for response in (
            Response(""), Response(" \n "), Response("Yes.\n\nHuman: And?"), Response("\n\nHuman: And?\n\nAssistant: So.", "")
        ):  # fmt: skip
            assert spoil(name, ASKED, response, others=[("x", "No.")], phrases=PHRASES) is None


def test_empty_leaves_nothing(spoilt):
    assert {after for _, after in made(spoilt, "empty")} == {""}


def test_twice_is_the_text_a_blank_line_and_the_text(spoilt):
    for before, after in made(spoilt, "twice"):
        assert after[: len(before)] == after[len(after) - len(before) :] == before
        assert after[len(before) : -len(before)] == "\n\n"


def test_echo_is_what_the_user_said_last(spoilt):
    for pair, _, one in spoilt["echo"]:
        if one is not None:
            assert one.response.text == pair.prompt[-1].content
            assert pair.prompt[-1].role == "user"
    dialogue = (turn("user", "first"), turn("assistant", "yes"), turn("user", "last"), turn("assistant", "so far"))
    assert spoil("echo", dialogue, Response("and on"), others=()) == Spoilt("echo", dialogue, Response("last"))
    assert of("echo", "Name a river.") is None
    for unasked in ((), (turn("assistant", "hello"),), (turn("user", " "),)):
        assert spoil("echo", unasked, Response("and on"), others=()) is None


def test_half_is_a_beginning_with_half_the_words(spoilt):
    for before, after in made(spoilt, "half"):
        assert before.startswith(after)
        assert before[len(after)].isspace()
        assert len(after.split()) == len(before.split()) // 2 > 0
    assert of("half", "  one\n\ttwo   three four ") == "  one\n\ttwo"
    assert (of("half", "one two three"), of("half", " one ")) == ("one", None)


def test_padded_appends_filler_that_grows_with_the_response(spoilt):
    longest = max(len(filler.split()) for filler in FILLERS)
    for before, after in made(spoilt, "padded"):
        added, had = after[len(before) :], len(before.split())
        assert after.startswith(before)
        assert had <= len(added.split()) < had + longest
        assert re.sub("|".join(map(re.escape, FILLERS)), "", added).strip() == ""
    once_each = sum(len(filler.split()) for filler in FILLERS)
    added = of("padded", "word " * once_each)[5 * once_each :]
    assert all(added.count(filler) == 1 for filler in FILLERS)


def test_elsewhere_is_a_single_answer_to_another_prompt_and_differs(spoilt, others):
    prompts: dict[str, set[str]] = {}
    for prompt_id, text in others:
        prompts.setdefault(text, set()).add(prompt_id)
    drawn = set()
    for pair, side, one in spoilt["elsewhere"]:
        if one is not None:
            text = one.response.text
            assert text != side.text
            assert prompts[text] - {pair.prompt_id}
            assert len(parse(text)) == 1
            drawn.add(text)
    assert len(drawn) > 0.5 * len(others)  # of as many draws as there are others 63% are expected


def test_elsewhere_passes_over_whatever_does_not_fit():
    own = prompt_id_of(ASKED)
    unfit = [(own, "The Rhine."), ("x", "The Danube."), ("x", " "), ("x", "Yes.\n\nHuman: And?\n\nAssistant: So.")]
    assert of("elsewhere", "The Danube.", others=unfit) is None
    assert of("elsewhere", "The Danube.") is None
    for place in range(len(unfit) + 1):
        assert of("elsewhere", "The Danube.", others=[*unfit[:place], ("x", "Two eggs."), *unfit[place:]]) == "Two eggs."
    assert others_of([("b", "Two eggs."), *unfit, ("a", "No."), ("b", "Two eggs.")]) == sorted(
        [("a", "No."), ("b", "Two eggs."), (own, "The Rhine."), ("x", "The Danube.")]
    )


def test_an_insult_or_the_phrases_are_appended_and_nothing_is_lost(spoilt):
    for before, after in made(spoilt, "toxic"):
        assert any(after == joined(before, insult) for insult in INSULTS)
    for before, after in made(spoilt, "favourite"):
        assert after == joined(before, "I hope this helps. here are some.")
    assert of("favourite", "Yes.\n", phrases=["so there"]) == "Yes.\nso there."
    assert of("favourite", "Yes.") is None


def test_the_profanity_model_at_hand_finds_the_insults_toxic():
    from profanity_check import predict_prob

    assert min(predict_prob(list(INSULTS))) > 0.5 > max(predict_prob([*FILLERS, REFUSAL]))


def test_a_refusal_takes_the_place_of_everything_but_itself(spoilt):
    assert {after for _, after in made(spoilt, "refusal")} == {REFUSAL}
    assert of("refusal", REFUSAL) is None


def test_formatting_keeps_the_words_in_order_and_the_turns(spoilt):
    for before, after in made(spoilt, "formatting"):
        assert [words(turn.content) for turn in parse(after)] == [words(turn.content) for turn in parse(before)]
        assert [turn[::2] for turn in parse(after)] == [turn[::2] for turn in parse(before)]  # roles and markers
        assert all(line.startswith("- **") for line in parse(after)[-1].content.splitlines())


def test_formatting_makes_an_item_of_every_sentence():
    text = "Yes. It flows through ten- countries - all told!\n\n1. Germany comes first\n- then: Austria\n  Is there more?  No."
    assert of("formatting", text) == (
        "- **Yes.**\n- **It flows through** ten- countries - all told!\n- **1. Germany comes** first\n"
        "- **then: Austria**\n- **Is there more?**\n- **No.**"
    )
    assert of("formatting", "It is **bold** already.") is None
    turns = "Yes. No.\n\nHuman: Which? Say.\n\nAssistant: No."
    assert of("formatting", turns) == "- **Yes.**\n- **No.**\n\nHuman: Which? Say.\n\nAssistant: - **No.**"


def test_roles_swapped_twice_give_the_prompt_back(spoilt):
    for pair, side, one in spoilt["roles"]:
        if one is not None:
            swapped = {"user": "assistant", "assistant": "user"}
            assert [turn.role for turn in one.prompt] == [swapped[turn.role] for turn in pair.prompt]
            assert parse("".join(turn.lead + turn.content for turn in one.prompt)) == list(one.prompt)
            again = spoil("roles", one.prompt, side, others=())
            assert (again.prompt, again.prompt_id, again.response) == (pair.prompt, pair.prompt_id, side)


def test_roles_leave_the_system_alone_and_keep_unusual_markers():
    system, unusual = turn("system", "The Human asks."), parse("\n\nHuman:Name one Human.")[0]
    one = spoil("roles", (system, unusual), Response("No."), others=())
    assert one.prompt == (system, ("assistant", "Name one Human.", "\n\nAssistant:"))
    assert spoil("roles", (system,), Response("No."), others=()) is None
    assert spoil("roles", (), Response("No.", ""), others=()) is None


def test_a_text_without_a_prompt_can_be_spoilt_too():
    assert spoil("half", (), Response("one two", ""), others=()) == Spoilt("half", (), Response("one", ""))


def test_an_unknown_probe_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="there is no probe 'blank': expected one of empty, twice, echo, half"):
        spoil("blank", ASKED, Response("No."), others=())
