"""Review as a person does it: the real app in a real browser, by key; DESIGN.md section 5."""

import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from curation import review, runs
from curation.importing import import_source
from curation.review import Settings, Verdict
from curation.sources import source_of
from curation.workspace import Workspace
from tests.browser import Person, Server, chromium, serving
from tests.conftest import flag_pairs, import_rows, numbered, until

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def prepared(folder: Path, rows: list[dict[str, str]], *, name: str = "small", **settings: object) -> list[str]:
    """A workspace whose pairs are all flagged, to be reviewed in row order; returns their ids."""
    with closing(Workspace(folder)) as workspace:
        ids = import_rows(workspace, rows, name)
        flag_pairs(workspace, {pair_id: 1 - place / 1000 for place, pair_id in enumerate(ids)}, dataset=name)
        chosen = Settings(control_share=0, gold_share=0).model_copy(update=settings)
        review.change_settings(workspace, name, chosen, "curator")
    return ids


@pytest.fixture
def desk(tmp_path, browser):
    """A server on twelve pairs, and a way to sit down at it."""
    prepared(tmp_path / "workspace", numbered(12))
    with serving(tmp_path / "workspace") as server:
        yield Desk(server, browser)


class Desk:
    def __init__(self, server: Server, browser) -> None:
        self.server, self._browser = server, browser

    def person(self, name: str, **size: int) -> Person:
        return Person(self._browser, self.server, name, **size).open()

    @contextmanager
    def stored(self) -> Iterator[Workspace]:
        """What is in the store; the server is over then."""
        self.server.stop()
        with closing(Workspace(self.server.folder)) as workspace:
            yield workspace


def asked(person: Person) -> str:
    """The question on the card."""
    person.card()
    return str(person.page.locator(".er .turn.user .text").last.inner_text())


def sides(person: Person) -> tuple[str, str]:
    """The two responses on the card, A and B."""
    person.card()
    a, b = person.page.locator(".er .side .text").all_inner_texts()
    return a, b


def standing(workspace: Workspace) -> list[tuple[str, str, str]]:
    """Question, person, verdict of everything that stands, in order."""
    return [
        (workspace.pairs.pair(one.pair_id).prompt[-1].content, one.person, one.verdict) for one in workspace.verdicts.standing()
    ]


def see(person: Person, words: str) -> None:
    person.page.get_by_text(words).first.wait_for()


# ---- one press, one verdict


def test_one_press_is_one_verdict_and_the_next_pair(desk):
    began = time.monotonic()
    ana, expected = desk.person("ana"), []
    keys = dict(zip("120tpe", ("A", "B", "vague", "toxic", "repetitive", "empty"), strict=True))
    for number, key in enumerate("120tpe121212"):
        (a, b), question = sides(ana), asked(ana)
        assert question == f"Question {number}?"
        good = f"Good answer {number}."
        assert {a, b} == {good, f"Bad answer {number}."}
        choice, chosen_shown = keys[key], "A" if a == good else "B"
        expected.append((question, "ana", review.verdict_of(choice, chosen_shown), chosen_shown))
        ana.press(key)
        see(ana, f"{number + 1} done, {11 - number} left")
    see(ana, "Nothing left to review here")
    assert {verdict for _, _, verdict, _ in expected} == set(Verdict)
    with desk.stored() as workspace:
        events = [(one["chosen_shown"], one["undone_at"]) for one in workspace.verdicts.events()]
        assert standing(workspace) == [one[:3] for one in expected]
        assert events == [(chosen_shown, None) for *_, chosen_shown in expected]
        took = [one.seconds for one in workspace.verdicts.standing()]
        assert min(took) >= 0
        assert sum(took) < time.monotonic() - began  # seconds, and each pair its own


def helped(person: Person) -> None:
    """Open the help by its key: what was pressed and typed before has arrived then, since keys arrive in order."""
    person.surely("h", "document.querySelector('[data-testid=stMain]').innerText.includes('show the word difference')")
    see(person, "show the word difference")


