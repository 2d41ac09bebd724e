"""A reward model behind an address: conversations are sent as JSON, scores come back.

    POST {"prompts": [[{"role": "user", "content": ...}, ...], ...], "responses": [...]}  ->  {"scores": [0.3, ...]}

A response is a text, or a list of turns like a prompt where it holds more than one.
"""

import json
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field, field_validator

from training.rewards.asked import Server, checked_address, checked_variable, token_of
from training.rewards.base import Batch, Conversation, Family, Numbers, Scorer, Work


class Endpoint(Family):
    """An HTTP server that scores: texts are sent to its address in batches."""

    name: ClassVar[str] = "endpoint"
    template: ClassVar[str] = "the server's own: it is given the turns"
    tokenizer: ClassVar[str] = "the server's own"
    log_odds: ClassVar[bool] = False

    address: str = Field(description="where to send texts, http:// or https://")
    token_variable: str = Field(
        "", description="the environment variable that holds the server's token; the token itself is never stored"
    )
    at_once: int = Field(16, ge=1, le=4096, description="texts sent at once")
    timeout: float = Field(60.0, gt=0, description="seconds to wait for an answer")
    tries: int = Field(4, ge=1, le=20, description="how often to ask before giving up, where the server is away or fails")
    wait: float = Field(0.5, ge=0, description="seconds before the second try; doubled before each further one")

    @field_validator("address")
    @classmethod
    def _is_http(cls, address: str) -> str:
        return checked_address(address)

    @field_validator("token_variable")
    @classmethod
    def _is_a_name(cls, variable: str) -> str:
        return checked_variable(variable)

    def memory(self) -> int:
        return 0

    def load(self, *, device: str = "auto") -> Scorer:
        """Raises ValueError where the variable with the token is not set."""
        server = Server(
            "the endpoint", self.address, token_of(self.token_variable), timeout=self.timeout, tries=self.tries, wait=self.wait
        )
        return _Asked(server, at_once=self.at_once)


class _Asked(Scorer):
    def __init__(self, server: Server, *, at_once: int) -> None:
        self._server, self._at_once = server, at_once

    def prepare(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Work:
        cuts = [range(at, min(at + self._at_once, len(prompts))) for at in range(0, len(prompts), self._at_once)]

        def run(number: int) -> Numbers:
            places = cuts[number]
            return self._scores([prompts[place] for place in places], [responses[place] for place in places])

        notes = [f"scored by {self._server.address}, which does not say how it reads or cuts texts"]
        return Work([Batch(tuple(some), 0) for some in cuts], run, np.zeros(len(prompts), np.bool_), notes)

    def _scores(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Numbers:
        asked = {"prompts": [_turns(one) for one in prompts], "responses": [_response(one) for one in responses]}
        return _read(self._server.answer(json.dumps(asked).encode()), len(prompts), self._server)


def _turns(conversation: Conversation) -> list[dict[str, str]]:
    return [one._asdict() for one in conversation]


def _response(response: Conversation) -> str | list[dict[str, str]]:
    return response[0].content if len(response) == 1 else _turns(response)


def _read(body: bytes, count: int, server: Server) -> Numbers:
    """The scores of an answer. Raises ValueError where it holds others than `count` finite numbers."""
    try:
        answer = json.loads(body)
    except ValueError:
        raise ValueError(f"{server.name} answered {_shown(body.decode(errors='replace'), server)}: expected JSON") from None
    scores = answer.get("scores") if isinstance(answer, dict) else None
    if not isinstance(scores, list):
        raise ValueError(f"{server.name} answered {_shown(str(answer), server)}: expected {{'scores': [...]}}")
    if len(scores) != count:
        raise ValueError(f"{server.name} gave {len(scores):,} scores for {count:,} responses")
    for place, one in enumerate(scores):
        if isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one):
            seen = server.without_token(repr(one))[:80]
            raise ValueError(f"{server.name} gave {seen} as score {place + 1} of {count:,}: expected a number")
    return np.array(scores, np.float64)


def _shown(answer: str, server: Server) -> str:
    """The beginning of an answer, without the token it may repeat."""
    return repr(server.without_token(answer)[:80])
