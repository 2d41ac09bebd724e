"""Asking a server over HTTP: JSON goes there, its answer comes back; one that is away, busy or fails is asked again.

The token that lets one in is read from the environment, sent to this one address alone, and stands in no message.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

_PATIENCE = 600.0  # seconds that one request waits in all because the server said so, besides its tries
_READ, _SHOWN = 1 << 16, 400  # bytes of a refusal that are read, characters of it that are told

T = TypeVar("T")
R = TypeVar("R")


class Refused(ValueError):
    """A server does not answer this, however often it is asked."""


class Server:
    """What is behind an address. `what` names it in messages ("the endpoint"); `sleep` is given seconds."""

    def __init__(
        self, what: str, address: str, token: str = "", *, timeout: float, tries: int, wait: float,
        sleep: Callable[[float], object] = time.sleep, now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.name = f"{what} {address}"
        self.address, self._token, self._timeout, self._tries, self._wait = address, token, timeout, tries, wait
        self._sleep, self._now, self._opener = sleep, now, _opener()
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def answer(self, body: bytes) -> bytes:
        """What the server answers. Raises Refused where it does not want to, ValueError where it gives no answer in so many
        tries.

        One that says how long to wait (Retry-After) is left alone so long; that counts as no try.
        """
        seen, failed, patience = "", 0, _PATIENCE
        while failed < self._tries:
            told: float | None = None
            try:
                with self._opener.open(Request(self.address, body, self._headers), timeout=self._timeout) as answer:
                    return bytes(answer.read())
            except HTTPError as error:
                seen = self._words(error)
                if error.code < 500 and error.code not in (408, 429):  # too slow, too much at once
                    raise Refused(f"{self.name} refused the request: {seen}") from None
                told = pause(error.headers.get("Retry-After"), self._now())
            except (URLError, HTTPException, OSError) as error:
                seen = self.without_token(str(getattr(error, "reason", "") or error) or type(error).__name__)
            if told and told > patience:
                raise ValueError(f"{self.name} asks to be left alone for {told:,.0f} seconds: resume later; it said: {seen}")
            if told:
                patience -= told
                self._sleep(told)
            else:
                failed += 1
                if failed < self._tries:
                    self._sleep(self._wait * 2 ** (failed - 1))
        raise ValueError(f"{self.name} did not answer in {self._tries} tries; the last time: {seen}")

    def without_token(self, words: str) -> str:
        """The same words, its token blotted out: a server may repeat what it was sent."""
        return words.replace(self._token, "***") if self._token else words

    def _words(self, error: HTTPError) -> str:
        """A refusal in the server's own words, the beginning of them."""
        try:
            said = error.read(_READ).decode(errors="replace")
        except (OSError, HTTPException):
            said = ""
        said = self.without_token(" ".join(said.split()))[:_SHOWN] or "no reason given"
        return f"{error.code} {self.without_token(str(error.reason))}: {said}"


def checked_address(address: str) -> str:
    """The address. Raises ValueError for one that is not of the web, or that holds a password."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an address that begins with http:// or https://")
    if parts.username or parts.password:
        raise ValueError("expected an address without a password: name an environment variable as token_variable")
    return address


def checked_variable(name: str) -> str:
    """The name of an environment variable, or "". Raises ValueError for what is none, such as the token itself."""
    if name and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("expected the name of an environment variable that holds the token, not the token itself")
    return name


def token_of(variable: str) -> str:
    """The token that an environment variable holds; "" where none is named. Raises ValueError where it holds none."""
    token = os.environ.get(variable, "").strip() if variable else ""
    if variable and not token:
        raise ValueError(f"the environment variable {variable!r}, which should hold a token, is not set")
    if not re.fullmatch(r"[\x21-\x7e]*", token):  # http.client would repeat it in its message
        raise ValueError(f"the environment variable {variable!r} holds no token: expected letters, digits and marks alone")
    return token


def pause(header: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for, given in seconds or as a date; None where it asks for nothing."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except ValueError:
        return None


def in_parallel(work: Callable[[T], R], some: Sequence[T], *, at_once: int) -> list[R]:
    """`work` of each, in their order, so many at once. After the first error nothing new is begun, and it is raised."""
    failed = threading.Event()

    def guarded(one: T) -> R:
        if failed.is_set():
            raise CancelledError  # seen by nobody: the error before it is raised first
        try:
            return work(one)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(guarded, some))


class _NoRedirect(HTTPRedirectHandler):
    """A redirect is an answer like any other: the token is for this address only."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener() -> OpenerDirector:
    return build_opener(_NoRedirect())