def test_five_presses_at_once_never_decide_a_pair_that_was_not_on_the_screen(desk):
    ana = desk.person("ana")
    ana.page.evaluate("addEventListener('keydown', (one) => one.key === '1' && window.pressed.push(performance.now()), true)")

    def five_times() -> None:
        ana.page.evaluate("window.pressed = []; window.keysDown = []")
        for _ in range(5):
            ana.page.keyboard.press("1")

    ana.at_once(five_times)
    helped(ana)  # once this is done they are all over
    ana.rest()
    pressed = ana.page.evaluate("window.pressed")  # those that the page let through
    assert ana.page.evaluate("window.keysDown").count("1") == 5
    painted = {one["claim"]: one for one in reversed(ana.page.evaluate("window.painted"))}
    next_one = asked(ana)
    with desk.stored() as workspace:
        decided = workspace.verdicts.standing()
        assert 1 <= len(decided) <= 5
        for one in decided:
            pair, seen = workspace.pairs.pair(one.pair_id), painted[one.claim_id]
            assert pair.chosen.text in seen["text"]
            assert pair.rejected.text in seen["text"]
            pressed = [at for at in pressed if at > seen["at"]][1:] if any(at > seen["at"] for at in pressed) else None
            assert pressed is not None, "decided by a press that came before its pair was painted"
        assert next_one == f"Question {len(decided)}?"
    assert ana.errors == []


def test_a_double_click_decides_one_pair_and_a_key_held_down_one_more(desk):
    ana = desk.person("ana")
    first = ana.whole()
    button = '[class*="st-key-A-"]:not([data-retained="true"]) button'
    ana.page.evaluate(
        """([first, button]) => {  // the second click comes with the next card
            window.second = "";
            new MutationObserver((_, watch) => {
                if (window.drawn() === first || !document.querySelector(button)) return;
                watch.disconnect();
                window.second = window.drawn();
                document.querySelector(button).click();
            }).observe(document.body, {childList: true, subtree: true});
        }""",
        [first, button],
    )
    ana.page.locator(button).first.click()
    see(ana, "1 done, 11 left")
    assert ana.whole() == ana.page.evaluate("window.second") != ""
    ana.at_once(lambda: ana.hold("2"))
    see(ana, "2 done, 10 left")
    ana.press("0")
    with desk.stored() as workspace:
        assert [question for question, *_ in standing(workspace)] == ["Question 0?", "Question 1?", "Question 2?"]


_WITH_THE_NEXT_CARD = """([first, key]) => {  // a press that comes when the next card was painted, too soon to have read it
    window.tooSoon = null;
    const press = () => {
        window.tooSoon = performance.now() < window.elephantKeys.opens;
        for (const one of ["keydown", "keyup"]) {
            document.body.dispatchEvent(new KeyboardEvent(one, {...key, bubbles: true, cancelable: true}));
        }
    };
    const after = (frames) => requestAnimationFrame(() => frames ? after(frames - 1) : press());
    new MutationObserver((_, watch) => {
        if (window.drawn() === first || window.drawn() === "") return;
        watch.disconnect();
        after(2);
    }).observe(document.body, {childList: true, subtree: true});
}"""


def answered_with_a_press_behind(person: Person, key: str, behind: dict[str, object]) -> bool:
    """Answer a card by key, with another press as the next one was painted; whether that one came too soon to count."""
    person.page.evaluate(_WITH_THE_NEXT_CARD, [person.whole(), behind])
    person.press(key)
    person.page.wait_for_function("window.tooSoon !== null")
    helped(person)
    return bool(person.page.evaluate("window.tooSoon"))


@pytest.mark.parametrize(
    ("key", "verdict"),
    [
        ({"key": "t"}, "toxic"),
        ({"key": "е", "code": "KeyT"}, "toxic"),  # Russian: the key where T is
        ({"key": "&", "code": "Digit1", "keyCode": 49}, ""),  # French: the key of 1
    ],
)
def test_a_press_too_soon_does_not_count_whatever_the_keyboard_is_labelled(desk, key, verdict):
    ana = desk.person("ana")
    too_soon = answered_with_a_press_behind(ana, "0", key)
    expected = ["vague"] if too_soon else ["vague", verdict]
    see(ana, f"{len(expected)} done")
    ana.whole()
    ana.page.evaluate(
        "(key) => document.body.dispatchEvent(new KeyboardEvent('keydown', {...key, bubbles: true, cancelable: true}))", key
    )
    see(ana, f"{len(expected) + 1} done")  # a press in time does
    with desk.stored() as workspace:
        found = [one.verdict for one in workspace.verdicts.standing()]
        assert (found[0], len(found)) == ("vague", len(expected) + 1)
        assert found[-1] == (verdict or found[-1])


