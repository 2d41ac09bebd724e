"""Generators' outputs and hand-written items: the public files as they stand, and bad records named."""

import gzip
import json
from pathlib import Path

import pytest

from curation import outputs
from curation.outputs import ItemResponse, ItemRow, Output
from curation.pairs import parse, render, turn

ASKED = (turn("user", "Name a river."),)


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records), encoding="utf-8")
    return path


# ---- public files


@pytest.mark.parametrize("model", ["claude-2", "gemma-2b-it", "gpt4_1106_preview", "vicuna-7b"])
def test_every_output_of_alpaca_eval_is_read_as_it_stands(data, model):
    path = data / "alpaca_eval" / model / "model_outputs.json.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        known = json.load(file)
    found = outputs.read(path)
    assert found.unused == []
    assert [(one.prompt[0].content, one.response, one.generator, one.subset) for one in found.outputs] == [
        (one["instruction"], one["output"], model, one["dataset"]) for one in known
    ]
    assert len(found.outputs) == 805


def test_generators_share_their_prompts(data):
    files = [data / "alpaca_eval" / model / "model_outputs.json.gz" for model in ("claude-2", "vicuna-7b")]
    first, second = ({one.prompt for one in outputs.read(file).outputs} for file in files)
    assert first == second


def test_an_mt_bench_answer_is_the_conversation_after_the_first_question(data):
    folder = data / "mt_bench"
    questions = {one["question_id"]: one for one in map(json.loads, (folder / "question.jsonl").open(encoding="utf-8"))}
    answers = [json.loads(line) for line in (folder / "reference_answer" / "gpt-4.jsonl").open(encoding="utf-8")]
    found = outputs.read(folder / "reference_answer" / "gpt-4.jsonl", questions=folder / "question.jsonl")
    assert (len(found.outputs), found.unused) == (30, [])
    for one, answer in zip(found.outputs, answers, strict=True):
        question = questions[answer["question_id"]]
        assert (one.name, one.generator, one.subset) == (str(answer["question_id"]), "gpt-4", question["category"])
        whole = parse(render(one.prompt) + "\n\nAssistant: " + one.response)
        said = [part for pair in zip(question["turns"], answer["choices"][0]["turns"], strict=True) for part in pair]
        assert [(part.role, part.content) for part in whole] == list(zip(("user", "assistant") * 2, said, strict=True))


# ---- outputs


def test_outputs_without_a_generator_take_the_one_given(tmp_path):
    path = lines(tmp_path / "o.jsonl", {"instruction": "Name a river.", "output": ""})
    assert outputs.read(path, generator="mine").outputs == [Output(ASKED, "", "mine", "", "")]
    assert [one.reason for one in outputs.read(path).unused] == ["no generator: expected the name of who answered"]


def test_bad_outputs_are_named_and_lose_no_other(tmp_path):
    good = {"instruction": "Name a river.", "output": "Rhine <b>\r\n\x00", "generator": "m-1"}
    path = lines(
        tmp_path / "o.json", good, {**good, "output": None}, {**good, "instruction": ""}, {**good, "input": "more"}, "{broken",
        '{"instruction": "x", "output": "\\ud800", "generator": "m"}', good,
    )  # fmt: skip
    found = outputs.read(path)
    assert found.outputs == [Output(ASKED, "Rhine <b>\r\n\x00", "m-1", "", "")] * 2
    assert [(one.line, one.reason.split(":")[0]) for one in found.unused] == [
        (2, "the output is None"), (3, "the instruction is empty"), (4, "there is an input beside the instruction"),
        (5, "not JSON"), (6, "the text holds half a character, or a byte that is not UTF-8 (\\ud800)"),
    ]  # fmt: skip


