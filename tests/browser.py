"""A real server and a real browser: `streamlit run app.py` on a free port, and Chromium with keys that are really pressed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
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
# what stands on the screen in each frame: the claim its keys belong to, and the text of the card
_WATCH = """
    window.painted = [];
    const look = () => {
        const button = document.querySelector('[class*="st-key-A-"]:not([data-retained="true"])');
        const sides = document.querySelector(".er .sides");
        if (button && sides) {
            const claim = [...button.classList].find((one) => one.startsWith("st-key-A-")).slice("st-key-A-".length);
            const seen = {claim, text: sides.textContent, at: performance.now()}, last = window.painted.at(-1);
            if (!last || last.claim !== claim || last.text !== seen.text) window.painted.push(seen);
        }
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
"""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        until(self._answers, seconds=60)

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
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=10)
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
        self.page.set_default_timeout(20_000)
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
        return str(self.page.evaluate(_CLAIM))

    def card(self) -> str:
        """The two responses as they are shown, once the card stands whole: its fields are loaded later than its text."""
        self.page.locator(".st-key-note-area input").first.wait_for(state="attached")
        self.page.locator('[class*="st-key-A-"]:not([data-retained="true"])').wait_for()
        self.rest()
        return str(self.page.locator(".er .sides").inner_text())

    def press(self, key: str) -> None:
        """Press a key and wait until another card, or none, has taken the place of this one."""
        before = self.claim()
        self.page.keyboard.press(key)
        self.moved_from(before)

    def moved_from(self, claim: str) -> None:
        """Wait until the card of this claim is gone and what comes next stands."""
        self.page.wait_for_function(f"claim => ({_CLAIM}) !== claim", arg=claim)
        self.page.locator('[class*="st-key-A-"]:not([data-retained="true"]), .st-key-undo-empty').first.wait_for()
        self.rest()

    def text(self) -> str:
        """Everything that can be read on the page."""
        return str(self.page.locator('[data-testid="stMain"]').inner_text())

    def leave(self) -> None:
        """Close the window."""
        self.context.close()


_CLAIM = """
    [...(document.querySelector('[class*="st-key-A-"]:not([data-retained="true"])') || {classList: []}).classList]
        .filter((one) => one.startsWith("st-key-A-")).map((one) => one.slice("st-key-A-".length))[0] || ""
"""