def test_undo_counts_at_once_and_pressed_twice_or_held_down_takes_back_one_answer(desk):
    ana = desk.person("ana")
    for key in "120":
        ana.press(key)
    answered_with_a_press_behind(ana, "t", {"key": "u"})
    see(ana, "3 done, 9 left")
    assert asked(ana) == "Question 3?"
    ana.at_once(lambda: [ana.page.keyboard.press("u") for _ in range(2)])
    see(ana, "2 done, 10 left")
    ana.rest()
    assert asked(ana) == "Question 2?"
    ana.at_once(lambda: ana.hold("u"))
    see(ana, "1 done, 11 left")
    ana.rest()
    with desk.stored() as workspace:
        assert [question for question, *_ in standing(workspace)] == ["Question 0?"]


def test_space_and_enter_press_the_button_that_was_gone_to_by_tab(desk):
    ana = desk.person("ana")

    def gone_to(name: str) -> None:
        ana.page.locator(f'[class*="st-key-{name}-{ana.whole()}"] button').first.focus()
        ana.page.keyboard.press("Shift+Tab")
        ana.page.keyboard.press("Tab")

    gone_to("press-difference")
    ana.page.keyboard.press("Space")
    ana.page.locator(".er del").first.wait_for()
    assert asked(ana) == "Question 0?"  # not skipped
    gone_to("toxic")
    ana.page.keyboard.press("Enter")
    see(ana, "1 done, 11 left")
    assert asked(ana) == "Question 1?"
    ana.page.locator(f'[class*="st-key-press-difference-{ana.whole()}"] button').click()
    ana.page.locator(".er del").first.wait_for(state="detached")
    ana.press("Space")  # clicked, not gone to by Tab: the shortcut
    assert asked(ana) == "Question 2?"
    with desk.stored() as workspace:
        assert standing(workspace) == [("Question 0?", "ana", "toxic")]


_SETTLES = """document.querySelector('[class*="st-key-same-"]:not([data-retained="true"])').className"""
_SETTLES_WHOLE = """document.querySelector('[class*="st-key-same-"]:not([data-retained="true"])')
    && window.elephantKeys && window.elephantKeys.opens > 0 && performance.now() >= window.elephantKeys.opens"""
_ANOTHER_SETTLES = f"(before) => {_SETTLES_WHOLE} && {_SETTLES} !== before"


def test_three_presses_at_once_settle_one_disputed_pair(tmp_path, browser):
    folder = tmp_path / "workspace"
    prepared(folder, numbered(3), overlap=2)
    with closing(Workspace(folder)) as workspace:
        for person, choice in (("ana", "1"), ("ben", "0")):
            while card := review.next_card(workspace, person, "small", review.View()):
                review.decide(workspace, card.claim.claim_id, person, {"1": "A", "0": "vague"}[choice])
    with serving(folder) as server:
        lead = Person(browser, server, "lead").open("adjudicate")
        before = ""
        lead.page.get_by_text("Show names").click()
        lead.page.wait_for_function("document.activeElement === document.body")  # the switch keeps no key to itself
        for left in (3, 2):
            see(lead, f"1 of {left}")
            lead.rest()
            lead.page.wait_for_function(_ANOTHER_SETTLES, arg=before)
            before = lead.page.evaluate(_SETTLES)
            for _ in range(4):  # again where the page sent none of them
                sent = lead.sent()
                for _ in range(3):
                    lead.page.keyboard.press("1")
                if lead.sent() > sent:
                    break
                lead.page.wait_for_function(_SETTLES_WHOLE)
        see(lead, "1 of 1")
        lead.rest()
        with Desk(server, browser).stored() as workspace:
            assert [one.verdict for one in workspace.verdicts.settlements("small")] == ["same", "same"]
            assert len(workspace.verdicts.disputed("small", settled=False)) == 1


def test_a_second_tab_of_the_same_person_cannot_answer_the_same_card_again(desk):
    ana, again = desk.person("ana"), desk.person("ana")
    assert asked(ana) == asked(again) == "Question 0?"
    ana.press("1")
    again.press("2")  # that card is over
    see(again, "nothing was recorded")
    assert asked(again) == "Question 1?"
    with desk.stored() as workspace:
        assert [question for question, *_ in standing(workspace)] == ["Question 0?"]


