"""From key press to the next pair painted, in a real browser, with 5,000 verdicts in the store.

Beside it, in the same browser, the least Streamlit can do: a page with one fragment, a text and the same six buttons.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

from curation.store.verdicts import Decision
from curation.workspace import Workspace
from tests import browser
from tests.bench import measure
from tests.conftest import ROOT

PRESSES = 120
FLOOR = """
import streamlit as st
@st.fragment
def card():
    n = st.session_state.setdefault("n", 0)
    st.text(f"text {n} " + "word " * 300)
    with st.container(horizontal=True, key="choices"):
        for key in "120tpe":
            st.button(f"Button {key}", key=f"{key}-{n:032d}", shortcut=key, on_click=lambda: st.session_state.update(n=n + 1))
card()
"""


def run(place: Path) -> None:
    """Measure and print."""
    _fill(place, verdicts=5000)
    script = place / "floor.py"
    script.write_text(FLOOR)
    rows = []
    with browser.chromium() as opened:
        ours = ("our review page", ROOT / "app.py", "/review?name=bench&pool=All+pairs")
        for name, page, path in (ours, ("bare Streamlit page", script, "/")):
            with browser.serving(place, script=page) as server:
                times = _presses(opened, server.url + path)
            answered = [one for one in times if one is not None]
            p50, p95 = measure.p50_p95(answered)
            rows.append((name, len(times), len(times) - len(answered), f"{p50:.0f}", f"{p95:.0f}"))
    measure.table("Key press to next pair painted, ms", ("page", "presses", "lost", "p50", "p95"), rows)


def _presses(opened: Any, address: str) -> list[float | None]:
    """Milliseconds from each press to the moment the buttons of another card are there, by the page's own clock.

    None stands for a press after which nothing came within five seconds.
    """
    page = opened.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(address)
    page.wait_for_selector(".st-key-choices button")
    page.evaluate(
        """() => {
            const card = () => document.querySelector(".st-key-choices [class*='st-key-']")?.className;
            window.waitFor = () => new Promise(done => {
                let before = card(), start = null;
                setTimeout(() => done(null), 5000);  // a press that never arrived
                addEventListener("keydown", () => { start = performance.now(); }, {once: true, capture: true});
                const look = () => {
                    const now = card();
                    if (start !== null && now && now !== before) requestAnimationFrame(() => done(performance.now() - start));
                    else requestAnimationFrame(look);
                };
                look();
            });
        }"""
    )
    times: list[float | None] = []
    for number in range(PRESSES + 5):
        page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')  # a person reads first
        page.wait_for_function("!(performance.now() < (window.elephantKeys || {opens: 0}).opens)")
        page.evaluate("() => { window.result = window.waitFor(); }")
        page.keyboard.press("1" if number % 2 else "2")
        times.append(page.evaluate("() => window.result"))
    return times[5:]


def _fill(place: Path, *, verdicts: int) -> None:
    workspace = Workspace(place)
    at = workspace.clock()
    pairs = [pair_id for _, pair_id, _, _ in workspace.pairs.rows_in_order("bench")]
    workspace.verdicts.add(
        Decision(
            f"bench-{number}", "bench", pair_id, f"person {number % 7}", "same", "open", "A", 8.0, "", [],
            at - timedelta(seconds=number),
        )
        for number, pair_id in enumerate(pairs[-verdicts:])
    )  # fmt: skip
    workspace.close()
