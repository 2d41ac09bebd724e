"""Rate: the responses of one item at a time, blind, by key."""

import streamlit as st

from curation import plain, rating, studies, ui
from curation.rating import Card, Halt, Outcome
from curation.study_design import Question, letter

opened = ui.page("Rate")
study = ui.chosen_study(opened)
person = ui.signed_in()
state = st.session_state
SKIPS = ("I cannot judge this", "The text is broken", "I do not want to read this", "Another reason, see my note")


# ---- what is pressed, each under the claim and the version its button was drawn for


@ui.told
def press(claim_id: str, version: int, asked: str, key: str, value: int, at_once: bool) -> None:
    outcome = rating.press(opened, claim_id, person, version, key, value, asked=asked)
    state.pop("question", None)
    tell(outcome)
    if outcome is Outcome.RECORDED and at_once:
        submit(claim_id, version + 1)


@ui.told
def submit(claim_id: str, version: int) -> None:
    keep_words(claim_id)  # what was typed a moment ago comes with this press
    outcome = rating.submit(opened, claim_id, person, version=version)
    last = opened.answers.history(person, study, limit=1) if outcome is Outcome.OVER else []
    if last and last[0].claim_id == claim_id:
        return  # Enter twice: the first one submitted it, and nothing is wrong
    tell(outcome)
    if outcome is Outcome.RECORDED:
        state.pop("question", None)


def tell(outcome: Outcome) -> None:
    state["told"] = {
        Outcome.OVER: "That item was already answered, or its time ran out and someone else has it: nothing was recorded.",
        Outcome.STALE: "The item had changed since it was drawn: that press recorded nothing. This is how it stands.",
        Outcome.CLOSED: "The study was closed meanwhile: nothing was recorded; your values stay in the draft.",
        Outcome.INCOMPLETE: "Something is not answered yet: the questions without a value.",
    }.get(outcome)


@ui.told
def skip(claim_id: str, why: str) -> None:
    rating.skip(opened, claim_id, person, why)
    state.update(told=None, skipping=None)


@ui.told
def undo(undone: int) -> None:
    if undone != state.get("undone", 0):
        return  # pressed twice: that would take back one more answer than was seen
    if rating.undo(opened, study, person) is None:
        state["told"] = "There is nothing to undo yet."
    else:
        told = "Taken back: your values stand as you gave them; change what you like and submit again."
        state.update(told=told, undone=undone + 1)


@ui.told
def keep_words(claim_id: str) -> None:
    note, reasons = state.get(f"note-{claim_id}"), state.get(f"reasons-{claim_id}")
    rating.write(opened, claim_id, person, note, reasons)


@ui.told
def reopen(item_id: str) -> None:
    rating.reopen(opened, study, person, item_id)
    state.update(tab="Rate", told=None)


def jump(claim_id: str, place: int) -> None:
    state["question"] = (claim_id, place)


def toggle(name: str, now: bool) -> None:
    state[name] = not now


def ask_why(claim_id: str | None) -> None:
    state["skipping"] = claim_id


def open_note() -> None:
    state["focus_note"] = True


# ---- what is shown


@st.fragment
def desk() -> None:
    """The card and its keys; a press draws only this again."""
    try:
        card = rating.next_card(opened, study, person, again=state.get("again", False))
    except OSError as error:
        st.error(f"{plain.md(str(error))}. Your answers so far are safe.", icon=":material/save:")
        st.button("Try again", key="try-again")
        return
    status = rating.status(opened, study, person)
    pace = f", {ui.duration(status.pace)} an item" if status.pace is not None else ""
    st.markdown(f"**{status.done:,} done, {status.left:,} left{pace}**", width="content")
    if state.get("told"):
        st.info(state["told"], icon=":material/info:")
    show_feedback()
    if isinstance(card, Halt):
        nothing_left(card, status)
    else:
        show(card, status)