# ---- claims


def test_two_people_never_hold_one_pair(desk):
    ana, ben = desk.person("ana"), desk.person("ben")
    for first, second in [(ana, ben), (ben, ana), (ana, ben), (ben, ana), (ana, ben)]:
        assert asked(first) != asked(second)
        first.press("1")
        assert asked(first) != asked(second)
        second.reload()
        assert asked(first) != asked(second)
        second.press("0")
    with desk.stored() as workspace:
        decided = workspace.verdicts.standing()
        assert len({one.pair_id for one in decided}) == len(decided) == 10
        assert {one.person for one in decided} == {"ana", "ben"}


def test_a_closed_tab_gives_its_pair_back_to_its_person_at_once_and_to_others_after_its_time(tmp_path, browser):
    prepared(tmp_path / "workspace", numbered(1), least_claim_minutes=0.05)
    with serving(tmp_path / "workspace") as server:
        desk = Desk(server, browser)
        for _ in range(2):  # the second time in a new window
            ana = desk.person("ana")
            assert asked(ana) == "Question 0?"
            ana.leave()
        ben = desk.person("ben")

        def has_it() -> bool:
            ben.open()
            ben.page.locator('[class*="st-key-A-"]:not([data-retained="true"]), .st-key-undo-empty').first.wait_for()
            return ben.claim() != ""

        until(has_it)
        assert asked(ben) == "Question 0?"
        ben.press("2")
        with desk.stored() as workspace:
            claims = workspace.database.rows("SELECT person, claimed_at, expires_at FROM claims ORDER BY claimed_at")
            assert {one[0] for one in claims[:-1]} == {"ana"}
            assert (claims[-1][0], claims[-1][1] >= claims[-2][2]) == ("ben", True)  # not a moment before its time was over
            assert [(question, who) for question, who, _ in standing(workspace)] == [("Question 0?", "ben")]


# ---- the other keys


def test_undo_takes_the_last_answer_back_and_shows_its_pair_again(desk):
    ana = desk.person("ana")
    before = sides(ana)
    ana.press("t")
    see(ana, "1 done, 11 left")
    ana.press("u")
    see(ana, "0 done, 12 left")
    assert (asked(ana), sides(ana)) == ("Question 0?", before)
    ana.press("0")
    assert asked(ana) == "Question 1?"
    with desk.stored() as workspace:
        assert standing(workspace) == [("Question 0?", "ana", "vague")]
        assert [(one["verdict"], one["undone_at"] is None) for one in workspace.verdicts.events()] == [
            ("toxic", False),
            ("vague", True),
        ]


def test_space_skips_and_skipped_pairs_come_again_when_they_are_asked_for(tmp_path, browser):
    prepared(tmp_path / "workspace", numbered(2))
    with serving(tmp_path / "workspace") as server:
        desk = Desk(server, browser)
        ana = desk.person("ana")
        ana.press("Space")
        assert asked(ana) == "Question 1?"
        ana.press("1")
        ana.page.get_by_role("button", name="Go through the skipped pairs").click()
        assert asked(ana) == "Question 0?"
        ana.press("e")
        see(ana, "2 done, 0 left")
        with desk.stored() as workspace:
            assert [question for question, *_ in standing(workspace)] == ["Question 1?", "Question 0?"]


@pytest.mark.parametrize("delay", [0, 60])
def test_a_note_full_of_shortcut_letters_is_kept_and_decides_nothing(desk, delay):
    ana = desk.person("ana")
    assert asked(ana) == "Question 0?"
    ana.page.keyboard.press("n")
    ana.page.keyboard.type("the epic top hat 120", delay=delay)
    ana.page.keyboard.press("Tab")
    assert asked(ana) == "Question 0?"
    ana.press("2")
    assert asked(ana) == "Question 1?"
    assert ana.page.locator(".st-key-note-area input").last.input_value() == ""
    ana.press("0")
    with desk.stored() as workspace:
        first, second = workspace.verdicts.standing()
        assert (first.note, second.note) == ("the epic top hat 120", "")
        assert [question for question, *_ in standing(workspace)] == ["Question 0?", "Question 1?"]


