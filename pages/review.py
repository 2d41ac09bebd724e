"""Review: one pair at a time, blind, by key."""

import streamlit as st

from curation import plain, review, ui
from curation.review import CHOICES, TAGS, Card, Outcome, Settings, View

opened = ui.page("Review")
person = ui.signed_in()
dataset = ui.chosen_dataset(opened)
state = st.session_state
said = {one.name: one.label for one in CHOICES}


def view_chosen() -> View:
    """Which pairs, in which order: kept in the address, so that a link or a reload shows the same."""
    filters = [one.filter for one in opened.flags.current(dataset)]
    subsets = [subset for subset in opened.pairs.subsets(dataset) if subset]
    pools = {"Flagged pairs": "flagged", "All pairs": "all"}
    orders = {"Most suspicious first": "suspicious", "Random": "random"}
    with st.popover("Which pairs", icon=":material/tune:"):
        pool = st.segmented_control("Pairs", pools, default="Flagged pairs", required=True, key="pool", bind="query-params")
        order = st.selectbox("Order", list(orders), key="order", bind="query-params")
        chosen = st.selectbox(
            "Flagged by", ["any filter", *filters], key="filter", bind="query-params", disabled=pool == "All pairs"
        )
        subset = st.selectbox("Subset", ["all subsets", *subsets], key="subset", bind="query-params")
    return View(
        "random" if orders[order] == "random" else "suspicious",
        "all" if pools[pool] == "all" else "flagged",
        chosen if chosen in filters and pool != "All pairs" else None,
        subset if subset in subsets else None,
    )


@ui.told
def press(claim_id: str, choice: str) -> None:
    """A decision, under the claim its button was drawn for."""
    note, tags = state.get(f"note-{claim_id}") or "", tuple(state.get(f"tags-{claim_id}") or ())
    claim = opened.board.claim(claim_id)
    outcome = review.decide(opened, claim_id, person, choice, note=note, tags=tags)
    if outcome is Outcome.OVER:
        state["told"] = "That pair was already answered, or its time ran out and someone else has it: nothing was recorded."
        return
    state["told"] = None
    if claim is not None:
        state["last"] = (claim.pair_id, choice, claim.chosen_shown)


@ui.told
def skip(claim_id: str) -> None:
    review.skip(opened, claim_id)
    state.update(told=None, last=None)


@ui.told
def undo(undone: int) -> None:
    if undone != state.get("undone", 0):
        return  # pressed twice: that would take back one more answer than was seen
    if review.undo(opened, person, dataset) is None:
        state["told"] = "There is nothing to undo yet."
    else:
        state.update(told="Taken back: decide again.", last=None, undone=undone + 1)


def toggle(name: str) -> None:
    state[name] = not state.get(name, False)


def open_note() -> None:
    state["focus_note"] = True


@ui.told
def keep_draft(claim_id: str) -> None:
    note, tags = state.get(f"note-{claim_id}") or "", tuple(state.get(f"tags-{claim_id}") or ())
    review.save_draft(opened, claim_id, note, tags)


@st.fragment
def desk(view: View) -> None:
    """The card and its keys; a press draws only this again."""
    settings = review.settings_of(opened, dataset)
    try:
        card = review.next_card(opened, person, dataset, view, settings=settings, again=state.get("again", False))
    except OSError as error:
        st.error(f"{plain.md(str(error))}. Your answers so far are safe.", icon=":material/save:")
        st.button("Try again", key="try-again")
        return
    status = review.status(opened, person, dataset, view, settings=settings)
    pace = f", {ui.duration(status.pace)} a pair" if status.pace is not None else ""
    st.markdown(f"**{status.done:,} done, {status.left:,} left{pace}**", width="content")
    if state.get("told"):
        st.info(state["told"], icon=":material/info:")
    if card is None:
        nothing_left(status)
    else:
        show(card, settings)
    show_last(settings)


