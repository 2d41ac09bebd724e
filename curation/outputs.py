"""What people and models wrote elsewhere: generators' outputs (AlpacaEval, MT-bench) and hand-written items of a study."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from curation import tables
from curation.pairs import Turn, turn
from curation.ratings_rows import Unused, check_text, continued, name_of, prompt_of, shortened
from curation.tables import Record

KINDS = ("item", "gold", "attention", "warm-up")
_NO_NAMES = ("tie", "both bad")  # what an item's known answer may be beside a generator
_KEYS = {"item", "prompt", "responses", "subset", "kind", "expected", "explanation"}


class Output(NamedTuple):
    """What one generator answered. `name` is the file's name for the prompt, "" when it has none."""

    prompt: tuple[Turn, ...]
    response: str
    generator: str
    subset: str
    name: str


class Outputs(NamedTuple):
    """The outputs of a file, and the records that could not be used."""

    outputs: list[Output]
    unused: list[Unused]


class ItemResponse(NamedTuple):
    """A response of an item, and who wrote it."""

    generator: str
    text: str


class ItemRow(NamedTuple):
    """An item of a study as a file gives it.

    `expected` is the known answer: "better" (a generator, tie or both bad) and "ratings" (a list of generator, aspect,
    low, high), either or both; None where there is none.
    """

    line: int
    item: str
    prompt: tuple[Turn, ...]
    responses: tuple[ItemResponse, ...]
    subset: str
    kind: str
    expected: Mapping[str, Any] | None
    explanation: str


class Items(NamedTuple):
    """The items of a file, and the records that could not be used."""

    rows: list[ItemRow]
    unused: list[Unused]


def read(path: Path, *, questions: Path | None = None, generator: str = "") -> Outputs:
    """Outputs of AlpacaEval's form or, with the file of `questions`, MT-bench's; `generator` names who is not named.

    AlpacaEval: a list, or lines, of instruction, output, generator, dataset
    (https://raw.githubusercontent.com/tatsu-lab/alpaca_eval/main/README.md). MT-bench: lines of question_id, model_id,
    choices, each with its turns, as fastchat/llm_judge/gen_model_answer.py of https://github.com/lm-sys/FastChat writes
    them; only the first choice counts, as in its judgments. The first question is the prompt and all that follows the
    response, so that generators share prompts.

    Raises ValueError for a file that cannot be read or has neither form, and for MT-bench's without questions.
    """
    numbered = list(tables.numbered(path))
    first = next((record for _, record in numbered if isinstance(record, dict)), None)
    if first is None:
        raise ValueError(f"{str(path)!r} holds no record that can be read: expected outputs of a generator")
    if {"instruction", "output"} <= first.keys():
        return _outputs(numbered, lambda record: [_of_alpaca_eval(record, generator)])
    if {"question_id", "choices"} <= first.keys():
        if questions is None:
            raise ValueError(f"{str(path)!r} holds answers to MT-bench questions: expected the file of questions too")
        asked = _questions(questions)
        return _outputs(numbered, lambda record: _of_mt_bench(record, asked, generator))
    seen = ", ".join(map(repr, first))
    raise ValueError(f"{str(path)!r} has {seen or 'nothing'}: expected instruction and output, or question_id and choices")


def read_items(path: Path) -> Items:
    """Hand-written items: records of item, prompt, responses (generator, text), subset, kind, expected, explanation."""
    rows: list[ItemRow] = []
    unused: list[Unused] = []
    names: set[str] = set()
    for line, record in tables.numbered(path):
        try:
            row = _item(line, _sound(record))
            if row.item in names:
                raise ValueError(f"the item {row.item!r} is there already: expected another name")
            rows.append(row)
            names |= {row.item} - {""}
        except ValueError as error:
            unused.append(Unused(line, str(error)))
    return Items(rows, unused)


def _sound(record: Record | tables.Unreadable) -> Record:
    if not isinstance(record, dict):
        raise ValueError(record.reason)
    return record


# ---- outputs


def _outputs(numbered: Iterable[tuple[int, Record | tables.Unreadable]], read_one: Any) -> Outputs:
    found = Outputs([], [])
    for line, record in numbered:
        try:
            for one in read_one(_sound(record)):
                if isinstance(one, Output):
                    _check(one)
                    found.outputs.append(one)
                else:
                    found.unused.append(Unused(line, one))
        except ValueError as error:
            found.unused.append(Unused(line, str(error)))
    return found


def _check(one: Output) -> None:
    if not one.generator:
        raise ValueError("no generator: expected the name of who answered")
    for text in (*(part for turned in one.prompt for part in turned), one.response, one.generator, one.subset, one.name):
        check_text(text)


def _of_alpaca_eval(record: Record, generator: str) -> Output:
    if record.get("input"):
        raise ValueError("there is an input beside the instruction: expected the instruction to hold it")
    instruction = _text(record, "instruction")
    if not instruction:
        raise ValueError("the instruction is empty: expected what was asked")
    named = name_of(record.get("generator")) or generator
    return Output((turn("user", instruction),), _text(record, "output"), named, name_of(record.get("dataset")), "")