def test_a_note_begun_while_the_next_card_is_drawn_decides_nothing(desk):
    ana = desk.person("ana")

    def answered_and_noted() -> bool:
        ana.card()
        before = ana.sent()
        ana.page.keyboard.press("0")
        ana.page.keyboard.press("n")
        ana.page.keyboard.type("tepid", delay=40)
        ana.page.keyboard.press("Tab")
        return ana.sent() > before  # otherwise the 0 was lost, and nothing was decided that could go wrong

    assert any(answered_and_noted() for _ in range(4))
    helped(ana)
    assert asked(ana) == "Question 1?"
    with desk.stored() as workspace:
        assert standing(workspace) == [("Question 0?", "ana", "vague")]


def test_a_draft_survives_a_closed_tab(desk):
    ana = desk.person("ana")
    ana.card()
    ana.page.keyboard.press("n")
    ana.page.keyboard.type("half a thought")
    elsewhere = desk.person("ana")
    note = elsewhere.page.locator(".st-key-note-area input").last

    def kept() -> bool:
        elsewhere.open()
        elsewhere.card()
        return bool(note.input_value() == "half a thought")

    until(kept)  # no key was pressed to keep it
    ana.leave()
    elsewhere.open()
    elsewhere.card()
    assert note.is_visible()
    elsewhere.press("0")
    with desk.stored() as workspace:
        assert [one.note for one in workspace.verdicts.standing()] == ["half a thought"]


def test_difference_and_help_are_a_key_away_and_change_no_answer(desk):
    ana = desk.person("ana")
    ana.card()
    texts = sides(ana)
    ana.surely("d", "document.querySelector('.er del') !== null")
    assert sides(ana) == texts
    assert {*ana.page.locator(".er del, .er ins").all_inner_texts()} == {"Good", "Bad"}
    helped(ana)
    see(ana, "no telling which is better")
    assert [asked(ana), ana.page.locator(".er del").count()] == ["Question 0?", 1]
    with desk.stored() as workspace:
        assert standing(workspace) == []


def test_the_keys_stand_on_the_buttons_and_the_bar_of_choices_stays_in_sight(tmp_path, browser):
    long = {
        "chosen": "\n\nHuman: Go on.\n\nAssistant: " + "A word. " * 900,
        "rejected": "\n\nHuman: Go on.\n\nAssistant: " + "No. " * 900,
    }
    prepared(tmp_path / "workspace", [long])
    with serving(tmp_path / "workspace") as server:
        for width in (1280, 390):
            ana = Person(browser, server, "ana", width=width, height=780).open()
            ana.card()
            bar = ana.page.locator(".st-key-choices")
            bar.locator("kbd:visible").nth(5).wait_for()
            assert bar.locator("kbd:visible").all_inner_texts() == ["1", "2", "0", "T", "P", "E"]
            place = bar.bounding_box()
            assert place["y"] + place["height"] <= 780
            assert ana.page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= width
            assert re.match(r"rgb\(", bar.evaluate("one => getComputedStyle(one).backgroundColor"))  # opaque
            ana.leave()


def test_somebody_without_a_name_gives_one_and_the_address_keeps_it(desk):
    ana = desk.person("")
    ana.page.get_by_label("Your name").fill("ana")
    ana.page.get_by_role("button", name="Start").click()
    assert asked(ana) == "Question 0?"
    ana.reload()
    assert asked(ana) == "Question 0?"
    ana.press("0")
    with desk.stored() as workspace:
        assert standing(workspace) == [("Question 0?", "ana", "vague")]


# ---- blind


@pytest.fixture(scope="module")
def screened(sample_workspace) -> Path:
    """A workspace with the sample, really screened."""
    return sample_workspace


_OURS = """() => {
    const page = document.querySelector('[data-testid="stMain"]').cloneNode(true);
    page.querySelectorAll(".er .text").forEach((one) => one.remove());
    return page.textContent;
}"""


def named(person: Person) -> list[str]:
    """The labels' words wherever the page itself says something, the responses' own words left out."""
    return re.findall(r"(?i)chosen|rejected", person.page.evaluate(_OURS))


