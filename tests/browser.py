"""A real server and a real browser: `streamlit run app.py` on a free port, and Chromium with keys that are really pressed."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

import pytest

from tests.conftest import ROOT, until

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip
# what stands on the screen in each frame: the claim its keys belong to (of a study's card also the version and the question:
# as `drawn`, and as `live` for each value that can be pressed), the text of the card and of its keys, and how many values
# are marked as given;
# and how often the page sent the server a press of one of the card's buttons, by whatever key or click
_WATCH = r"""
    window.keysDown = [];  // those too that the page then stops
    addEventListener("keydown", (event) => window.keysDown.push(event.key), true);
    window.pressesSent = 0;
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (message) {
        const said = typeof message === "string" ? message : new TextDecoder("latin1").decode(message);
        const ofReview = /-(A|B|same|opposite|vague|toxic|repetitive|empty|press-[a-z]+)-[0-9a-f]{32}/;
        const ofRating = /-((value|jump|why)-\d+|back|on|submit|stay)-[0-9a-f]{32}|-undo-empty/;
        if (ofReview.test(said) || ofRating.test(said)) window.pressesSent++;
        return send.call(this, message);
    };
    const owner = /^st-key-(?:A|submit|stay)-([0-9a-f]{32}.*)$/;
    window.drawn = () => {
        const of = (prefix) => `[class*="st-key-${prefix}-"]:not([data-retained="true"])`;
        const button = document.querySelector(["A", "submit", "stay"].map(of).join());
        const found = button && [...button.classList].map((one) => owner.exec(one)).find((one) => one);
        return found ? found[1] : "";
    };
    window.painted = [];
    let awaited = false;  // a frame without a change shows nothing new, and a page that stands still costs nothing
    const look = () => {
        awaited = false;
        const drawn = window.drawn(), sides = document.querySelector(".er .sides");
        const keys = document.querySelector(".st-key-choices");
        if (drawn && sides && keys) {
            const marked = keys.querySelectorAll('[class*="st-key-value-"] button[kind="primary"]');
            const values = [...keys.querySelectorAll('[class*="st-key-value-"]:not([data-retained="true"])')];
            const live = [...new Set(values.map((one) => /st-key-value-\d+-(\S+)/.exec(one.className)[1]))].join(" ");
            const seen = {claim: drawn.slice(0, 32), drawn, live, text: sides.textContent, keys: keys.textContent};
            const last = window.painted.at(-1), same = (one) => last[one] === seen[one];
            if (!last || !Object.keys(seen).every(same)) {
                window.painted.push({...seen, marked: marked.length, at: performance.now()});
            }
        }
    };
    new MutationObserver(() => {
        if (!awaited) requestAnimationFrame(look);
        awaited = true;
    }).observe(document, {childList: true, subtree: true, attributes: true, characterData: true});
"""


_PORTS = 500  # of each of pytest's workers; all below those the machine gives away, which are soon somebody else's


def free_port() -> int:
    """A port of this machine that nobody listens on, of a stretch no other worker of this pytest takes one from."""
    first = 20_000 + _PORTS * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for port in random.SystemRandom().sample(range(first, first + _PORTS), _PORTS):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that is gone holds nothing up
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no port from {first} to {first + _PORTS - 1} is free")


class Server:
    """The app on a workspace's folder. While it runs it holds the database; stop it to look at what was stored."""

    def __init__(self, folder: Path, *, script: Path = ROOT / "app.py") -> None:
        self.folder, self.script, self.port = folder, script, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, on the same port as before, and wait until it answers."""
        command = [sys.executable, "-m", "streamlit", "run", str(self.script), "--server.port", str(self.port)]
        options = ["--server.address", "127.0.0.1", "--server.headless", "true", "--server.fileWatcherType", "none"]
        around = {**os.environ, "ELEPHANT_WORKSPACE": str(self.folder), "PYTHONPATH": str(ROOT)}
        self._log = (self.folder.parent / "server.log").open("ab")
        self._process = subprocess.Popen([*command, *options], cwd=ROOT, env=around, stdout=self._log, stderr=self._log)
        until(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the server ended:\n{self.log()}"
        try:
            with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait until it is gone; SIGKILL leaves it no time to do anything."""
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
            self._log.close()

    def log(self) -> str:
        """What it wrote so far."""
        return (self.folder.parent / "server.log").read_text(errors="replace")


@contextmanager
def serving(folder: Path, *, script: Path = ROOT / "app.py") -> Iterator[Server]:
    """A server that is gone afterwards."""
    server = Server(folder, script=script)
    try:
        yield server
    finally:
        server.stop()


def no_browser(reason: str) -> None:
    """Skip, unless the machine is one where the browser's tests must run."""
    if os.environ.get("ELEPHANT_BROWSER_TESTS") == "required":
        pytest.fail(f"ELEPHANT_BROWSER_TESTS=required, but {reason}")
    pytest.skip(reason)


