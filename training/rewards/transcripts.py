"""Conversations as a model's tokens: its chat template or a family's own text, no doubled BOS, cuts counted.

Text that is too long loses its beginning, so that the response stays; a BOS token stays, too.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.rewards.base import Conversation, Message

Render = Callable[[Conversation, Conversation], str]  # prompt, response: the text a model reads
_NO_LIMIT = 1_000_000  # tokenizers without a limit name an astronomic one
_SOME_DAY = "26 Jul 2024"  # what templates that write today's date are given: a score must not change overnight


class Encoded(NamedTuple):
    """The ids of each text, and which texts were cut."""

    ids: list[list[int]]
    truncated: NDArray[np.bool_]


def encoded(
    tokenizer: Any, render: Render, prompts: Sequence[Conversation], responses: Sequence[Conversation], *, max_length: int
) -> Encoded:
    """The ids of each response after its prompt. A text that the template writes with its BOS gets no second one."""
    texts = [render(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
    return cut(tokenized(tokenizer, texts), max_length, bos=begin_of(tokenizer))


def begin_of(tokenizer: Any) -> int | None:
    """The token that stands at the beginning of every text, BOS or an encoder's CLS; None where there is none."""
    found = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else getattr(tokenizer, "cls_token_id", None)
    return None if found is None else int(found)


def tokenized(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids with the special tokens the tokenizer adds by itself, save a BOS that the text begins with already, or an EOS that
    it ends in."""
    if not texts:
        return []
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=True)["input_ids"]
    return [_once(ids, tokenizer.bos_token_id, tokenizer.eos_token_id) for ids in found]


def _once(ids: list[int], bos: int | None, eos: int | None) -> list[int]:
    if bos is not None and ids[:2] == [bos, bos]:
        ids = ids[1:]
    return ids[:-1] if eos is not None and ids[-2:] == [eos, eos] else ids


def cut(ids: list[list[int]], max_length: int, *, bos: int | None) -> Encoded:
    """The same ids with at most so many tokens each."""
    truncated = np.array([len(one) > max_length for one in ids], dtype=np.bool_)
    return Encoded([_last(one, max_length, bos) for one in ids], truncated)


def _last(ids: list[int], count: int, bos: int | None) -> list[int]:
    if len(ids) <= count:
        return ids
    if bos is not None and ids[0] == bos:
        return [bos, *ids[len(ids) - count + 1 :]]
    return ids[len(ids) - count :]


def limit_of(tokenizer: Any, config: Any, wanted: int | None) -> int:
    """Tokens a model reads at most: what was asked for, else what its tokenizer and its positions allow.

    Where positions are scaled by the length of what is read together (dynamic, longrope), a longer text would change the
    scores of those beside it: then no more is read than the model was first trained on. Raises ValueError where more is asked
    for than that.
    """
    text_config = config.get_text_config()
    positions = getattr(text_config, "max_position_embeddings", None)
    positions = positions if isinstance(positions, int) and positions > 0 else None
    steady = _steady(text_config)
    if steady is not None:
        positions = min(steady, positions or steady)
    if wanted is not None and positions is not None and wanted > positions:
        raise ValueError(f"max_length is {wanted:,}: the model reads at most {positions:,} tokens")
    if wanted is not None:
        return wanted
    allowed = [one for one in (positions, int(tokenizer.model_max_length)) if one is not None and 0 < one < _NO_LIMIT]
    return min(allowed, default=4096)


def chat_template(tokenizer: Any, *, to_answer: bool = False) -> Render:
    """The tokenizer's own chat template. Raises ValueError where it has none.

    A template that refuses a system message or two messages of one role in a row is given them joined. `to_answer` adds
    what it writes before an answer, for a prompt that is given without one.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template: expected one, or a template by name "
            "(conversation=hh, where the family has it)"
        )

    def render(prompt: Conversation, response: Conversation) -> str:
        from jinja2 import TemplateError

        messages = (*prompt, *response)
        try:
            return _applied(tokenizer, messages, to_answer)
        except TemplateError as refused:
            try:
                return _applied(tokenizer, in_turns(messages), to_answer)
            except TemplateError:
                roles = ", ".join(one.role for one in messages)
                raise ValueError(f"the model's chat template refuses a conversation of {roles}: {refused}") from None

    return render


def _steady(config: Any) -> int | None:
    """Tokens up to which the positions of a model do not depend on how many are read; None where they never do."""
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if scaling.get("rope_type", scaling.get("type")) not in ("dynamic", "longrope"):
        return None
    first = scaling.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
    return int(first or config.max_position_embeddings)


def _applied(tokenizer: Any, messages: Sequence[Message], to_answer: bool) -> str:
    text = tokenizer.apply_chat_template(
        [one._asdict() for one in messages], tokenize=False, add_generation_prompt=to_answer, date_string=_SOME_DAY
    )
    assert isinstance(text, str)
    return text


def in_turns(messages: Sequence[Message]) -> list[Message]:
    """The same conversation in turns of user and assistant: what stands before the first user turn is joined to it."""
    found: list[Message] = []
    for role, content in messages:
        role = role if role in ("user", "assistant") else "user"
        if found and found[-1].role == role:
            found[-1] = Message(role, f"{found[-1].content}\n\n{content}")
        else:
            found.append(Message(role, content))
    return [Message("user", ""), *found] if found and found[0].role == "assistant" else found


def spoken(user: str, assistant: str, *, before: str = "", between: str = "", end: str = "") -> Render:
    """A template of plain text: `before`, then each turn after its speaker's marker, joined by `between`, then `end`.

    A system message stands without a marker.
    """
    markers = {"user": user, "assistant": assistant}

    def render(prompt: Conversation, response: Conversation) -> str:
        turns = [markers.get(role, "") + content for role, content in (*prompt, *response)]
        return before + between.join(turns) + end

    return render


def framed(user: tuple[str, str], assistant: tuple[str, str], *, before: str = "", last: str | None = None) -> Render:
    """A template of instruct models: the words of each turn between its two marks, user and assistant in turns.

    `last` stands after the last answer in place of the assistant's second mark, where that is another.
    """

    def render(prompt: Conversation, response: Conversation) -> str:
        turns = in_turns((*prompt, *response))
        marks = [user if role == "user" else assistant for role, _ in turns]
        if last is not None and turns and turns[-1].role == "assistant":
            marks[-1] = (assistant[0], last)
        return before + "".join(mark + turn.content + end for turn, (mark, end) in zip(turns, marks, strict=True))

    return render


def check_marks(tokenizer: Any, marks: Sequence[str], whose: str) -> None:
    """Raise ValueError where a template's marks are no tokens of the tokenizer: then the model was trained with another."""
    known = tokenizer.get_vocab()
    for mark in marks:
        if mark not in known:
            raise ValueError(f"the tokenizer of {tokenizer.name_or_path!r} does not know {mark!r}: expected that of {whose}")


HH = spoken("\n\nHuman: ", "\n\nAssistant: ")
