"""A reward model behind an address: conversations are sent as JSON, scores come back.

    POST {"prompts": [[{"role": "user", "content": ...}, ...], ...], "responses": [...]}  ->  {"scores": [0.3, ...]}

A response is a text, or a list of turns like a prompt where it holds more than one.
"""

import json
import math
import os
import time
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any, ClassVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

import numpy as np
from pydantic import Field, field_validator

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
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an address that begins with http:// or https://")
        if parts.username or parts.password:
            raise ValueError("expected an address without a password: name an environment variable as token_variable")
        return address

    def memory(self) -> int:
        return 0

    def load(self, *, device: str = "auto") -> Scorer:
        """Raises ValueError where the variable with the token is not set."""
        token = os.environ.get(self.token_variable, "") if self.token_variable else ""
        if self.token_variable and not token:
            raise ValueError(f"the environment variable {self.token_variable!r}, which should hold a token, is not set")
        return _Asked(self, token)


class _Asked(Scorer):
    def __init__(self, server: Endpoint, token: str) -> None:
        self._server, self._opener = server, _opener()
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def prepare(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Work:
        cuts = [range(at, min(at + self._server.at_once, len(prompts))) for at in range(0, len(prompts), self._server.at_once)]

        def run(number: int) -> Numbers:
            places = cuts[number]
            return self._scores([prompts[place] for place in places], [responses[place] for place in places])

        notes = [f"scored by {self._server.address}, which does not say how it reads or cuts texts"]
        return Work([Batch(tuple(some), 0) for some in cuts], run, np.zeros(len(prompts), np.bool_), notes)

    def _scores(self, prompts: Sequence[Conversation], responses: Sequence[Conversation]) -> Numbers:
        asked = {"prompts": [_turns(one) for one in prompts], "responses": [_response(one) for one in responses]}
        return _read(self._answer(json.dumps(asked).encode()), len(prompts), self._server.address)

    def _answer(self, body: bytes) -> bytes:
        """What the server answers. One that is away or fails is asked again; then ValueError says why."""
        seen = ""
        for again in range(self._server.tries):
            if again:
                time.sleep(self._server.wait * 2 ** (again - 1))
            try:
                with self._opener.open(
                    Request(self._server.address, body, self._headers), timeout=self._server.timeout
                ) as answer:
                    return bytes(answer.read())
            except HTTPError as error:
                seen = f"{error.code} {error.reason}: {_beginning(error)}"
                if error.code < 500 and error.code != 429:
                    raise ValueError(f"the endpoint {self._server.address} refused the request: {seen}") from None
            except (URLError, HTTPException, OSError) as error:
                seen = str(getattr(error, "reason", "") or error) or type(error).__name__
        raise ValueError(
            f"the endpoint {self._server.address} did not answer in {self._server.tries} tries; the last time: {seen}"
        )


class _NoRedirect(HTTPRedirectHandler):
    """A redirect is an answer like any other: the token is for this address only."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener() -> OpenerDirector:
    return build_opener(_NoRedirect())


def _beginning(error: HTTPError) -> str:
    try:
        return " ".join(error.read(400).decode(errors="replace").split()) or "no reason given"
    except (OSError, HTTPException):
        return "no reason given"


def _turns(conversation: Conversation) -> list[dict[str, str]]:
    return [one._asdict() for one in conversation]


def _response(response: Conversation) -> str | list[dict[str, str]]:
    return response[0].content if len(response) == 1 else _turns(response)


def _read(body: bytes, count: int, address: str) -> Numbers:
    """The scores of an answer. Raises ValueError where it holds others than `count` finite numbers."""
    try:
        answer = json.loads(body)
    except ValueError:
        raise ValueError(f"the endpoint {address} answered {body[:80]!r}: expected JSON") from None
    scores = answer.get("scores") if isinstance(answer, dict) else None
    if not isinstance(scores, list):
        raise ValueError(f"the endpoint {address} answered {str(answer)[:80]!r}: expected {{'scores': [...]}}")
    if len(scores) != count:
        raise ValueError(f"the endpoint {address} gave {len(scores):,} scores for {count:,} responses")
    for place, one in enumerate(scores):
        if isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one):
            raise ValueError(f"the endpoint {address} gave {one!r} as score {place + 1} of {count:,}: expected a number")
    return np.array(scores, np.float64)
