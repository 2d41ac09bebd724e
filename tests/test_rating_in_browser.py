"""Rating as a person does it: the real app in a real browser, by key; DESIGN.md section 5."""

import random
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from curation import rating, studies
from curation.pairs import Response, Turn
from curation.rating import Outcome
from curation.store.answers import Answered
from curation.store.studies import NewItem, NewResponse
from curation.study_design import CHOICES, Aspect, Design
from curation.workspace import Workspace
from tests.browser import Person, Server, chromium, serving
from tests.conftest import until
from tests.test_review_in_browser import Leaks, hostile_texts

pytestmark = pytest.mark.browser
STUDY = "Small study"
HELP = Aspect(name="help", question="How much does it help?")
CARE = Aspect(name="care", question="How careful is it?", points=4)
GUIDED = "Read **both** before you rate."
_TICKED = '.st-key-note-area [aria-pressed="true"], .st-key-note-area [aria-checked="true"]'


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as browser:
        yield browser


def a_design(**other: object) -> Design:
    """Both protocols, two aspects, two raters; reasons to tick and guidelines to read."""
    about = {"protocol": "both", "aspects": (HELP, CARE), "overlap": 2, "gold_share": 0, "reasons": ("too long",)}
    return Design.model_validate({**about, "guidelines": GUIDED, **other})


def item(number: int, asked: str, *said: tuple[str, str]) -> NewItem:
    responses = tuple(NewResponse(generator, Response(text)) for generator, text in said)
    return NewItem(f"{number:032x}", "", (Turn("user", asked, ""),), responses)


def plain_items(count: int) -> list[NewItem]:
    sides = ("generator-one", "Left answer {}."), ("generator-two", "Right answer {}.")
    return [item(n, f"Question {n}?", *((who, text.format(n)) for who, text in sides)) for n in range(count)]


def prepared(folder: Path, design: Design, items: Sequence[NewItem], name: str = STUDY) -> None:
    """A workspace with one study."""
    with closing(Workspace(folder)) as workspace:
        studies.create(workspace, name, design, "lead")
        studies.add_items(workspace, name, items, "lead", words="for a test")


class Desk:
    """A server on one study, ways to sit down at it, and what is in the store."""

    def __init__(self, server: Server, browser: object) -> None:
        self.server, self._browser = server, browser

    def rater(self, name: str, **size: int) -> Person:
        return Person(self._browser, self.server, name, **size).open("rate", study=quote(STUDY), **{"for": "raters"})

    def lead(self) -> Person:
        return Person(self._browser, self.server, "lead").open("studies", study=quote(STUDY))

    @contextmanager
    def stored(self) -> Iterator[Workspace]:
        """What is in the store; the server is over then."""
        self.server.stop()
        with closing(Workspace(self.server.folder)) as workspace:
            yield workspace


@contextmanager
def desk_on(folder: Path, browser: object, design: Design, count: int) -> Iterator[Desk]:
    prepared(folder, design, plain_items(count))
    with serving(folder) as server:
        yield Desk(server, browser)


# ---- what stands on the screen


def asked(person: Person) -> str:
    """The question the item asks, once the card stands whole."""
    person.whole()
    return str(person.page.locator(".er .turn.user .text").last.inner_text())


def sides(person: Person) -> tuple[str, str]:
    """The two responses on the card, A and B."""
    person.whole()
    a, b = person.page.locator(".er .side .text").all_inner_texts()
    return a, b


def question(person: Person) -> str:
    """The question whose keys are live, as it is called: "A help"; "All answered." when there is none."""
    person.whole()
    return str(person.page.locator(".st-key-choices strong").first.inner_text())


def chips(person: Person) -> list[str]:
    """Each question with what was answered so far."""
    person.whole()
    return list(person.page.locator('.st-key-choices [class*="st-key-jump-"] button').all_inner_texts())


def marked(person: Person) -> list[str]:
    """The values that are drawn as given."""
    person.whole()
    return list(person.page.locator('[class*="st-key-value-"] button[kind="primary"] p').all_inner_texts())


