"""Row forms: what one record of a file says about a pair, or about several.

Understood without being told: HH strings; prompt, chosen, rejected as strings (RewardBench too); TRL conversational
rows with an explicit or an implicit prompt; a prompt with lists of chosen and of rejected strings (RewardBench 2).
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

from curation.pairs import Pair, Turn, parse, render, turn

FIELDS = ("prompt", "chosen", "rejected", "subset", "split")
_ANSWER = "\n\nAssistant:"
_SPEAKERS = {"human": "user", "gpt": "assistant"}  # as ShareGPT's conversations name them
_MARKED = ("\n\nHuman:", _ANSWER)


def pairs_of(record: Mapping[str, Any], mapping: Mapping[str, str]) -> list[Pair]:
    """The pairs a record holds: one, or of lists of strings every chosen with every rejected, in order, chosen by chosen.

    Raises ValueError as `pair_of` does; a list that is empty, or holds anything but strings, costs the whole record.
    """
    chosen, rejected = (value_of(record, mapping, side) for side in ("chosen", "rejected"))
    if not (isinstance(chosen, list) and isinstance(rejected, list) and _any_string(chosen + rejected)):
        return [pair_of(record, mapping)]
    _check_answers(chosen, "chosen")
    _check_answers(rejected, "rejected")
    columns = [mapping.get(side, side) for side in ("chosen", "rejected")]
    sides = product(chosen, rejected)
    return [pair_of({**record, **dict(zip(columns, texts, strict=True))}, mapping) for texts in sides]


def pair_of(record: Mapping[str, Any], mapping: Mapping[str, str]) -> Pair:
    """The one pair of a record; `mapping` names the column of a field whose column is called otherwise.

    Raises ValueError with a sentence that says what was seen and what was expected.
    """
    prompt, chosen, rejected = (value_of(record, mapping, field) for field in ("prompt", "chosen", "rejected"))
    if chosen is None or rejected is None:
        missing = " and ".join(name for name, value in (("chosen", chosen), ("rejected", rejected)) if value is None)
        raise ValueError(f"no {missing}: the columns are {', '.join(map(repr, record)) or 'none'}; map one with --map")
    if isinstance(chosen, str) and isinstance(rejected, str):
        pair = _of_strings(prompt, chosen, rejected)
    elif isinstance(chosen, list) and isinstance(rejected, list):
        pair = _of_conversations(prompt, chosen, rejected)
    else:
        kinds = f"{type(chosen).__name__} and {type(rejected).__name__}"
        raise ValueError(f"chosen and rejected are {kinds}: expected two strings or two lists of messages or strings")
    _check_text(pair)
    return pair


def value_of(record: Mapping[str, Any], mapping: Mapping[str, str], field: str) -> Any:
    """What the record holds for a field, None when it has no such column."""
    return record.get(mapping.get(field, field))


def _any_string(values: list[Any]) -> bool:
    return any(isinstance(value, str) for value in values)


def _check_answers(answers: list[Any], field: str) -> None:
    """Refuse a list of answers that no pair, or not only pairs, can be made of."""
    if not answers:
        raise ValueError(f"{field} is an empty list: expected one string or more, as on the other side")
    for answer in answers:
        if not isinstance(answer, str):
            raise ValueError(f"an answer in {field} is {str(answer)[:80]!r}: expected a string, as the other answers are")


def _of_strings(prompt: Any, chosen: str, rejected: str) -> Pair:
    marked = chosen.startswith(_MARKED) and rejected.startswith(_MARKED)
    if marked and (not isinstance(prompt, str) or (prompt.strip() in chosen and prompt.strip() in rejected)):
        return Pair.of_texts(chosen, rejected)  # whole transcripts: a prompt column only says the same again
    if not prompt:
        return Pair.of_turns([Turn("", chosen, "")], [Turn("", rejected, "")])
    if isinstance(prompt, list):
        asked = _turns(prompt, "prompt")
    elif isinstance(prompt, str):
        asked = parse(prompt) if prompt.startswith(_MARKED) else [turn("user", prompt)]
    else:
        raise ValueError(f"prompt is {type(prompt).__name__}: expected a string or a list of messages")
    waits = asked[-1].role == "assistant" and not asked[-1].content  # "...\n\nAssistant:" waits for the response
    if waits or (chosen.startswith(_ANSWER) and rejected.startswith(_ANSWER)):
        context = render(asked)
        return Pair.of_texts(context + chosen, context + rejected)
    return Pair.of_turns([*asked, turn("assistant", chosen)], [*asked, turn("assistant", rejected)])


def _of_conversations(prompt: Any, chosen: list[Any], rejected: list[Any]) -> Pair:
    sides = _turns(chosen, "chosen"), _turns(rejected, "rejected")
    if prompt and all(not side or side[0].role == "assistant" for side in sides):  # an empty list is an empty response
        asked = _turns(prompt, "prompt") if isinstance(prompt, list) else [turn("user", str(prompt))]
        sides = asked + sides[0], asked + sides[1]
    return Pair.of_turns(*sides)


def _turns(messages: list[Any], field: str) -> list[Turn]:
    turns = []
    for message in messages:
        said = message if isinstance(message, dict) else {}
        role, content = said.get("role", said.get("from")), said.get("content", said.get("value"))
        role = _SPEAKERS.get(role, role) if isinstance(role, str) else role
        if not (isinstance(role, str) and role and isinstance(content, str)):
            raise ValueError(f"a message of {field} is {str(message)[:80]!r}: expected a role and a text content")
        turns.append(turn(role, content))
    return turns


def _check_text(pair: Pair) -> None:
    """Refuse what no UTF-8 file and no database column can hold: naming the pair by its content finds it."""
    try:
        _ = pair.pair_id
    except UnicodeEncodeError as error:
        code = f"{ord(error.object[error.start]):04x}"
        raise ValueError(f"the text holds half a character (\\u{code}): expected valid Unicode") from None
