"""Adjudicate: pairs whose reviewers disagree, settled by one person."""

import time

import streamlit as st

from curation import review, ui
from curation.review import Verdict

opened = ui.page("Adjudicate", "Pairs whose reviewers disagree, the lowest agreement first. What you settle wins in releases.")
person = ui.signed_in()
dataset = ui.chosen_dataset(opened)
state = st.session_state
ui.answer_keys()


def settle(pair_id: str, verdict: Verdict, instead_of: str | None) -> None:
    began = state.get(f"began-{pair_id}")
    seconds = time.time() - began if began else None
    note = state.get(f"why-{pair_id}") or ""
    recorded = review.settle(opened, dataset, pair_id, verdict, person, note=note, seconds=seconds, instead_of=instead_of)
    state["told"] = f"Settled as {verdict}." if recorded else "That pair was settled meanwhile: nothing was recorded."


def step(by: int, among: int) -> None:
    state["place"] = (state.get("place", 0) + by) % max(1, among)


with st.container(horizontal=True, vertical_alignment="center"):
    which = st.segmented_control(
        "Show", ["Open", "Settled"], default="Open", required=True, key="which", label_visibility="collapsed"
    )
    names = st.toggle("Show names", key="names")
agree, several = opened.verdicts.agreement(dataset)
st.caption(f"Reviewers agree, of the pairs with two reviewers or more: {review.share(agree, several)}.")
if state.get("told"):
    st.info(state.pop("told"), icon=":material/info:")
disputed = opened.verdicts.disputed(dataset, settled=which == "Settled")
if not disputed:
    if which == "Settled":
        st.info("Nothing has been settled yet.", icon=":material/gavel:")
    elif not several:
        st.info(
            "No pair has two reviewers yet. Set “Reviewers for each pair” on the Review page to two or more, and invite one.",
            icon=":material/group:",
        )
    else:
        st.success("No disagreement is open.", icon=":material/done_all:")
    st.page_link("pages/review.py", label="Review", icon=":material/rule:")
    st.stop()

place = min(state.get("place", 0), len(disputed) - 1)
pair_id, reviewers, agreement = disputed[place]
pair = opened.pairs.pair(pair_id)
state.setdefault(f"began-{pair_id}", time.time())
with st.container(horizontal=True, vertical_alignment="center"):
    st.button("Previous", key="previous", on_click=step, args=(-1, len(disputed)), shortcut="left")
    st.button("Next", key="next", on_click=step, args=(1, len(disputed)), shortcut="right")
    st.text(f"{place + 1} of {len(disputed)} · {reviewers} reviewers, agreement {agreement:.0%}")
ui.show_pair(pair, a=("chosen", pair.chosen.text), b=("rejected", pair.rejected.text), compare=state.get("compare", False))
st.subheader("What reviewers said", anchor=False)
for number, one in enumerate(opened.verdicts.of_pair(pair_id), start=1):
    with st.container(border=True):
        who = one.person if names else f"Reviewer {number}"
        order = f" · chosen was shown as {one.chosen_shown}" if one.chosen_shown else ""
        st.text(f"{who}: {one.verdict} · {ui.duration(one.seconds)}{order}")
        if one.tags or one.note:
            st.text(" · ".join([*one.tags, one.note]).strip(" ·"))
ui.show_reasons(review.reasons(opened, dataset, pair_id))
settled = {one.pair_id: one for one in opened.verdicts.settlements(dataset)}.get(pair_id)
if settled is not None:
    st.success(f"Settled as {settled.verdict}. A new settlement takes its place; both are kept.")
    if settled.note:
        st.text(settled.note)
standing = settled.adjudication_id if settled is not None else None
st.subheader("Settle it", anchor=False)
st.text_input("Why (optional)", key=f"why-{pair_id}", live="300ms", persist_state="session")
KEYS = {"same": "1", "opposite": "2", "vague": "0", "toxic": "t", "repetitive": "p", "empty": "e"}
LABELS = {"same": "Same: the label is right", "opposite": "Opposite: swap it"}
with st.container(horizontal=True, key="choices", gap="small"):
    for verdict in Verdict:
        label = LABELS.get(verdict.value, verdict.value.capitalize())
        st.button(
            label,
            key=f"{verdict}-{pair_id}-{standing}",
            shortcut=KEYS[verdict.value],
            on_click=settle,
            args=(pair_id, verdict, standing),
        )
    st.button(
        "Difference",
        key=f"compare-{pair_id}",
        shortcut="d",
        type="tertiary",
        on_click=lambda: state.update(compare=not state.get("compare", False)),
    )