def note(person: Person) -> str:
    return str(person.page.locator(".st-key-note-area input").last.input_value())


def see(person: Person, words: str) -> None:
    person.page.get_by_text(words).first.wait_for()


def shown_js(words: str) -> str:
    return f"document.querySelector('[data-testid=stMain]').innerText.includes({words!r})"


def noted(person: Person, words: str) -> None:
    """Write a note; it has arrived when this is over, since what is sent later was answered."""
    person.whole()
    person.page.keyboard.press("n")
    person.page.keyboard.type(words)
    person.page.keyboard.press("Tab")
    person.surely("h", shown_js("give a value"))
    person.surely("h", f"!{shown_js('give a value')}")


Given = dict[tuple[str, str], int]  # the key pressed by response as it reads (or the two, first shown first) and aspect


def answer(person: Person, draw: random.Random) -> tuple[str, Given]:
    """Answer every question of the card on the screen by key, and submit; returns what the item asks and what was given."""
    texts, about = dict(zip("AB", sides(person), strict=True)), asked(person)
    given: Given = {}
    for called, values in [("A help", 5), ("A care", 4), ("B help", 5), ("B care", 4), ("A or B", 4)]:
        assert question(person) == called
        assert marked(person) == []
        value = draw.randint(1, values)
        side, aspect = called.split(" ", 1)
        given[(f"{texts['A']} | {texts['B']}", "") if called == "A or B" else (texts[side], aspect)] = value
        person.press(str(value))
    assert question(person) == "All answered."
    person.press("Enter")
    return about, given


def standing(workspace: Workspace) -> dict[tuple[str, str], Given]:
    """The standing answers as keys pressed, by rater and what the item asks; as `answer` tells them."""
    found: dict[tuple[str, str], Given] = {}
    for one in workspace.answers.standing(STUDY):
        content = workspace.studies.content(one.item_id)
        given: Given = {(str(content.texts[response]), aspect): int(value) for response, aspect, value in one.marks.ratings}
        for left, right, choice, _ in one.marks.preferences:
            assert (left, right) == one.shown
            given[f"{content.texts[left]} | {content.texts[right]}", ""] = 1 + CHOICES.index(choice)
        found[one.person, content.prompt[-1].content] = given
    return found


def answered(workspace: Workspace) -> list[Answered]:
    return workspace.answers.standing(STUDY)


# ---- one press, one value


def test_two_raters_by_key_from_first_to_last_and_each_value_is_stored_on_its_response_whatever_order_each_saw(
    tmp_path, browser
):
    draw, pressed, orders, began = random.Random(3), {}, {}, time.monotonic()
    with desk_on(tmp_path / "workspace", browser, a_design(), 3) as desk:
        raters = [desk.rater("ana"), desk.rater("ben")]
        for _ in range(3):
            for rater in raters:
                orders.setdefault(asked(rater), set()).add(sides(rater))
                about, given = answer(rater, draw)
                pressed[rater.name, about] = given
        for rater in raters:
            see(rater, "Nothing left to rate here")
            see(rater, "3 done, 0 left")
            assert rater.errors == []
        assert len(pressed) == 6
        assert {len(seen) for seen in orders.values()} == {1, 2}  # some saw the other order, some the same
        with desk.stored() as workspace:
            assert standing(workspace) == pressed
            events = workspace.database.rows("SELECT item_id, count(*), count(DISTINCT person) FROM study_answers GROUP BY ALL")
            assert sorted(events) == [(f"{n:032x}", 2, 2) for n in range(3)]
            for rater in raters:  # seconds, and each item its own
                took = [one.seconds for one in answered(workspace) if one.person == rater.name]
                assert min(took) > 0
                assert sum(took) < time.monotonic() - began
            assert len(workspace.answers.ratings(STUDY)) == 2 * 3 * 4


