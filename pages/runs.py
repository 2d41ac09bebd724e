"""Runs: background jobs, how far they are, and what became of them."""

import streamlit as st

from curation import charts_rewards, runs, ui
from training import engine
from training.run import OVER, Run

ui.page("Runs", "Background work. A run goes on when this page, or the whole app, is closed.")
MARKS = {"queued": "gray", "running": "blue", "done": "green", "failed": "red", "cancelled": "orange"}


def resume(run: Run) -> None:
    try:
        engine.resume(run)
    except (ValueError, OSError) as error:
        st.session_state["told"] = str(error)


@st.fragment(run_every=1.0)
def going_on() -> None:
    """The list, drawn again each second, so that progress is seen and finished runs come in."""
    opened = ui.workspace()
    runs.settle(opened)
    views = runs.all_runs(opened)
    if not views:
        st.info("No run yet. Screening a dataset starts one.", icon=":material/play_circle:")
        st.page_link("pages/filters.py", label="Screen a dataset", icon=":material/filter_alt:")
    if st.session_state.get("told"):
        st.error(ui.plain(st.session_state.pop("told")))
    for view in views[:50]:
        show(view)


def show(view: runs.RunView) -> None:
    run, state, progress = view.run, view.state, view.progress
    with st.container(border=True, key=f"run-{run.run_id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(state.status, color=MARKS[state.status])
            st.text(f"{state.kind} · {state.title}")
        if state.status == "running":
            share = progress.done / progress.total if progress.total else 0.0
            left = runs.remaining(view)
            words = f"{progress.done:,} of {progress.total:,} {progress.unit}" if progress.total else "starting"
            st.progress(min(1.0, share), text=words + (f", {ui.duration(left)} left" if left is not None else ""))
            if progress.message:
                st.caption(ui.plain(progress.message))
            st.button("Cancel", key=f"cancel-{run.run_id}", on_click=engine.cancel, args=(run,), icon=":material/stop_circle:")
        elif state.status in OVER:
            took = (state.ended_at - state.began_at).total_seconds() if state.ended_at and state.began_at else None
            found = f" · {progress.message}" if state.status == "done" and progress.message else ""
            st.caption(ui.plain(f"{state.queued_at:%Y-%m-%d %H:%M} UTC · {ui.duration(took)}{found}"))
        if state.error:
            st.error(ui.plain(state.error))
        if state.status in ("failed", "cancelled"):
            st.button("Resume", key=f"resume-{run.run_id}", on_click=resume, args=(run,), icon=":material/restart_alt:")
        curves(run)
        if state.status == "failed" and run.log_end():
            with st.expander("The end of its log"):
                st.code(run.log_end(), language=None)
        st.caption(f"`{run.run_id}`")


def curves(run: Run) -> None:
    """What a training run has measured so far, step by step."""
    found = runs.curves(run)
    if not found or not st.toggle("Curves", key=f"curves-{run.run_id}", value=run.state().status == "running"):
        return
    for column, (value, lines) in zip(st.columns(len(found.lines)), found.lines.items(), strict=True):
        with column:
            st.plotly_chart(
                charts_rewards.curve(found.steps, lines, value=value), key=f"curve-{run.run_id}-{value}",
                config={"displayModeBar": False},
            )  # fmt: skip


going_on()
