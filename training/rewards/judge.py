"""Judge: a language model that is asked which of two responses is better, behind an address or on this machine."""

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from training.rewards.asked import Server, checked_address, checked_variable, token_of
from training.rewards.base import Comparer, Weighted
from training.rewards.judge_question import INSTRUCTIONS

_SERVED = ("model", "token_variable", "max_tokens", "request", "at_once", "timeout", "tries", "wait")
_LOCAL = ("revision", "max_length", "dtype", "remote_code", "batch_tokens")
_NOT_ASKED = ("model", "messages", "stream", "n")  # fields of a request that are not a person's to choose


class Judge(Weighted):
    """An LLM that compares, in both orders: one behind an OpenAI-compatible address, or a causal model on this machine.

    One behind an address writes an answer whose verdict is read; one here is asked for P(A) against P(B) as its next token.
    """

    name: ClassVar[str] = "judge"
    compares: ClassVar[bool] = True
    template: ClassVar[str] = "instructions, conversation and both responses between marks, in the model's own chat template"
    log_odds: ClassVar[bool] = False  # of a verdict P is 0, a half or 1

    source: str = Field("", description="a causal model on this machine: a folder, a built-in name, or an id on the hub")
    address: str = Field(
        "", description="or an OpenAI-compatible server, http:// or https:// (often ending in /v1; /chat/completions is added)"
    )
    model: str = Field("", description="with address: the model's name there")
    token_variable: str = Field(
        "", description="the environment variable that holds the server's token; the token itself is never stored"
    )
    instructions: str = Field(
        "", validate_default=True, description="what makes a response better, in your words; by default more helpful, correct "
        "and harmless, whatever its length and place",
    )  # fmt: skip
    max_tokens: int = Field(1024, ge=0, description="with address: tokens of an answer; 0: the server's own limit")
    request: dict[str, Any] = Field(
        {}, description='further fields of each request as JSON, {"seed": 1}; null takes one of ours out, {"temperature": null}'
    )
    at_once: int = Field(8, ge=1, le=256, description="requests sent at once")
    timeout: float = Field(120.0, gt=0, description="seconds to wait for an answer")
    tries: int = Field(
        4, ge=1, le=20, description="how often to ask before giving up, where the server fails or an answer holds no verdict"
    )
    wait: float = Field(1.0, ge=0, description="seconds before the second try; doubled before each further one")

    @field_validator("instructions")
    @classmethod
    def _written_out(cls, instructions: str) -> str:
        """In full, so that a registered judge stays what it was when ours change."""
        return instructions.strip() or INSTRUCTIONS

    @field_validator("address")
    @classmethod
    def _is_http(cls, address: str) -> str:
        if "?" in address or "#" in address:
            raise ValueError("expected an address without ? and #: name an environment variable as token_variable for a key")
        return checked_address(address).rstrip("/") if address else ""

    @field_validator("token_variable")
    @classmethod
    def _is_a_name(cls, variable: str) -> str:
        return checked_variable(variable)

    @model_validator(mode="after")
    def _one_way(self) -> "Judge":
        if bool(self.address) == bool(self.source):
            raise ValueError("expected address=URL and model=NAME, or source=MODEL: one of the two ways to reach a judge")
        if self.address and not self.model:
            raise ValueError("model is missing: expected model=NAME, what the server at address calls it")
        way, others = ("address", _LOCAL) if self.address else ("source", _SERVED)
        given = self.model_dump(exclude_defaults=True)
        for one in filter(given.__contains__, others):
            raise ValueError(f"{one} goes with {'source' if self.address else 'address'}, not with {way}")
        for one in filter(self.request.__contains__, _NOT_ASKED):
            raise ValueError(f"request holds {one!r}: expected other fields than {', '.join(_NOT_ASKED)}")
        return self

    def sources(self) -> Iterator[str]:
        yield from filter(None, [self.source])

    def memory(self) -> int | None:
        return super().memory() if self.source else 0

    def load(self, *, device: str = "auto") -> Comparer:
        """Raises ValueError where the variable with the token is not set, or the weights are of no causal model."""
        from training.rewards.judge_local import LocalJudge
        from training.rewards.judge_served import ServedJudge

        if self.source:
            return LocalJudge(self, self.instructions, device=device)
        server = Server(
            "the judge", f"{self.address}/chat/completions", token_of(self.token_variable), timeout=self.timeout,
            tries=self.tries, wait=self.wait,
        )  # fmt: skip
        return ServedJudge(server, self.instructions, self._request(), tries=self.tries, at_once=self.at_once)

    def _request(self) -> dict[str, Any]:
        """What every request holds besides its messages."""
        fields = {"model": self.model, "temperature": 0, "max_tokens": self.max_tokens or None, **self.request}
        return {name: value for name, value in fields.items() if value is not None}