def test_no_value_of_the_last_item_is_ever_marked_or_written_on_the_next_one(tmp_path, browser):
    with desk_on(tmp_path / "workspace", browser, a_design(), 2) as desk:
        ana = desk.rater("ana")
        noted(ana, "about the first")
        ana.page.locator(".st-key-note-area button").first.click()
        ana.page.locator(_TICKED).first.wait_for()
        first = ana.claim()
        for key in "44444":
            ana.press(key)
        ana.press("Enter")
        assert ana.claim() != first
        assert [chip.rsplit(": ", 1)[1] for chip in chips(ana)] == ["–"] * 5
        assert note(ana) == ""
        assert ana.page.locator(_TICKED).count() == 0
        frames = [one for one in ana.page.evaluate("window.painted") if one["claim"] == ana.claim()]
        assert frames
        assert [one for one in frames if one["marked"] or re.search(r": \d", one["keys"])] == []  # not for a single frame
        for called in ("A help", "A care", "B help", "B care", "A or B"):
            assert (question(ana), marked(ana)) == (called, [])
            ana.press("4")
        with desk.stored() as workspace:
            (one,) = answered(workspace)
            assert (one.note, one.reasons) == ("about the first", ("too long",))


def test_the_next_item_is_read_from_its_top(tmp_path, browser):
    with desk_on(tmp_path / "workspace", browser, a_design(protocol="compare"), 2) as desk:
        ana = desk.rater("ana", width=390, height=500)
        main = ana.page.locator('[data-testid="stMain"]')
        ana.press("1")
        main.evaluate("one => one.scrollTo(0, 10000)")
        assert main.evaluate("one => one.scrollTop") > 0
        ana.press("Enter")
        assert main.evaluate("one => one.scrollTop") == 0


# ---- drafts


def test_a_draft_survives_a_closed_tab(tmp_path, browser):
    with desk_on(tmp_path / "workspace", browser, a_design(), 4) as desk:
        ana = desk.rater("ana")
        before = asked(ana), sides(ana)
        ana.press("4")
        ana.press("2")
        noted(ana, "half a thought, 1 2 3")
        ana.leave()
        again = desk.rater("ana")
        assert (asked(again), sides(again)) == before
        assert chips(again) == ["A help: 4", "A care: 2", "B help: –", "B care: –", "A or B: –"]
        assert (question(again), note(again)) == ("B help", "half a thought, 1 2 3")
        assert again.page.locator(".st-key-note-area input").last.is_visible()
        for key in "512":
            again.press(key)
        again.press("Enter")
        with desk.stored() as workspace:
            (about, (a, b)) = before
            expected = {(a, "help"): 4, (a, "care"): 2, (b, "help"): 5, (b, "care"): 1, (f"{a} | {b}", ""): 2}
            assert standing(workspace) == {("ana", about): expected}
            assert [one.note for one in answered(workspace)] == ["half a thought, 1 2 3"]


def test_a_server_killed_in_mid_item_loses_no_answer_and_no_draft(tmp_path, browser):
    draw = random.Random(5)
    with desk_on(tmp_path / "workspace", browser, a_design(), 3) as desk:
        ana = desk.rater("ana")
        about, given = answer(ana, draw)
        pressed = {("ana", about): given}
        for key in "324":
            ana.press(key)
        noted(ana, "begun")
        before = asked(ana), sides(ana)
        desk.server.stop(signal.SIGKILL)
        desk.server.start()
        ana.reload()
        assert (asked(ana), sides(ana)) == before
        see(ana, "1 done, 2 left")
        assert chips(ana) == ["A help: 3", "A care: 2", "B help: 4", "B care: –", "A or B: –"]
        assert note(ana) == "begun"
        ana.press("1")
        ana.press("3")
        ana.press("Enter")
        see(ana, "2 done, 1 left")
        (about, (a, b)) = before
        pressed["ana", about] = {(a, "help"): 3, (a, "care"): 2, (b, "help"): 4, (b, "care"): 1, (f"{a} | {b}", ""): 3}
        with desk.stored() as workspace:
            assert standing(workspace) == pressed
            assert [one.note for one in answered(workspace)] == ["", "begun"]


# ---- the lead