@contextmanager
def chromium() -> Iterator[Any]:
    """The system's Chromium; without it, or without playwright, the test is skipped with the reason."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        no_browser("playwright is not installed: pip install -e '.[dev]'")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        no_browser("there is no chromium on the PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Person:
    """Somebody at a browser of their own: no cookies, no session, nothing shared with the others."""

    def __init__(self, browser: Any, server: Server, name: str, *, width: int = 1280, height: int = 900) -> None:
        self.name, self.server = name, server
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.context.add_init_script(_WATCH)
        self.hosts: set[str] = set()
        self.context.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page = self.context.new_page()
        self.page.set_default_timeout(90_000)  # how long a wait may last at most, on a busy machine
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, place: str = "review", **query: str) -> "Person":
        """Go to a page by its address and wait until it stands."""
        asked = "&".join(f"{key}={value}" for key, value in {"name": self.name, **query}.items())
        self.page.goto(f"{self.server.url}/{place}?{asked}")
        self.page.locator("h1").first.wait_for()
        self.rest()
        return self

    def reload(self) -> None:
        """Load the page again, as F5 does."""
        self.page.reload()
        self.page.locator("h1").first.wait_for()
        self.rest()

    def rest(self) -> None:
        """Wait until the server has nothing more to draw."""
        self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()

    def claim(self) -> str:
        """The claim of the card on the screen."""
        return self.drawn()[:32]

    def drawn(self) -> str:
        """What the keys on the screen belong to: the claim, and of a study's card its version and question; "" without."""
        return str(self.page.evaluate("window.drawn()"))

    def whole(self) -> str:
        """Wait until a card stands whole, its keys too: its fields are loaded later than its text. Returns its `drawn`."""
        self.page.wait_for_function(_WHOLE)
        return self.drawn()

    def card(self) -> str:
        """The two responses as they are shown, once the card stands whole."""
        self.whole()
        return str(self.page.locator(".er .sides").inner_text())

    def press(self, key: str) -> None:
        """Press a key and wait until another card or question, or none, has taken the place of this one."""
        before = self.whole()
        self.surely(key, f"window.drawn() !== {json.dumps(before)}")
        self.moved_from(before)

    def surely(self, key: str, done: str) -> None:
        """Press a key on a whole card and wait until this JavaScript is true. A key can be lost while something is drawn: then
        the page sends no press, or that of a card the server has just taken away, and like a person we press again."""
        from playwright.sync_api import TimeoutError as TookTooLong

        for _ in range(4):
            self.whole()
            if self.page.evaluate(done):
                return
            if not self._took(lambda: self.page.keyboard.press(key), done):
                continue
            try:
                self.page.wait_for_function(done, timeout=20_000)
            except TookTooLong:
                continue
            return
        self.page.wait_for_function(done)

    def hold(self, key: str, *, times: int = 20) -> None:
        """Hold a key down: it repeats so many times, 33 ms apart."""
        for _ in range(times):
            self.page.keyboard.down(key)
            self.page.wait_for_timeout(33)
        self.page.keyboard.up(key)

    def at_once(self, press: Callable[[], object]) -> None:
        """Press keys in any way on a whole card, again where all of them were lost: then the page has sent none."""
        for _ in range(4):
            self.whole()
            if self._took(press):
                return
        raise AssertionError("four times over the page has sent no press")

    def _took(self, press: Callable[[], object], done: str = "false") -> bool:
        """Whether the page sends a press of what is pressed, or this JavaScript becomes true."""
        from playwright.sync_api import TimeoutError as TookTooLong

        sent = self.sent()
        press()
        try:
            self.page.wait_for_function(f"{done} || window.pressesSent > {sent}", timeout=3_000)
        except TookTooLong:
            return False
        return True

    def sent(self) -> int:
        """How many presses of a card's buttons this page has sent since it was loaded."""
        return int(self.page.evaluate("window.pressesSent"))

    def moved_from(self, drawn: str) -> None:
        """Wait until what was drawn is gone and what comes next stands."""
        self.page.wait_for_function("drawn => window.drawn() !== drawn", arg=drawn)
        self.page.wait_for_function("window.drawn() !== '' || document.querySelector('.st-key-undo-empty')")
        self.rest()

    def text(self) -> str:
        """Everything that can be read on the page."""
        return str(self.page.locator('[data-testid="stMain"]').inner_text())

    def leave(self) -> None:
        """Close the window."""
        self.context.close()


_WHOLE = """() => {
    const claim = window.drawn().slice(0, 32);
    return claim !== ""
        && document.querySelector(`.st-key-press-help-${claim} button`)
        && document.querySelector(`.st-key-note-${claim} input`)
        && window.elephantNote
        && !(performance.now() < (window.elephantKeys || {opens: 0}).opens)
        && document.querySelector('[data-testid="stApp"]').dataset.testScriptState === "notRunning";
}"""