def test_mt_bench_answers_need_their_questions(tmp_path):
    answer = {
        "question_id": 1,
        "model_id": "m-1",
        "choices": [{"index": 0, "turns": ["Rhine", "R."]}, {"index": 1, "turns": []}],
    }
    bad = [{**answer, "question_id": 9}, {**answer, "choices": []}, {**answer, "choices": [{"turns": ["Rhine"]}]}]
    path = lines(tmp_path / "answers.jsonl", answer, *bad)
    questions = lines(tmp_path / "question.jsonl", {"question_id": 1, "category": "c", "turns": ["Name a river.", "Shorter?"]})
    with pytest.raises(ValueError, match="expected the file of questions too"):
        outputs.read(path)
    found = outputs.read(path, questions=questions)
    assert found.outputs == [Output(ASKED, "Rhine\n\nHuman: Shorter?\n\nAssistant: R.", "m-1", "c", "1")]
    assert [(one.line, one.reason) for one in found.unused] == [
        (1, "1 of 2 choices of question '1' are left: only the first is judged"),
        (2, "question '9' is not in the file of questions"),
        (3, "choices is []: expected a list of answers with turns"),
        (4, "question '1' has 2 turns and the answer 1: expected as many"),
    ]
    with pytest.raises(ValueError, match=r"record 2: question '1' is there already"):
        outputs.read(path, questions=lines(tmp_path / "twice.jsonl", *[{"question_id": 1, "turns": ["a"]}] * 2))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"question": 1}', "has 'question': expected instruction and output"),
        ("[]", "holds no record"),
        ("{", "cannot be read"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, text, words):
    (tmp_path / "o.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        outputs.read(tmp_path / "o.json")


# ---- items


SIDES = [{"generator": "m-1", "text": "Rhine"}, {"generator": "m-2", "text": ""}]
RATED = {"generator": "m-1", "aspect": "a", "low": 1, "high": 2}
ITEM = {"prompt": "Name a river.", "responses": SIDES}


def test_items_are_read_with_kinds_known_answers_and_explanations(tmp_path):
    rating = {"generator": "m-1", "aspect": "helpfulness", "low": 3, "high": 5}
    gold = {
        **ITEM, "item": "g1", "kind": "gold", "subset": "easy", "explanation": "One is a river.",
        "expected": {"better": "m-1", "ratings": [rating]},
    }  # fmt: skip
    said = [("user", "Hi."), ("assistant", "Hi!"), ("user", "A river?")]
    talk = [{"role": role, "content": content} for role, content in said]
    found = outputs.read_items(lines(tmp_path / "items.jsonl", ITEM, gold, {**ITEM, "prompt": talk}))
    responses = (ItemResponse("m-1", "Rhine"), ItemResponse("m-2", ""))
    known = {"better": "m-1", "ratings": [rating]}
    assert found.unused == []
    assert found.rows == [
        ItemRow(1, "", ASKED, responses, "", "item", None, ""),
        ItemRow(2, "g1", ASKED, responses, "easy", "gold", known, "One is a river."),
        ItemRow(3, "", tuple(turn(*one) for one in said), responses, "", "item", None, ""),
    ]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"prompt": ""}, "no prompt"),
        ({"prompt": [{"role": "user"}]}, "expected a role and a text content"),
        ({"responses": []}, "responses is []"),
        ({"responses": [{"generator": "m-1"}]}, "expected an object with generator and text"),
        ({"responses": [SIDES[0], SIDES[0]]}, "the generator 'm-1' cannot be told from another"),
        ({"responses": [{"generator": "tie", "text": "x"}]}, "the generator 'tie' cannot be told"),
        ({"kind": "golden"}, "the kind is 'golden'"),
        ({"kind": "gold"}, "a gold item without an expected answer"),
        ({"expected": {"better": "tie"}}, "the kind is item"),
        ({"kind": "gold", "expected": {"better": "m-3"}}, "expected one of m-1, m-2, tie, both bad"),
        ({"kind": "gold", "expected": {"better": "m-1"}, "responses": SIDES[:1]}, "with two responses or more"),
        ({"kind": "gold", "expected": {"best": "m-1"}}, "expected an object with better, ratings or both"),
        ({"kind": "gold", "expected": {"ratings": []}}, "the expected ratings are []"),
        ({"kind": "gold", "expected": {"ratings": [{"generator": "m-1"}]}}, "expected generator, aspect, low and high"),
        ({"kind": "gold", "expected": {"ratings": [{**RATED, "generator": "m-9"}]}}, "'m-9'"),
        ({"kind": "gold", "expected": {"ratings": [{**RATED, "low": 3}]}}, "in order"),
        (
            {"kind": "gold", "expected": {"ratings": [{**RATED, "low": True}]}},
            "two numbers",
        ),
        ({"explanation": 3}, "the explanation is 3"),
        ({"expectd": {}}, "unknown 'expectd'"),
        ({"subset": "\ud800"}, "half a character"),
    ],
)
def test_a_bad_item_is_named_and_loses_no_other(tmp_path, changed, words):
    found = outputs.read_items(lines(tmp_path / "items.json", [ITEM, {**ITEM, **changed}, ITEM]))
    assert [one.line for one in found.rows] == [1, 3]
    assert [one.line for one in found.unused] == [2]
    assert words in found.unused[0].reason


def test_an_item_named_twice_is_taken_once(tmp_path):
    found = outputs.read_items(lines(tmp_path / "items.jsonl", {**ITEM, "item": 1}, {**ITEM, "item": "1"}, "{broken"))
    assert [row.item for row in found.rows] == ["1"]
    assert [one.reason.split(":")[0] for one in found.unused] == ["the item '1' is there already", "not JSON"]