def nothing_left(status: review.Status) -> None:
    if status.skipped:
        st.info(f"Nothing left but {status.skipped} skipped.", icon=":material/redo:")
        st.button("Go through the skipped pairs", key="again-button", on_click=toggle, args=("again",), type="primary")
    elif ui.for_reviewers():
        st.success("Nothing left to review here. Thank you.", icon=":material/done_all:")
    elif not opened.flags.current(dataset):
        st.info("This dataset is not screened yet, so nothing is flagged. Screen it, or choose “All pairs” above.")
        st.page_link("pages/filters.py", label="Screen it", icon=":material/filter_alt:")
    else:
        st.success("Nothing left to review here. Thank you.", icon=":material/done_all:")
        st.page_link("pages/datasets.py", label="Make a release", icon=":material/inventory_2:")
    st.button("Undo", key="undo-empty", shortcut="u", on_click=undo, args=(state.get("undone", 0),))


def show(card: Card, settings: Settings) -> None:
    claim = card.claim
    if card.earlier is not None:
        st.caption("You decided this pair before; your earlier answer stands until you give a new one.")
    ui.show_card(card, labels=not settings.blind, compare=state.get("compare", False))
    if settings.reasons == "before":
        ui.show_reasons(
            review.reasons(opened, dataset, claim.pair_id),
            sides=None if not settings.blind else sides(claim.chosen_shown),
        )
    with st.container(horizontal=True, key="choices", gap="small"):
        for one in CHOICES:
            st.button(
                one.label, key=f"{one.name}-{claim.claim_id}", shortcut=one.key.lower(), help=one.meaning,
                type="primary" if one.name in ("A", "B") else "secondary", on_click=press, args=(claim.claim_id, one.name),
            )  # fmt: skip
    with st.container(horizontal=True, key="actions", gap="small"):
        action("Skip", "space", claim.claim_id, skip, claim.claim_id)
        action("Undo", "u", claim.claim_id, undo, state.get("undone", 0))
        action("Note", "n", claim.claim_id, open_note)
        action("Difference", "d", claim.claim_id, toggle, "compare")
        action("Help", "h", claim.claim_id, toggle, "help")
    with st.container(key="note-area"):  # there from the start, hidden while empty: the key n finds it at once
        write_note(card)
    if state.get("help"):
        show_help()


def action(label: str, key: str, claim_id: str, act: ui.Act, *args: object) -> None:
    """A quiet button with its key, drawn anew for each card so that nothing of the last one stays."""
    st.button(label, key=f"press-{label.lower()}-{claim_id}", shortcut=key, on_click=act, args=args, type="tertiary")


def write_note(card: Card) -> None:
    claim_id, (note, tags) = card.claim.claim_id, card.draft
    st.pills(
        "Reasons", TAGS, selection_mode="multi", default=[one for one in tags if one in TAGS], key=f"tags-{claim_id}",
        on_change=keep_draft, args=(claim_id,),
    )  # fmt: skip
    st.text_input(
        "Note (kept as you type; Tab leaves it, then the keys work again)", value=note, key=f"note-{claim_id}", live="300ms",
        placeholder="why, in your words", max_chars=4000, on_change=keep_draft, args=(claim_id,),
    )  # fmt: skip
    if state.pop("focus_note", False):
        ui.focus_note()


def show_help() -> None:
    with st.container(border=True):
        for one in CHOICES:
            st.markdown(f"**{one.key}** {one.label}: {one.meaning}")
        st.markdown(
            "**Space** skip · **U** undo the last answer · **N** note · **D** show the word difference · **H** this help"
        )


def sides(chosen_shown: str) -> dict[str, str]:
    """What to call chosen and rejected while the label is hidden."""
    return {"chosen": chosen_shown, "rejected": "B" if chosen_shown == "A" else "A"}