def test_the_lead_sees_the_numbers_move(tmp_path, browser):
    told = ("Items complete", "Answers", "Raters", "Skips")

    def shows(person: Person, *expected: str) -> bool:
        person.rest()
        names, values = (person.page.locator(f'[data-testid="stMetric{one}"]').all_inner_texts() for one in ("Label", "Value"))
        numbers = dict(zip(names, values, strict=False))  # they are drawn one after the other
        return tuple(numbers.get(name) for name in told) == expected

    with desk_on(tmp_path / "workspace", browser, a_design(protocol="compare"), 2) as desk:
        ana, ben, lead = desk.rater("ana"), desk.rater("ben"), desk.lead()
        see(lead, "Median time an item")

        def moved(*expected: str) -> None:
            lead.page.get_by_role("button", name="Look again").click()
            until(lambda: shows(lead, *expected))

        until(lambda: shows(lead, "0 of 2", "0 of 4", "0", "0"))
        ana.press("1")
        ana.press("Enter")
        moved("0 of 2", "1 of 4", "1", "0")
        while asked(ben) == asked(ana):  # the other one, which ana has answered
            ben.press("2")
            ben.press("Enter")
        ben.press("1")
        ben.press("Enter")
        lead.reload()
        until(lambda: any(shows(lead, "1 of 2", answers, "2", "0") for answers in ("2 of 4", "3 of 4")))
        lead.page.get_by_role("button", name="Close", exact=True).click()
        see(lead, "nobody is handed an item")
        ana.surely("1", shown_js("This study is closed"))
        ana.page.wait_for_function("window.drawn() === ''")
        assert lead.errors == ana.errors == ben.errors == []


# ---- quick pressing


def answered_unseen(events: Sequence[str], person: Person, texts: dict[str, str]) -> list[str]:
    """Of presses, by what was drawn for them, those for which no key went down once it was painted with the item's text."""
    painted: dict[str, float] = {}
    for one in person.page.evaluate("window.painted"):
        for live in one["live"].split():
            if texts[live[:32]] in one["text"]:
                painted.setdefault(live, one["at"])
    keys, unseen = list(person.page.evaluate("window.pressed")), []
    for drawn in events:
        if drawn not in painted:
            unseen.append(f"{drawn} was never painted")
            continue
        later = [at for at in keys if at > painted[drawn]]
        if not later:
            unseen.append(f"{drawn} was painted at {painted[drawn]:.0f}, the keys went down at {keys}")
        keys = later[1:]  # a press answers one question
    return unseen


def watch_keys(person: Person) -> None:
    person.whole()
    person.page.evaluate(
        "window.pressed = []; addEventListener('keydown', (one) => {"
        " if (/^[0-9]$/.test(one.key)) window.pressed.push(performance.now()); }, true)"
    )


def held(person: Person, key: str) -> None:
    """Hold a key down for a third of a second: it counts once."""

    def counted() -> int:
        done = re.search(r"(\d+) done", person.text())
        return int(done[1]) + sum(not chip.endswith("–") for chip in chips(person)) if done else -1

    person.whole()
    before = counted()
    person.at_once(lambda: person.hold(key, times=10))
    person.surely("h", shown_js("give a value"))
    person.surely("h", f"!{shown_js('give a value')}")
    assert counted() <= before + 1


