"""A reward model behind an address: a real server on this machine answers, fails, hangs, lies and dies half way."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from tests.answering import AnsweringServer
from training.rewards.base import Message
from training.rewards.registry import family

PROMPTS = [(Message("user", f"question {number}"),) for number in range(10)]
RESPONSES = [(Message("assistant", "x" * number),) for number in range(10)]


class Server(AnsweringServer):
    """A server whose answers a test decides: `answers` is given each request's body, and says code and body."""

    path = "/score"

    def __init__(self) -> None:
        self.answers: Callable[[dict[str, Any]], tuple[int, Any]] = lengths
        self.location = ""
        super().__init__()

    def reply(self, request: dict[str, Any]) -> tuple[int, Any, Mapping[str, str]]:
        code, body = self.answers(request)
        headers = {"Location": self.location} if self.location else {}
        if code == 299:  # it breaks off
            headers["Content-Length"] = str(len(body if isinstance(body, bytes) else json.dumps(body)) + 100)
        return code, body, headers


def lengths(asked: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"scores": [len(one) / 2 for one in asked["responses"]]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server()
    yield running
    running.die()


def scorer(server: Server, **settings: Any) -> Any:
    return family("endpoint", {"address": server.address, "wait": 0, **settings}).load()


def refusal(server: Server, **settings: Any) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011  the sentence is what is looked at
        scorer(server, **settings).score(PROMPTS, RESPONSES)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_scores_come_back_in_the_order_of_the_texts_batch_by_batch(server: Server) -> None:
    found = scorer(server, at_once=4).score(PROMPTS, RESPONSES)
    assert found.values.tolist() == [number / 2 for number in range(10)]
    assert [len(one["responses"]) for one in server.asked] == [4, 4, 2]
    assert server.asked[0]["prompts"][1] == [{"role": "user", "content": "question 1"}]
    assert server.asked[0]["responses"][1] == "x"
    assert server.headers[0]["Content-Type"] == "application/json"


def test_a_response_of_several_turns_is_sent_as_turns(server: Server) -> None:
    response = (Message("assistant", "Hi"), Message("user", "Oh"), Message("assistant", "Ah"))
    assert scorer(server).score(PROMPTS[:1], [response]).values.tolist() == [1.5]
    assert server.asked[0]["responses"] == [[one._asdict() for one in response]]


def test_a_token_is_read_from_the_environment_and_stored_nowhere(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="environment variable 'REWARD_TOKEN', which should hold a token, is not set"):
        scorer(server, token_variable="REWARD_TOKEN")
    monkeypatch.setenv("REWARD_TOKEN", "secret-1")
    model = scorer(server, token_variable="REWARD_TOKEN")
    model.score(PROMPTS, RESPONSES)
    assert server.headers[0]["Authorization"] == "Bearer secret-1"
    stored = family("endpoint", {"address": server.address, "token_variable": "REWARD_TOKEN"}).model_dump_json()
    assert "secret-1" not in stored
    for said in (b"your key is secret-1", b"x" * 75 + b"secret-1", {"key": "secret-1"}, {"scores": ["secret-1"] * 10}):
        server.answers = lambda _, said=said: (200, said)
        assert "sec" not in refusal(server, token_variable="REWARD_TOKEN")
    with pytest.raises(ValueError, match="expected the name of an environment variable that holds the token"):
        scorer(server, token_variable="secret-1")
    server.answers = lengths
    scorer(server).score(PROMPTS, RESPONSES)
    assert "Authorization" not in server.headers[-1]


def test_a_server_that_fails_now_and_then_is_asked_again(server: Server) -> None:
    codes = iter([503, 200, 299, 429, 200])

    def answers(asked: dict[str, Any]) -> tuple[int, Any]:
        code = next(codes)
        return (200, lengths(asked)[1]) if code == 200 else (code, {"error": "busy"})

    server.answers = answers
    found = scorer(server, at_once=5).score(PROMPTS, RESPONSES)
    assert found.values.tolist() == [number / 2 for number in range(10)]
    assert len(server.asked) == 5


def test_a_server_that_keeps_failing_is_given_up_with_its_own_words(server: Server) -> None:
    server.answers = lambda _: (500, {"error": "out of memory"})
    words = refusal(server, tries=3)
    assert words.startswith(f"the endpoint {server.address} did not answer in 3 tries; the last time: 500 ")
    assert "out of memory" in words
    assert len(server.asked) == 3


def test_a_refused_request_is_not_repeated(server: Server) -> None:
    server.answers = lambda _: (401, b"who are you?")
    assert "refused the request: 401 Unauthorized: who are you?" in refusal(server)
    assert len(server.asked) == 1


def test_a_redirect_is_not_followed_with_the_token(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_TOKEN", "secret-1")
    server.answers, server.location = (lambda _: (302, b"")), server.address + "/elsewhere"
    assert "refused the request: 302" in refusal(server, token_variable="REWARD_TOKEN")
    assert server.paths == ["/score"]


def test_a_server_that_hangs_is_left_after_the_timeout(server: Server) -> None:
    def answers(asked: dict[str, Any]) -> tuple[int, Any]:
        server.released.wait(30)
        return lengths(asked)

    server.answers = answers
    assert "did not answer in 2 tries; the last time: timed out" in refusal(server, timeout=0.1, tries=2)


def test_a_server_that_dies_half_way_leaves_the_batches_before_it(server: Server) -> None:
    work = scorer(server, at_once=4, tries=2).prepare(PROMPTS, RESPONSES)
    np.testing.assert_array_equal(work.run(0), [0, 0.5, 1, 1.5])
    server.die()
    with pytest.raises(ValueError, match=r"did not answer in 2 tries; the last time: .*[Cc]onnection refused"):
        work.run(1)


def test_a_server_that_breaks_off_in_the_middle_of_an_answer_is_given_up(server: Server) -> None:
    server.answers = lambda _: (299, b'{"scores": [1')
    assert "did not answer in 2 tries; the last time: IncompleteRead" in refusal(server, tries=2)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<html>", "answered '<html>': expected JSON"),
        ([1, 2], "answered '[1, 2]': expected {'scores': [...]}"),
        ({"rewards": [1]}, "expected {'scores': [...]}"),
        ({"scores": [1.0] * 9}, "gave 9 scores for 10 responses"),
        ({"scores": [1.0] * 9 + [float("nan")]}, "gave nan as score 10 of 10: expected a number"),
        ({"scores": [1.0] * 8 + [float("inf"), 0.0]}, "gave inf as score 9 of 10: expected a number"),
        ({"scores": ["1.0"] + [1.0] * 9}, "gave '1.0' as score 1 of 10: expected a number"),
        ({"scores": [1.0, True] + [1.0] * 8}, "gave True as score 2 of 10: expected a number"),
        ({"scores": [1.0, None] + [1.0] * 8}, "gave None as score 2 of 10: expected a number"),
    ],
)
def test_an_answer_that_is_not_scores_is_refused_with_what_was_seen(server: Server, body: Any, expected: str) -> None:
    server.answers = lambda _: (200, body)
    assert expected in refusal(server)
    assert len(server.asked) == 1


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://host/x", "localhost:8000", "http://", ""])
def test_only_web_addresses_are_taken(address: str) -> None:
    with pytest.raises(ValueError, match=r"address is .* expected an address that begins with http:// or https://"):
        family("endpoint", {"address": address})


def test_a_password_does_not_belong_into_the_address() -> None:
    with pytest.raises(ValueError, match="without a password: name an environment variable"):
        family("endpoint", {"address": "https://ana:secret@host/score"})