def show_last(settings: Settings) -> None:
    """What was just decided, and what the filters had said of it."""
    last = state.get("last")
    if not last:
        return
    pair_id, choice, chosen_shown = last
    verdict = review.verdict_of(choice, chosen_shown)
    st.divider()
    st.caption(f"Your last answer: {said[choice]} → **{verdict}**. What the filters say of that pair:")
    ui.show_reasons(review.reasons(opened, dataset, pair_id))


def history() -> None:
    """The last 20 decisions, each to be opened and changed."""
    decisions = opened.verdicts.history(person, dataset)
    if not decisions:
        st.info("You have not decided anything in this dataset yet.")
    for one in decisions:
        pair = opened.pairs.pair(one.pair_id)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Open again", key=f"reopen-{one.claim_id}", on_click=reopen, args=(one.pair_id,))
            asked = pair.prompt[-1].content if pair.prompt else pair.chosen.text
            note = f" · {one.note}" if one.note else ""
            about = f"{said[review.choice_of(one)]} → {one.verdict} · {ui.duration(one.seconds)}{note}"
            st.text(f"{about} · {' '.join(asked.split())[:110]}")


@ui.told
def reopen(pair_id: str) -> None:
    review.reopen(opened, person, dataset, pair_id)
    state.update(tab="Review", last=None, told=None)


def setup() -> None:
    """How this dataset is reviewed, and how reviewers do on gold pairs."""
    st.caption("Reviewers who come by the address of this page with `?for=reviewers` see their queue and nothing else.")
    now = review.settings_of(opened, dataset)
    fields = Settings.model_fields
    with st.form("settings"):
        overlap = st.number_input("Reviewers for each pair", 1, 20, now.overlap, help=fields["overlap"].description)
        control = st.slider(
            "Control sample, share", 0.0, 0.9, now.control_share, 0.05, help=fields["control_share"].description
        )
        gold = st.slider("Gold pairs, share", 0.0, 0.5, now.gold_share, 0.01, help=fields["gold_share"].description)
        blind = st.checkbox("Blind", now.blind, help=fields["blind"].description)
        before = st.checkbox("Show the filters' reasons before the answer", now.reasons == "before")
        minutes = st.number_input(
            "A claim lasts at least, minutes",
            0.01,
            1440.0,
            now.least_claim_minutes,
            help=fields["least_claim_minutes"].description,
        )
        if st.form_submit_button("Save", type="primary"):
            settings = Settings(
                overlap=overlap, control_share=control, gold_share=gold, blind=blind,
                reasons="before" if before else "after", least_claim_minutes=minutes,
            )  # fmt: skip
            review.change_settings(opened, dataset, settings, person)
            st.success("Saved; the queue follows from the next pair on.")
    st.subheader("Gold pairs", anchor=False)
    st.caption("Pairs whose answer is known, every second one with its label turned round, mixed into everyone's queue.")
    st.metric("Gold pairs", len(opened.verdicts.gold(dataset)))
    wanted = st.number_input("Make gold pairs of settled ones", 1, 500, 10)
    if st.button("Make them", key="make-gold"):
        made = review.gold_of_settled(opened, dataset, person, wanted=wanted)
        if made:
            st.success(f"{made} gold pairs made.")
        else:
            st.warning("There is no settled pair left: adjudicate some, or let two reviewers agree on some.")
    scores = review.gold_scores(opened, dataset)
    if scores:
        st.dataframe(scores, hide_index=True)
    else:
        st.caption("Gold scores: none yet.")


with st.container(horizontal=True, vertical_alignment="bottom"):
    tabs = ["Review", "My decisions"] if ui.for_reviewers() else ["Review", "My decisions", "Settings"]
    tab = st.segmented_control("Show", tabs, default="Review", required=True, key="tab", label_visibility="collapsed")
    chosen_view = view_chosen() if tab == "Review" else View()
if tab == "Review":
    ui.answer_keys()
    ui.note_key()
    desk(chosen_view)
elif tab == "My decisions":
    history()
else:
    setup()