@pytest.mark.parametrize(("at_once", "protocol"), [(False, "both"), (True, "compare")])
def test_a_digit_pressed_three_times_at_once_never_answers_a_question_that_was_not_on_the_screen(
    tmp_path, browser, at_once, protocol
):
    design = a_design(at_once=at_once, protocol=protocol)
    with desk_on(tmp_path / "workspace", browser, design, 12) as desk:
        ana = desk.rater("ana")
        watch_keys(ana)
        for pause in (0, 15, 45):

            def three_times(pause: int = pause) -> None:
                for _ in range(3):
                    ana.page.keyboard.press("3")
                    ana.page.wait_for_timeout(pause)

            ana.at_once(three_times)
            ana.surely("h", shown_js("give a value"))  # keys arrive in order: once this is done they are all over
            ana.surely("h", f"!{shown_js('give a value')}")
            if not at_once:
                for _ in range(5):
                    if question(ana) != "All answered.":
                        ana.press("2")
                assert question(ana) == "All answered."
                ana.press("Enter")
        held(ana, "3")
        assert ana.errors == []
        standing_now, given = asked(ana), chips(ana)
        with desk.stored() as workspace:
            drafts = workspace.database.rows("SELECT claim_id, version FROM study_drafts ORDER BY saved_at, rowid")
            items = dict(workspace.database.rows("SELECT claim_id, item_id FROM study_claims"))
            texts = {claim: next(iter(workspace.studies.content(one).texts.values())) for claim, one in items.items()}
            events = [f"{claim}-{version - 1}-{version - 1}" for claim, version in drafts]
            assert answered_unseen(events, ana, texts) == []
            done = answered(workspace)
            assert {one.claim_id for one in done} <= {claim for claim, _ in drafts}
            assert len(done) == 3 if not at_once else 3 <= len(done) <= 10
            assert standing_now not in [workspace.studies.content(one.item_id).prompt[-1].content for one in done]
            assert sum(not chip.endswith("–") for chip in given) <= 1


def test_enter_pressed_twice_at_once_submits_one_answer(tmp_path, browser):
    with desk_on(tmp_path / "workspace", browser, a_design(protocol="compare"), 6) as desk:
        ana = desk.rater("ana")
        for key in "12":
            ana.press(key)
            ana.press("Enter")
        ana.at_once(lambda: [ana.page.keyboard.press("u") for _ in range(2)])
        see(ana, "1 done, 5 left")  # takes back one
        ana.press("u")  # two items with all their values: a second Enter has something to submit
        see(ana, "0 done, 6 left")
        assert question(ana) == "All answered."
        ana.at_once(lambda: [ana.page.keyboard.press("Enter") for _ in range(2)])
        ana.surely("h", shown_js("give a value"))
        frames = [one["claim"] for one in ana.page.evaluate("window.painted")]
        with desk.stored() as workspace:
            done = answered(workspace)
            assert len(done) == 1
            assert done[0].claim_id in frames


# ---- the other keys


def test_undo_by_key_brings_the_item_back_with_its_values_and_an_arrow_corrects_one(tmp_path, browser):
    with desk_on(tmp_path / "workspace", browser, a_design(), 3) as desk:
        ana = desk.rater("ana")
        about, (a, b) = asked(ana), sides(ana)
        for key in "12341":
            ana.press(key)
        ana.press("Enter")
        see(ana, "1 done, 2 left")
        ana.press("u")
        see(ana, "0 done, 3 left")
        assert (asked(ana), sides(ana)) == (about, (a, b))
        assert chips(ana) == ["A help: 1", "A care: 2", "B help: 3", "B care: 4", "A or B: 1"]
        for called in ("A or B", "B care", "B help"):
            ana.press("ArrowLeft")
            assert question(ana) == called
        assert marked(ana) == ["3"]
        ana.press("ArrowRight")
        assert (question(ana), marked(ana)) == ("B care", ["4"])
        ana.press("ArrowLeft")
        ana.press("5")
        assert (question(ana), chips(ana)[2]) == ("All answered.", "B help: 5")
        ana.press("Enter")
        see(ana, "1 done, 2 left")
        with desk.stored() as workspace:
            expected = {(a, "help"): 1, (a, "care"): 2, (b, "help"): 5, (b, "care"): 4, (f"{a} | {b}", ""): 1}
            assert standing(workspace) == {("ana", about): expected}
            (undos,) = workspace.database.rows("SELECT count(*) FROM study_undos")
            assert undos == (1,)


