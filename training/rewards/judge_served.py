"""A judge behind an address: it is asked in words, writes an answer, and its verdict is read.

POST ADDRESS/chat/completions {"model": ..., "messages": [...], "temperature": 0}  ->  {"choices": [{"message": ...}]}
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from training.rewards import judge_question
from training.rewards.asked import Refused, Server, in_parallel
from training.rewards.base import Batch, Comparer, Conversation, Numbers, Work
from training.rewards.judge_question import Material, joined, material, question, verdict
from training.run import say

_PAIRS = 2  # of a batch for each request at once: four requests one after the other, so that few wait for the slowest
_SHOWN, _END = 5, 200  # answers without a verdict that are written into the log, and characters of their ends


class Said(NamedTuple):
    """What a judge said: P(response A is better), None without a verdict; its last words, or those of a server that `refused`
    the question; the name it gives itself."""

    better: float | None
    words: str
    model: str
    refused: bool = False


class ServedJudge(Comparer):
    """`request` is what every request holds besides its messages; in each order a judge without a verdict is asked again."""

    def __init__(
        self, server: Server, instructions: str, request: Mapping[str, Any], *, tries: int, at_once: int
    ) -> None:  # fmt: skip
        self._server, self._instructions, self._request = server, instructions, request
        self._tries, self._at_once = tries, at_once

    def prepare(self, prompts: Sequence[Conversation], first: Sequence[Conversation], second: Sequence[Conversation]) -> Work:
        found = [material(*three) for three in zip(prompts, first, second, strict=True)]
        size = _PAIRS * self._at_once
        cuts = [range(at, min(at + size, len(found))) for at in range(0, len(found), size)]
        unread = f"of {2 * len(found):,} answers held no verdict in {self._tries} tries: a tie in that order"
        refused = f"of {2 * len(found):,} questions were refused by the server, which answers others: a tie in that order"
        turned = judge_question.turned(len(found))
        counted = Counter({unread: 0, turned: 0})

        def run(number: int) -> Numbers:
            some = [found[place] for place in cuts[number]]
            said = in_parallel(self._said, [*some, *(one.turned() for one in some)], at_once=self._at_once)
            for one in said:
                if one.better is None:
                    why = refused if one.refused else unread
                    counted[why] += 1
                    if counted[why] <= _SHOWN:
                        say(one.words if one.refused else f"no verdict in an answer that ends: {one.words[-_END:]!r}")
                if one.model not in ("", self._request["model"]):
                    counted[f"answers were by {one.model}, as the server says"] += 1
            better = np.array([0.5 if one.better is None else one.better for one in said])
            return joined(better[: len(some)], better[len(some) :], counted, turned)

        notes = [
            f"judged by {self._request['model']} at {self._server.address}, which does not say how it reads or cuts texts",
            "each pair is compared in both orders, and the mean counts",
        ]
        return Work(
            [Batch(tuple(some), 0) for some in cuts], run, np.zeros(len(found), np.bool_), notes, self._digest(found), counted
        )

    def _digest(self, found: Sequence[Material]) -> str:
        digest = blake2b(json.dumps(dict(self._request), sort_keys=True).encode(), digest_size=8)
        for one in found:
            digest.update(self._asked(one).encode(errors="surrogatepass"))
        return digest.hexdigest()

    def _asked(self, one: Material) -> str:
        return question(self._instructions, one, judge_question.VERDICT)

    def _said(self, one: Material) -> Said:
        """Its verdict. Without one it is shown its answer and asked for the verdict alone; at temperature 0 the same question
        would get the same answer."""
        asked = [{"role": "user", "content": self._asked(one)}]
        more: list[dict[str, str]] = []
        said = Said(None, "", "")
        for _ in range(self._tries):
            try:
                said = self._completed([*asked, *more])
            except Refused as refusal:
                self._check_answers(refusal)
                return Said(None, str(refusal), "", refused=True)
            if said.better is not None:
                break
            answered = [{"role": "assistant", "content": said.words}, {"role": "user", "content": judge_question.AGAIN}]
            more = answered if said.words.strip() else []
        return said

    def _check_answers(self, refusal: Refused) -> None:
        """Raise this where the server refuses the shortest question too. Else it was that one: too long, or what it says."""
        try:
            self._completed([{"role": "user", "content": judge_question.AGAIN}])
        except ValueError:
            raise refusal from None

    def _completed(self, messages: Sequence[Mapping[str, str]]) -> Said:
        body = self._server.answer(json.dumps({**self._request, "messages": messages}).encode())
        try:
            answer = json.loads(body)
            choice = answer["choices"][0]
            words = self._server.without_token(_text(choice["message"].get("content")))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            seen = self._server.without_token(" ".join(body.decode(errors="replace").split()))[:200]
            raise ValueError(f"{self._server.name} answered {seen!r}: expected a chat completion") from None
        cut = choice.get("finish_reason") == "length"  # what is in brackets then is no last word
        model = answer.get("model")
        return Said(None if cut else verdict(words), words, self._server.without_token(str(model)) if model else "")


def _text(content: Any) -> str:
    """The words of a message's content: a text, a list of parts, or nothing."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    return "" if content is None else str(content)
