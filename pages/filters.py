"""Filters: what each looks for, run them, and what they found."""

import json

import streamlit as st

from curation import charts, runs, screening_view, ui
from curation.filters.base import Filter
from curation.filters.registry import FILTERS

opened = ui.page("Filters", "Each looks for one kind of noise and says why. A flag is a question to a reviewer, not a verdict.")
dataset = ui.chosen_dataset(opened)
state = st.session_state
current = {one.filter: one for one in opened.flags.current(dataset)}


def parameters(name: str, kind: type[Filter]) -> dict[str, object]:
    """A widget for each parameter, made from its definition; it starts at what the last screening used."""
    used = json.loads(current[name].parameters) if name in current else {}
    values: dict[str, object] = {}
    for field, one in kind.model_fields.items():
        value, key, words = used.get(field, one.default), f"{name}.{field}", one.description or ""
        if isinstance(value, bool):
            values[field] = st.checkbox(f"{field}: {words}", value, key=key)
        elif isinstance(value, float):
            values[field] = st.number_input(f"{field}: {words}", value=value, step=0.05, key=key)
        else:
            values[field] = st.number_input(f"{field}: {words}", value=value, step=1, key=key)
    return values


def run_form() -> None:
    """Choose filters and thresholds, and start a background run."""
    wanted: dict[str, dict[str, object]] = {}
    for name, kind in FILTERS.items():
        with st.container(border=True, key=f"filter-{name}"):
            with st.container(horizontal=True, vertical_alignment="center"):
                on = st.checkbox(f"**{name}**", value=True, key=f"on-{name}")
                if name in current:
                    st.badge(f"{current[name].flagged:,} of {current[name].screened:,} pairs", color="blue")
            st.caption(kind.description())
            if kind.model_fields:
                with st.expander("Thresholds"):
                    values = parameters(name, kind)
            else:
                values = {}
            if on:
                wanted[name] = values
    if st.button("Screen the dataset", type="primary", key="screen", icon=":material/play_arrow:", disabled=not wanted):
        with st.spinner("Handing the pairs over"):
            started = ui.attempt(lambda: state.update(watching=runs.start_screening(opened, dataset, wanted).run_id))
        if started:
            st.rerun()


@st.fragment(run_every=0.5)
def watch() -> None:
    """The run this page started, until it is over."""
    view = next((one for one in runs.all_runs(opened) if one.run.run_id == state["watching"]), None)
    if view is None or view.state.status not in ("queued", "running"):
        state.pop("watching", None)
        if view is not None and view.state.status == "failed":
            state["told"] = f"Screening failed: {view.state.error}"
        st.rerun(scope="app")
        return
    progress = view.progress
    share = progress.done / progress.total if progress.total else 0.0
    left = runs.remaining(view)
    words = f"Screening: {progress.done:,} of {progress.total:,} {progress.unit}" if progress.total else "Screening: starting"
    st.progress(min(1.0, share), text=words + (f", {ui.duration(left)} left" if left is not None else ""))


def found() -> None:
    """What the filters found: by filter and subset, together, and examples."""
    counts = screening_view.counts(opened, dataset)
    st.subheader("Flags per filter and subset", anchor=False)
    st.plotly_chart(charts.flags_by_filter(counts), key="by-filter", config={"displayModeBar": False})
    with st.expander("As a table, with intervals"):
        st.dataframe(screening_view.shares(counts), hide_index=True)
    st.subheader("Pairs that two filters both flag", anchor=False)
    st.plotly_chart(charts.overlap(screening_view.overlap(opened, dataset)), key="overlap", config={"displayModeBar": False})
    st.subheader("Examples", anchor=False)
    flagging = [name for name in FILTERS if name in current and current[name].flagged]
    if not flagging:
        st.success("No filter flags anything.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("Filter", flagging, key="example-filter", width=220)
        if st.button("Other examples", key="draw", icon=":material/shuffle:"):
            state["draw"] = state.get("draw", 0) + 1
    st.plotly_chart(charts.scores(opened.flags.scores(dataset, name)), key=f"scores-{name}", config={"displayModeBar": False})
    for one in opened.flags.examples(dataset, name, seed=str(state.get("draw", 0))):
        pair = opened.pairs.pair(one["pair_id"])
        with st.container(border=True):
            ui.show_reasons([{"filter": name, **one}])
            ui.show_pair(pair, a=("chosen", pair.chosen.text), b=("rejected", pair.rejected.text))


if state.get("told"):
    st.error(ui.plain(state.pop("told")))
if "watching" in state:
    watch()
tab = st.segmented_control(
    "Show", ["What they found", "What they are"], default="What they found" if current else "What they are", required=True,
    key="filters-tab", label_visibility="collapsed",
)  # fmt: skip
if not current:
    st.info("This dataset is not screened yet.", icon=":material/filter_alt:")
if tab == "What they are" or not current:
    run_form()
else:
    found()