def test_space_asks_why_and_a_digit_says_it_escape_stays_and_g_opens_the_guidelines(tmp_path, browser):
    with desk_on(tmp_path / "workspace", browser, a_design(protocol="compare"), 2) as desk:
        ana = desk.rater("ana")
        about = asked(ana)
        see(ana, "before you rate")  # open on the first item
        ana.surely("g", f"!{shown_js('before you rate')}")
        ana.surely("g", shown_js("before you rate"))
        ana.press("1")
        ana.press("Space")
        see(ana, "Why skip this item?")
        ana.press("Escape")
        assert (asked(ana), question(ana), chips(ana)) == (about, "All answered.", ["A or B: 1"])
        ana.press("Space")
        ana.press("2")
        assert asked(ana) != about
        assert chips(ana) == ["A or B: –"]
        ana.press("1")
        ana.press("Enter")
        see(ana, "Nothing left but 1 skipped")
        ana.page.get_by_role("button", name="Go through the skipped items").click()
        assert (asked(ana), chips(ana)) == (about, ["A or B: 1"])  # the draft was kept
        with desk.stored() as workspace:
            assert len(answered(workspace)) == 1
            skips = [(one["person"], one["why"]) for one in workspace.answers.skips(STUDY)]
            assert skips == [("ana", "The text is broken")]


# ---- blind, and text is text


def test_nothing_sent_to_a_rater_names_a_generator_and_no_address_leads_elsewhere(tmp_path, browser):
    hidden = ("chosen", "rejected", "qwen-secret", "llama-secret")
    items = [
        item(0, "First?", ("chosen", "One."), ("rejected", "Two.")),
        item(1, "Second?", ("qwen-secret", "Three."), ("llama-secret", "Four.")),
    ]
    prepared(tmp_path / "workspace", a_design(protocol="compare"), items)
    with serving(tmp_path / "workspace") as server:
        ana, sent = Person(browser, server, "ana"), []
        ana.page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: sent.append(frame)))
        where = {"study": quote(STUDY), "for": "raters"}

        def blind() -> None:
            ana.rest()
            told = ana.page.content()
            assert [name for name in hidden if name in told] == []
            assert ana.page.locator('[data-testid="stSidebar"], [data-testid="stSidebarNav"]').count() == 0

        for place in ("studies", "agreement", "review", ""):
            ana.page.goto(f"{server.url}/{place}?name=ana&study={where['study']}&for=raters")
            ana.page.wait_for_url("**/rate?**")
            ana.whole()
            blind()
        for _ in range(2):
            ana.whole()
            blind()
            ana.press("1")
            blind()
            ana.press("Enter")
        see(ana, "Nothing left to rate here")
        ana.page.get_by_text("My answers").first.click()
        ana.page.get_by_role("button", name="Open again").first.wait_for()
        blind()
        assert len(sent) > 10
        frames = [one if isinstance(one, bytes) else str(one).encode() for one in sent]
        assert [name for name in hidden if any(name.encode() in one for one in frames)] == []
        assert ana.errors == []


def given(workspace: Workspace, study: str, person: str, item_id: str, value: int) -> None:
    """An answer to an item that gives every question this value."""
    claim = workspace.raters.reopen(person, study, item_id, least=timedelta(minutes=5))
    for one in rating.card_of(workspace, claim).questions:
        now = rating.card_of(workspace, claim)
        assert rating.press(workspace, claim.claim_id, person, now.version, one.key, value) is Outcome.RECORDED
    assert rating.submit(workspace, claim.claim_id, person) is Outcome.RECORDED


