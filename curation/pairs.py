"""The Pair: a prompt with a chosen and a rejected response, its identity, and HH transcripts that round-trip.

`render(parse(text)) == text` for every text: a turn keeps the exact marker it was written with.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Literal, NamedTuple

Side = Literal["chosen", "rejected", "both", "pair"]

_MARKER = re.compile(r"(\n\n(?:Human|Assistant|(?<=\A\n\n)System): ?)")  # begins alike, so that it is searched fast
_SPEAKERS = {"Human": "user", "Assistant": "assistant", "System": "system"}
_ROLES = {f"\n\n{name}:{gap}": role for name, role in _SPEAKERS.items() for gap in ("", " ")}
_LEADS = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}
RESPONSE_LEAD = _LEADS["assistant"]
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_ANSWER, _ASKED = "\n\nAssistant:", "\n\nHuman:"


class Turn(NamedTuple):
    """One turn of a transcript. `lead` is the exact text that stands before the content, marker included."""

    role: str  # user, assistant, system; "" for text that stands before the first marker
    content: str
    lead: str


class Response(NamedTuple):
    """The text that answers a prompt; it may hold further turns. `lead` is the exact text before it."""

    text: str
    lead: str = RESPONSE_LEAD


def turn(role: str, content: str) -> Turn:
    """A turn with the marker HH-RLHF writes for its role."""
    return Turn(role, content, _LEADS.get(role) or f"\n\n{role.capitalize()}: ")


def parse(text: str) -> list[Turn]:
    """The turns of an HH transcript, `\\n\\nHuman: ...\\n\\nAssistant: ...`; never fails, loses nothing."""
    before, *rest = _MARKER.split(text)
    turns = [Turn(_ROLES[lead], content, lead) for lead, content in zip(rest[::2], rest[1::2], strict=True)]
    return [Turn("", before, ""), *turns] if before else turns


def render(turns: Sequence[Turn]) -> str:
    """The HH transcript of these turns."""
    return "".join([part for one in turns for part in (one.lead, one.content)])


def packed(turns: Sequence[Turn]) -> str:
    """Turns as one JSON text, `[[role, content], ...]`, with a third entry where the marker is unusual."""
    rows = [one[:2] if one.lead == _LEADS.get(one.role) else one for one in turns]
    return _ENCODER.encode(rows)


def unpacked(text: str) -> tuple[Turn, ...]:
    """The turns of a text that `packed` made."""
    return tuple([Turn(row[0], row[1], row[2] if len(row) == 3 else _LEADS[row[0]]) for row in json.loads(text)])


def _digest(kind: str, parts: Iterable[str]) -> str:
    """32 hex digits of these texts; their lengths keep neighbours from running together.

    Raises UnicodeEncodeError for half a character, which no UTF-8 file and no database column can hold either.
    """
    text = kind + "".join([f"\n{len(part)}:{part}" for part in parts])
    return blake2b(text.encode(), digest_size=16).hexdigest()


def named(kind: str, *parts: str) -> str:
    """32 hex digits that name something by its content, as prompts, responses and pairs are named."""
    return _digest(kind, parts)


def prompt_id_of(prompt: Sequence[Turn]) -> str:
    """32 hex digits that name a prompt's content."""
    return _digest("prompt", (packed(prompt),))


def response_id_of(prompt_id: str, response: Response) -> str:
    """32 hex digits that name a response to a prompt."""
    # the marker is part of the identity only where it is unusual, so all input forms share ids
    unusual = () if response.lead == RESPONSE_LEAD else (response.lead,)
    return _digest("response", (prompt_id, response.text, *unusual))


@dataclass(frozen=True)
class Pair:
    """A prompt with a chosen and a rejected response.

    `rows` are its 0-based positions in the dataset it was read from, empty when it was read by itself.
    """

    prompt: tuple[Turn, ...]
    chosen: Response
    rejected: Response
    rows: tuple[int, ...] = ()
    subset: str = field(default="", compare=False)

    @classmethod
    def of_turns(cls, chosen: Sequence[Turn], rejected: Sequence[Turn]) -> "Pair":
        """Two whole transcripts: the prompt is the longest run of common leading turns that ends in a user turn."""
        shared = 0
        for index, (one, other) in enumerate(zip(chosen, rejected, strict=False)):
            if one != other:
                break
            if one.role == "user":
                shared = index + 1
        return cls(tuple(chosen[:shared]), _response(chosen[shared:]), _response(rejected[shared:]))

    @classmethod
    def of_texts(cls, chosen: str, rejected: str) -> "Pair":
        """Two HH transcripts. Where only the last answer differs the context is parsed once, which is most of the time."""
        cut = chosen.rfind(_ANSWER)
        if cut > 0 and cut == rejected.rfind(_ANSWER) and chosen[:cut] == rejected[:cut]:
            context = parse(chosen[:cut])
            if context[-1].role == "user" and _ASKED not in chosen[cut:] and _ASKED not in rejected[cut:]:
                return cls(tuple(context), _answer(chosen, cut), _answer(rejected, cut))
        return cls.of_turns(parse(chosen), parse(rejected))

    @classmethod
    def known(
        cls, prompt: tuple[Turn, ...], chosen: Response, rejected: Response,
        pair_id: str, prompt_id: str, chosen_id: str, rejected_id: str, *, rows: tuple[int, ...] = (), subset: str = "",
    ) -> "Pair":  # fmt: skip
        """A pair whose ids were stored with it: hashing once more would be most of the work."""
        pair = cls(prompt, chosen, rejected, rows, subset)
        pair.__dict__.update(pair_id=pair_id, prompt_id=prompt_id, chosen_id=chosen_id, rejected_id=rejected_id)
        return pair

    @cached_property
    def prompt_id(self) -> str:
        """32 hex digits that name the prompt's content."""
        return _digest("prompt", (self.packed_prompt,))

    @cached_property
    def packed_prompt(self) -> str:
        """The prompt as it is stored: see `packed`."""
        return packed(self.prompt)

    @cached_property
    def chosen_id(self) -> str:
        """32 hex digits that name the chosen response to this prompt."""
        return response_id_of(self.prompt_id, self.chosen)

    @cached_property
    def rejected_id(self) -> str:
        """32 hex digits that name the rejected response to this prompt."""
        return response_id_of(self.prompt_id, self.rejected)

    @cached_property
    def pair_id(self) -> str:
        """32 hex digits that name prompt, chosen and rejected."""
        return _digest("pair", (self.chosen_id, self.rejected_id))

    def swapped(self) -> "Pair":
        """The same responses with the label turned round."""
        return Pair(self.prompt, self.rejected, self.chosen, subset=self.subset)

    def sides(self) -> Iterator[tuple[Literal["chosen", "rejected"], str]]:
        """The two responses' texts with their sides."""
        yield "chosen", self.chosen.text
        yield "rejected", self.rejected.text

    def transcripts(self) -> tuple[str, str]:
        """Chosen and rejected as whole HH transcripts, byte for byte as they were read."""
        context = render(self.prompt)
        return context + self.chosen.lead + self.chosen.text, context + self.rejected.lead + self.rejected.text


def _answer(text: str, cut: int) -> Response:
    """What stands after the assistant's marker at `cut`, up to the end."""
    start = cut + len(_ANSWER)
    if text.startswith(" ", start):
        return Response(text[start + 1 :])
    return Response(text[start:], _ANSWER)


def _response(rest: Sequence[Turn]) -> Response:
    if rest and rest[0].role == "assistant":
        return Response(rest[0].content + render(rest[1:]), rest[0].lead)
    return Response(render(rest), "")