def show_feedback() -> None:
    """What is to be said of the warm-up item that was just answered."""
    told = rating.last_feedback(opened, study, person)
    if told is None:
        return
    words = " ".join(part for part in ("; ".join(told.differences), told.explanation) if part)
    if told.passed is False:
        st.warning(f"Warm-up: not quite. {plain.md(words)}", icon=":material/school:")
    else:
        st.success(f"Warm-up: as expected. {plain.md(words)}", icon=":material/school:")


def nothing_left(halt: Halt, status: rating.Status) -> None:
    if halt.why != "done":
        st.warning(plain.md(halt.words), icon=":material/pause_circle:")
        return
    if status.skipped:
        st.info(f"Nothing left but {status.skipped} skipped.", icon=":material/redo:")
        st.button("Go through the skipped items", key="again-button", on_click=toggle, args=("again", False), type="primary")
    elif not opened.studies.items(study):
        st.info("This study has no items yet.", icon=":material/inbox:")
    else:
        st.success("Nothing left to rate here. Thank you.", icon=":material/done_all:")
    st.button("Undo", key="undo-empty", shortcut="u", on_click=undo, args=(state.get("undone", 0),))


def show(card: Card, status: rating.Status) -> None:
    claim_id = card.claim.claim_id
    reading = state.get("guidelines", status.done == 0 and bool(card.design.guidelines.strip()))
    if reading:
        with st.container(border=True, key="guidelines-box"):
            ui.show_guidelines(card.design.guidelines)
            st.caption("The key G closes and opens this.")
    if card.earlier is not None:
        st.caption("You answered this item before; your earlier answer stands until you submit a new one.")
    names = [letter(place) if len(card.texts) > 1 else "Response" for place in range(len(card.texts))]
    ui.show_responses(card.prompt, list(zip(names, card.texts, strict=True)), compare=state.get("compare", False))
    with st.container(key="choices", gap="small"):
        if state.get("skipping") == claim_id:
            why_skipped(card)
        else:
            ask(card)
    with st.container(horizontal=True, key="actions", gap="small"):
        action("Skip", "space", claim_id, ask_why, claim_id)
        action("Undo", "u", claim_id, undo, state.get("undone", 0))
        if card.design.notes:
            action("Note", "n", claim_id, open_note)
        action("Guidelines", "g", claim_id, toggle, "guidelines", reading)
        if len(card.texts) == 2:
            action("Difference", "d", claim_id, toggle, "compare", state.get("compare", False))
        action("Help", "h", claim_id, toggle, "help", state.get("help", False))
    if card.design.notes or card.design.reasons:
        with st.container(key="note-area"):  # there from the start, hidden while empty: the key n finds it at once
            write_words(card)
    if state.get("help"):
        show_help()


def ask(card: Card) -> None:
    """The question whose keys are live, its values, and all questions with what was answered so far."""
    claim_id = card.claim.claim_id
    place = current(card)
    drawn = f"{claim_id}-{card.version}-{place}"
    if place is None:
        st.markdown("**All answered.** Enter submits; the arrow keys go back to change a value.")
    else:
        one = card.questions[place]
        st.markdown(f"**{plain.md(name_of(card, one))}** {plain.md(one.text)}")
        last = card.design.at_once and [other.key for other in card.missing] == [one.key]
        with st.container(horizontal=True, gap="small", key=f"values-{drawn}"):
            for value, words in enumerate(one.values, start=1):
                st.button(
                    f"{value} {plain.md(words)}".strip(), key=f"value-{value}-{drawn}", shortcut=str(value),
                    type="primary" if card.values.get(one.key) == value else "secondary",
                    on_click=press, args=(claim_id, card.version, card.asked, one.key, value, last),
                )  # fmt: skip
    with st.container(horizontal=True, gap="xsmall", key=f"questions-{drawn}"):
        for number, one in enumerate(card.questions):
            given = card.values.get(one.key, "–")
            st.button(
                f"{plain.md(name_of(card, one))}: {given}", key=f"jump-{number}-{drawn}",
                on_click=jump, args=(claim_id, number),
                type="secondary" if number == place else "tertiary",
            )  # fmt: skip
        count = len(card.questions)
        here = count if place is None else place
        if count > 1:
            st.button("Back", key=f"back-{drawn}", shortcut="left", on_click=jump, args=(claim_id, max(0, here - 1)))
            st.button("Next", key=f"on-{drawn}", shortcut="right", on_click=jump, args=(claim_id, min(count - 1, here + 1)))
        st.button(
            "Submit and next", key=f"submit-{drawn}", shortcut="enter", on_click=submit, args=(claim_id, card.version),
            type="secondary" if card.missing else "primary",
        )  # fmt: skip