def test_labels_and_reasons_are_hidden_until_the_answer_and_shown_after_it(screened, tmp_path, browser):
    folder = shutil.copytree(screened, tmp_path / "workspace")
    with closing(Workspace(folder)) as workspace:
        review.change_settings(workspace, "sample", Settings(control_share=0), "curator")
    with serving(folder) as server:
        desk = Desk(server, browser)
        ana = desk.person("ana")
        ana.card()
        assert named(ana) == []
        assert ana.page.locator(".er .reasons").count() == 0
        assert "No filter flags" not in ana.text()
        ana.press("1")
        ana.page.locator(".er .reasons li").first.wait_for()
        shown = ana.page.locator(".er .reasons li").all_inner_texts()
        with desk.stored() as workspace:
            (one,) = workspace.verdicts.standing()
            found = review.reasons(workspace, "sample", one.pair_id)
            assert shown == [f"{f['filter']} ({f['side']}, {f['score']:.2f}): {f['reason']}" for f in found] != []


def test_reasons_shown_before_the_answer_do_not_tell_which_side_is_chosen(screened, tmp_path, browser):
    folder = shutil.copytree(screened, tmp_path / "workspace")
    with closing(Workspace(folder)) as workspace:
        review.change_settings(workspace, "sample", Settings(reasons="before", control_share=0), "curator")
    with serving(folder) as server:
        desk = Desk(server, browser)
        ana, seen = desk.person("ana"), []
        for _ in range(8):
            ana.card()
            reasons = ana.page.locator(".er .reasons").first.locator("li")
            reasons.first.wait_for()
            seen.append((ana.claim(), reasons.all_inner_texts()))
            assert not re.search("(?i)chosen|rejected", " ".join(seen[-1][1]))
            ana.press("Space")
        with desk.stored() as workspace:
            claims = {one[0]: one[1:] for one in workspace.database.rows("SELECT claim_id, pair_id, chosen_shown FROM claims")}
            for claim_id, reasons in seen:
                pair_id, chosen_shown = claims[claim_id]
                called = {"chosen": chosen_shown, "rejected": "B" if chosen_shown == "A" else "A"}
                found = review.reasons(workspace, "sample", pair_id)
                hidden = [
                    one for one in found if one["filter"] == "contested" or (one["filter"], one["side"]) == ("toxic", "chosen")
                ]
                expected = {(one["filter"], called.get(one["side"], one["side"])) for one in found if one not in hidden}
                told = [one for one in reasons if not one.startswith("flagged for a reason that would tell the label")]
                assert {tuple(re.match(r"(\w+) \((\w+),", one).groups()) for one in told} == expected
                assert len(reasons) - len(told) == bool(hidden)


# ---- text is text