@pytest.mark.slow  # half a minute; what is drawn of hostile text is also looked at without a browser
def test_hostile_text_is_shown_as_it_is_and_loads_nothing(tmp_path, browser):
    leaks = Leaks()
    place = f"127.0.0.1:{leaks.port}"
    bad = hostile_texts(leaks.port)
    name = f"<img src=x onerror=window.pwned=1> :material/home: ![x]({place})".replace("/", "")
    aspect = Aspect(
        name="<b>x</b> :material/home: ![x](http://x)"[:40], question=f"{bad[1]} ![x](http://{place}/q.png) :red[x] $x$",
        points=2, anchors=(f"![x](http://{place}/a.png)", ":material/home: <script>window.pwned=1</script>"),
    )  # fmt: skip
    guided = "\n\n".join([
        f"![x](http://{place}/g.png)", bad[0], bad[1], bad[2], f"![x][there]\n\n[there]: http://{place}/ref.png",
        f"[![x](http://{place}/in.png)](http://x.example) \\![x](http://{place}/esc.png)",
        rf"$\includegraphics{{http://{place}/tex.png}}$ :material/home:",
    ])  # fmt: skip
    reason = f":material/home: ![x](http://{place}/reason.png) <b>x</b>"
    design = Design.model_validate({
        "protocol": "both", "aspects": (aspect,), "question": f"{bad[3]} {bad[1]}", "reasons": (reason,), "overlap": 3,
        "guidelines": guided, "gold_share": 0,
    })  # fmt: skip
    rated = list(zip(bad[::2], bad[1::2], strict=True))
    items = [item(n, text, (text, f"{text} first"), (other, f"Said {other}")) for n, (text, other) in enumerate(rated)]
    who = f'<img src="http://{place}/ana.png"> :red[x]'
    prepared(tmp_path / "workspace", design, items, name)
    with closing(Workspace(tmp_path / "workspace")) as workspace:  # two who dispute an item
        for person, value in ((f"**ben** ![x](http://{place}/ben.png)", 1), (":material/home: <b>cleo</b>", 2)):
            given(workspace, name, person, items[0].item_id, value)

    def safe(one: Person) -> None:
        assert one.page.evaluate("window.pwned") is None
        assert one.page.locator(f'[src*="{leaks.port}"], a[href^="javascript"]').count() == 0
        assert one.page.locator('[data-testid="stException"]').count() == 0
        assert one.hosts - {""} == {f"127.0.0.1:{one.server.port}"}
        assert one.errors == []

    with serving(tmp_path / "workspace") as server:
        ana = Person(browser, server, quote(who)).open("rate", study=quote(name), **{"for": "raters"})
        see(ana, name)
        box = ana.page.locator(".st-key-guidelines-box").inner_text()
        for words in (f"![x](http://{place}/g.png)", bad[0], bad[1]):
            assert words in box
        for number in range(len(items)):
            text = asked(ana)
            assert {*sides(ana)} == {f"{text} first", f"Said {dict(rated)[text]}"}
            if not number:
                bar = " ".join(ana.page.locator(".st-key-choices").inner_text().split())
                for words in (f"A {aspect.name}", aspect.question, *aspect.anchors):
                    assert words in bar
            for key in "121":
                assert aspect.name in question(ana) or question(ana) == "A or B"
                ana.press(key)
            safe(ana)
            if not number:
                noted(ana, bad[2])
                assert " ".join(ana.page.locator(".st-key-note-area button").first.inner_text().split()) == reason
            ana.press("Enter")
        see(ana, "Nothing left to rate here")
        ana.page.get_by_text("My answers").first.click()
        ana.page.get_by_role("button", name="Open again").nth(len(items) - 1).wait_for()
        ana.page.get_by_text("Nothing left to rate here").wait_for(state="detached")
        ana.rest()
        told = ana.text()
        assert told.count(aspect.name) >= 2 * len(items)
        lead = Person(browser, server, quote(who)).open("studies", study=quote(name))
        for view, on_view, expected in [
            ("Raters", "Show names", ()), ("Disputed", "Settle it", (*aspect.anchors, aspect.name)),
            ("Design", "What happened", ()), ("In and out", "Import ratings", ()),
        ]:  # fmt: skip
            lead.page.get_by_role("radio", name=view).or_(lead.page.get_by_role("button", name=view, exact=True)).first.click()
            see(lead, on_view)
            lead.rest()
            words = " ".join(lead.text().split())
            assert [one for one in expected if one not in words] == []
            safe(lead)
        assert leaks.asked == []
        server.stop()
        with closing(Workspace(server.folder)) as workspace:
            assert rating.status(workspace, name, who).done == len(items)
            assert bad[2] in [one.note for one in workspace.answers.standing(name)]
    leaks.close()