def _of_mt_bench(record: Record, asked: Mapping[str, Record], generator: str) -> Iterator[Output | str]:
    name, choices = name_of(record.get("question_id")), record.get("choices")
    if name not in asked:
        raise ValueError(f"question {name!r} is not in the file of questions")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ValueError(f"choices is {shortened(choices)}: expected a list of answers with turns")
    questions, answers = _turns(asked[name], "question"), _turns(choices[0], "answer")
    if len(questions) != len(answers):
        raise ValueError(f"question {name!r} has {len(questions)} turns and the answer {len(answers)}: expected as many")
    first, *rest = [turn(*one) for pair in zip(questions, answers, strict=True) for one in _exchange(*pair)]
    model, subset = name_of(record.get("model_id")) or generator, name_of(asked[name].get("category"))
    yield Output((first,), continued(rest), model, subset, name)
    if len(choices) > 1:
        yield f"{len(choices) - 1} of {len(choices)} choices of question {name!r} are left: only the first is judged"


def _exchange(question: str, answer: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("user", question), ("assistant", answer)


def _questions(path: Path) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for line, record in tables.numbered(path):
        if not isinstance(record, dict) or not name_of(record.get("question_id")):
            reason = "has no question_id" if isinstance(record, dict) else f"is {record.reason}"
            raise ValueError(f"{str(path)!r}, record {line} {reason}: expected a question")
        name = name_of(record["question_id"])
        if name in found:
            raise ValueError(f"{str(path)!r}, record {line}: question {name!r} is there already")
        found[name] = record
    return found


def _turns(record: Record, what: str) -> list[str]:
    turns = record.get("turns")
    if not isinstance(turns, list) or not turns or not all(isinstance(one, str) for one in turns):
        raise ValueError(f"the turns of the {what} are {shortened(turns)}: expected a list of texts")
    return turns


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise ValueError(f"the {key} is {shortened(value)}: expected a text")
    return value


# ---- items


def _item(line: int, record: Record) -> ItemRow:
    if unknown := record.keys() - _KEYS:
        raise ValueError(f"unknown {', '.join(map(repr, sorted(map(str, unknown))))}: expected {', '.join(sorted(_KEYS))}")
    prompt = prompt_of(record.get("prompt"))
    if prompt is None:
        raise ValueError("no prompt: expected a text or a list of messages")
    responses = _responses(record.get("responses"))
    kind = name_of(record.get("kind")) or "item"
    if kind not in KINDS:
        raise ValueError(f"the kind is {shortened(kind)}: expected one of {', '.join(KINDS)}")
    expected = _expected(record.get("expected"), [one.generator for one in responses])
    if kind in ("gold", "attention") and expected is None:
        raise ValueError(f"a {kind} item without an expected answer: expected better or ratings")
    if kind == "item" and expected is not None:
        raise ValueError("an expected answer, but the kind is item: expected gold, attention or warm-up")
    explanation = _text(record, "explanation") if record.get("explanation") is not None else ""
    row = ItemRow(
        line, name_of(record.get("item")), prompt, responses, name_of(record.get("subset")), kind, expected, explanation
    )
    for text in (row.item, row.subset, row.explanation, *(part for many in (*prompt, *responses) for part in many)):
        check_text(text)
    return row


def _responses(given: Any) -> tuple[ItemResponse, ...]:
    if not isinstance(given, list) or not given:
        raise ValueError(f"responses is {shortened(given)}: expected a list of objects with generator and text")
    found = []
    for one in given:
        if not isinstance(one, dict) or not isinstance(one.get("text"), str) or not name_of(one.get("generator")):
            raise ValueError(f"a response is {shortened(one)}: expected an object with generator and text")
        found.append(ItemResponse(name_of(one["generator"]), one["text"]))
    names = [one.generator for one in found]
    twice = sorted({name for name in names if names.count(name) > 1 or name in _NO_NAMES})
    if twice:
        raise ValueError(f"the generator {twice[0]!r} cannot be told from another: expected one name for each response")
    return tuple(found)


def _expected(given: Any, names: list[str]) -> dict[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, dict) or not given or given.keys() - {"better", "ratings"}:
        raise ValueError(f"expected is {shortened(given)}: expected an object with better, ratings or both")
    found: dict[str, Any] = {}
    if "better" in given:
        if len(names) < 2 or given["better"] not in (*names, *_NO_NAMES):
            known = ", ".join((*names, *_NO_NAMES))
            raise ValueError(f"better is {shortened(given['better'])}: expected one of {known}, with two responses or more")
        found["better"] = given["better"]
    if "ratings" in given:
        if not isinstance(given["ratings"], list) or not given["ratings"]:
            raise ValueError(f"the expected ratings are {shortened(given['ratings'])}: expected a list")
        found["ratings"] = [_expected_rating(one, names) for one in given["ratings"]]
    return found


def _expected_rating(given: Any, names: list[str]) -> dict[str, Any]:
    if not isinstance(given, dict) or given.keys() != {"generator", "aspect", "low", "high"}:
        raise ValueError(f"an expected rating is {shortened(given)}: expected generator, aspect, low and high")
    generator, aspect, low, high = given["generator"], name_of(given["aspect"]), given["low"], given["high"]
    if generator not in names or not aspect:
        raise ValueError(f"an expected rating is of {shortened(generator)}: expected one of {', '.join(names)} and an aspect")
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in (low, high))
    if not numbers or low > high:
        raise ValueError(f"an expected rating is from {shortened(low)} to {shortened(high)}: expected two numbers in order")
    return {"generator": generator, "aspect": aspect, "low": low, "high": high}