class Leaks:
    """A server on this machine that nothing should ever ask for anything."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        note = self.asked.append

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                note(self.path)
                self.send_error(404)

            log_message = partial(lambda *_: None)

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def hostile_texts(port: int) -> list[str]:
    place = f"http://127.0.0.1:{port}"
    return [
        "<script>window.pwned=1</script>",
        '<img src=x onerror="window.pwned=1">',
        f'<img src="{place}/image.png"><iframe src="{place}/frame"></iframe><style>@import "{place}/style.css";</style>',
        f"![x]({place}/markdown.png) [click](javascript:window.pwned=1) <{place}/auto>",
        r"$\frac{1}{2}$ and $$\int_0^1 x$$ :material/home: :red[x] :streamlit:",
        "</div></div></details><details open><summary>more</summary>inside</details>",
        "&lt;b&gt; &amp;amp; &#60;i&#62; <b>bold</b> **bold** # head `code` ~~gone~~",
        "<svg onload=window.pwned=1> <a href=javascript:window.pwned=1>go</a>\n\n    four spaces\n- a list\n\n| a |\n|---|",
    ]


@pytest.mark.slow  # half a minute; what is drawn of hostile text is also looked at without a browser
def test_hostile_text_is_shown_as_it_is_and_loads_nothing(tmp_path, browser):
    leaks = Leaks()
    bad = hostile_texts(leaks.port)
    name = f"<img src=x onerror=window.pwned=1> :red[x] $x$ ![x](127.0.0.1:{leaks.port})".replace("/", "")
    people = (f'<img src="http://127.0.0.1:{leaks.port}/ana.png">', "**[ben](javascript:window.pwned=1)** :red[x]")
    rows = [
        {
            "chosen": f"\n\nHuman: {text}\n\nAssistant: Yes.\n\nHuman: Again: {text}\n\nAssistant: " + f"{text} " * 12,
            "rejected": f"\n\nHuman: {text}\n\nAssistant: Yes.\n\nHuman: Again: {text}\n\nAssistant: Said {text}",
            "subset": bad[number % 4],
        }
        for number, text in enumerate(bad)
    ]
    folder = tmp_path / "workspace"
    with closing(Workspace(folder)) as workspace:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "not <b>JSON</b>\n")
        import_source(workspace, source_of(str(file)), name)
        runs.start_screening(workspace, name, {"repetitive": {}})
        until(lambda: bool(runs.settle(workspace)))
        assert workspace.flags.current(name)[0].flagged == len(bad)
        review.change_settings(workspace, name, Settings(overlap=3, control_share=0), people[0])
        for person, choice in zip(people, ("vague", "toxic"), strict=True):
            for _ in bad[:4]:
                card = review.next_card(workspace, person, name)
                review.decide(workspace, card.claim.claim_id, person, choice, note=bad[2], tags=("both bad",))
    with serving(folder) as server:
        cleo = Person(browser, server, "cleo", width=1400, height=1200)

        def go(place: str) -> None:
            cleo.open(place)
            assert cleo.page.locator('[data-testid="stException"]').count() == 0

        for place in ("", "runs", "review"):
            go(place)
        for _ in bad:  # every card
            question = asked(cleo)
            text = question.removeprefix("Again: ")
            assert text in bad
            assert any(text in side for side in sides(cleo))
            cleo.press("p")
        see(cleo, "Nothing left to review here")
        quoted = " ".join(cleo.page.locator(".er .reasons").all_inner_texts())
        assert "repetitive" in quoted
        cleo.page.get_by_role("radio", name="My decisions").or_(cleo.page.get_by_text("My decisions")).first.click()
        cleo.page.get_by_role("button", name="Open again").first.wait_for()
        assert any(text.split("\n")[0] in cleo.text() for text in bad)

        go("filters")
        cleo.page.locator(".er .sides").first.wait_for()
        examples = cleo.page.locator(".er .text").all_inner_texts()
        assert sum(any(text in shown for shown in examples) for text in bad) == 5

        go("datasets")
        grid = cleo.page.locator('[data-testid="stDataFrame"] .dvn-scroller').first
        grid.click(position={"x": 18, "y": 52})  # the box before the first row
        cleo.page.locator(".st-key-open-pair .er .sides").wait_for()
        opened = cleo.page.locator(".st-key-open-pair .er .text").all_inner_texts()
        assert any(bad[0] in text for text in opened)
        for tab in ("Rejects", "Releases", "Import"):
            cleo.page.get_by_text(tab, exact=True).first.click()
            cleo.rest()

        go("adjudicate")
        cleo.page.get_by_text("Show names").click()
        for words in (*people, bad[2]):
            see(cleo, words)

        assert cleo.page.evaluate("window.pwned") is None
        assert cleo.page.locator(f'[src*="{leaks.port}"], [href*="{leaks.port}"], [href^="javascript"]').count() == 0
        assert cleo.hosts - {""} == {f"127.0.0.1:{server.port}"}
        assert leaks.asked == []
        for person in people:  # signed in under such a name
            guest = Person(browser, server, person.replace("+", "%2B").replace(" ", "%20"))
            for place in ("review", "adjudicate"):
                guest.open(place)
            assert guest.page.evaluate("window.pwned") is None
        assert leaks.asked == []
    leaks.close()


# ---- nothing is lost


def test_a_killed_server_in_mid_review_loses_nothing(desk):
    ana = desk.person("ana")
    for key in "012":
        ana.press(key)
    see(ana, "3 done, 9 left")
    ana.card()
    ana.page.keyboard.press("n")
    ana.page.keyboard.type("begun")
    ana.page.keyboard.press("Tab")
    helped(ana)  # so the note has arrived
    before = asked(ana), sides(ana)
    desk.server.stop(signal.SIGKILL)
    desk.server.start()
    ana.reload()
    assert (asked(ana), sides(ana)) == before
    see(ana, "3 done, 9 left")
    assert ana.page.locator(".st-key-note-area input").last.input_value() == "begun"
    ana.press("t")
    see(ana, "4 done, 8 left")
    with desk.stored() as workspace:
        assert [question for question, *_ in standing(workspace)] == [f"Question {n}?" for n in range(4)]
        last = workspace.verdicts.standing()[-1]
        assert (last.verdict, last.note) == ("toxic", "begun")