def current(card: Card) -> int | None:
    """The question whose keys are live: the one jumped to, else the first without a value; None when all have one."""
    asked = state.get("question")
    if asked and asked[0] == card.claim.claim_id:
        return int(asked[1])
    return next((place for place, one in enumerate(card.questions) if one.key not in card.values), None)


def name_of(card: Card, one: Question) -> str:
    if not one.response:
        return "A or B"
    return f"{letter(one.place)} {one.aspect}" if len(card.texts) > 1 else one.aspect


def why_skipped(card: Card) -> None:
    claim_id = card.claim.claim_id
    st.markdown("**Why skip this item?**")
    with st.container(horizontal=True, gap="small", key=f"whys-{claim_id}"):
        for number, why in enumerate(SKIPS, start=1):
            st.button(
                f"{number} {why}", key=f"why-{number}-{claim_id}", shortcut=str(number), on_click=skip, args=(claim_id, why)
            )
        st.button("Do not skip", key=f"stay-{claim_id}", shortcut="escape", on_click=ask_why, args=(None,), type="tertiary")


def action(label: str, key: str, claim_id: str, act: ui.Act, *args: object) -> None:
    """A quiet button with its key, drawn anew for each card so that nothing of the last one stays."""
    st.button(label, key=f"press-{label.lower()}-{claim_id}", shortcut=key, on_click=act, args=args, type="tertiary")


def write_words(card: Card) -> None:
    claim_id = card.claim.claim_id
    if card.design.reasons:
        st.pills(
            "Reasons", card.design.reasons, format_func=plain.md, selection_mode="multi", key=f"reasons-{claim_id}",
            default=[one for one in card.reasons if one in card.design.reasons], on_change=keep_words, args=(claim_id,),
        )  # fmt: skip
    if card.design.notes:
        st.text_input(
            "Note (kept as you type; Tab leaves it, then the keys work again)", value=card.note, key=f"note-{claim_id}",
            live="300ms", placeholder="why, in your words", max_chars=4000, on_change=keep_words, args=(claim_id,),
        )  # fmt: skip
    if state.pop("focus_note", False):
        ui.focus_note()


def show_help() -> None:
    with st.container(border=True):
        st.markdown(
            "**1** to **7** give a value · **←** **→** go to another question · **Enter** submit and next · **Space** skip · "
            "**U** undo the last answer · **N** note · **G** guidelines · **D** word difference · **H** this help"
        )


def history() -> None:
    """The last 20 answers, each to be opened and changed."""
    answers = opened.answers.history(person, study)
    if not answers:
        st.info("You have not answered anything in this study yet.")
    for one in answers:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Open again", key=f"reopen-{one.claim_id}", on_click=reopen, args=(one.item_id,))
            st.text(f"{ui.duration(one.seconds)} · {rating.in_words(opened, one)[:140]}")


design = studies.design_of(opened, study)
st.caption(plain.md(study))
tab = st.segmented_control(
    "Show", ["Rate", "My answers"], default="Rate", required=True, key="tab", label_visibility="collapsed"
)
if tab == "Rate":
    ui.answer_keys()
    if design.notes:
        ui.note_key()
    desk()
else:
    history()
