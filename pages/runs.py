"""Runs: background jobs, how far they are, and what became of them; the jobs of a grid stand within it."""

import streamlit as st

from curation import charts_rewards, plain, run_views, runs, ui
from training import engine
from training.run import OVER, Run

ui.page("Runs", "Background work. A run goes on when this page, or the whole app, is closed.")
MARKS = {"queued": "gray", "running": "blue", "done": "green", "failed": "red", "cancelled": "orange"}
A_ROW = 3  # curves beside one another


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
    groups = run_views.grouped(runs.all_runs(opened))
    if not groups:
        st.info("No run yet. Screening a dataset starts one.", icon=":material/play_circle:")
        st.page_link("pages/filters.py", label="Screen a dataset", icon=":material/filter_alt:")
    if st.session_state.get("told"):
        st.error(plain.md(st.session_state.pop("told")))
    for one in groups[:50]:
        with st.container(border=True, key=f"run-{one.view.run.run_id}"):
            show(one.view)
            if one.jobs:
                jobs(one)


def show(view: runs.RunView) -> None:
    run, state, progress = view.run, view.state, view.progress
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(state.status, color=MARKS[state.status])
        st.text(f"{state.kind} · {state.title}")
    if state.status == "running":
        st.progress(share_of(view), text=how_far(view))
        if progress.message:
            st.caption(plain.md(progress.message))
        st.button("Cancel", key=f"cancel-{run.run_id}", on_click=engine.cancel, args=(run,), icon=":material/stop_circle:")
    elif state.status in OVER:
        took = (state.ended_at - state.began_at).total_seconds() if state.ended_at and state.began_at else None
        found = f" · {progress.message}" if state.status == "done" and progress.message else ""
        st.caption(plain.md(f"{state.queued_at:%Y-%m-%d %H:%M} UTC · {ui.duration(took)}{found}"))
    if state.error:
        st.error(plain.md(state.error))
    if state.status in ("failed", "cancelled"):
        st.button("Resume", key=f"resume-{run.run_id}", on_click=resume, args=(run,), icon=":material/restart_alt:")
    watched(run)
    if state.status == "failed" and run.log_end():
        with st.expander("The end of its log"):
            st.code(run.log_end(), language=None)
    st.caption(f"`{run.run_id}`")


def share_of(view: runs.RunView) -> float:
    return min(1.0, view.progress.done / view.progress.total) if view.progress.total else 0.0


def how_far(view: runs.RunView) -> str:
    """How far a running job is, and how long it still needs."""
    progress, left = view.progress, runs.remaining(view)
    words = f"{progress.done:,} of {progress.total:,} {progress.unit}" if progress.total else "starting"
    return plain.md(words + (f", {ui.duration(left)} left" if left is not None else ""))


def jobs(group: run_views.Group) -> None:
    """The jobs of a grid, a line each; one of them opens with all that a run of its own shows."""
    grid = group.view.run.run_id
    if group.view.state.status == "done":
        st.page_link("pages/alignment.py", label="See what came out, under Alignment", icon=":material/route:")
    st.caption(f"Its jobs: {run_views.counted(group.jobs)}")
    if not st.toggle("Show the jobs", key=f"jobs-{grid}", value=group.view.state.status not in OVER):
        return
    for view in group.jobs:
        state = view.state
        with st.container(horizontal=True, vertical_alignment="center", key=f"job-{view.run.run_id}"):
            st.badge(state.status, color=MARKS[state.status])
            st.text(f"{state.kind} · {state.title}")
            if state.status == "running":
                st.caption(how_far(view))
            elif state.error:
                st.caption(plain.md(state.error))
    named = {view.run.run_id: f"{view.state.title} ({view.state.status})" for view in group.jobs}
    running = [name for name, view in zip(named, group.jobs, strict=True) if view.state.status == "running"]
    opened = st.selectbox(
        "Open a job", list(named), index=list(named).index(running[0]) if running else None, key=f"open-{grid}-{running[:1]}",
        format_func=lambda one: named[one], placeholder="none", width=460,
    )  # fmt: skip
    for view in group.jobs:
        if view.run.run_id == opened:
            with st.container(border=True):
                show(view)


def watched(run: Run) -> None:
    """What a training run has measured so far, step by step, and what its policy answers."""
    found, answers = runs.curves(run), run_views.samples(run)
    if not (found or answers):
        return
    if not st.toggle("Curves", key=f"curves-{run.run_id}", value=run.state().status == "running"):
        return
    steps, lines = (found.steps, found.lines) if found else ((), {})
    values = list(lines)
    for row in (values[start : start + A_ROW] for start in range(0, len(values), A_ROW)):
        for column, value in zip(st.columns(min(len(values), A_ROW)), row, strict=False):
            with column:
                st.plotly_chart(
                    charts_rewards.curve(steps, lines[value], value=value), key=f"curve-{run.run_id}-{value}",
                    config={"displayModeBar": False},
                )  # fmt: skip
    if answers:
        st.caption("Among its last answers")
    for one in answers:
        reward = "not scored yet" if one.reward is None else f"reward {one.reward:.3g}"
        with st.container(border=True):
            st.caption(plain.md(f"step {one.step:,} · {reward}"))
            ui.show_answer(one.prompt, one.response)


going_on()
