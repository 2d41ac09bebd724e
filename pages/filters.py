"""Filters: what each looks for, run them, and what they found."""

import json

import streamlit as st

from curation import ablation, charts, plain, runs, screening_view, ui, worth, worth_results
from curation.filters.base import Filter, ReadingFilter
from curation.filters.registry import FILTERS

opened = ui.page("Filters", "Each looks for one kind of noise and says why. A flag is a question to a reviewer, not a verdict.")
dataset = ui.chosen_dataset(opened)
state = st.session_state
current = {one.filter: one for one in opened.flags.current(dataset)}


def parameters(name: str, kind: type[Filter]) -> dict[str, object]:
    """A widget for each parameter, made from its definition; it starts at what the last screening used.

    The threshold starts where it is now. Rules hardly want another one: there it comes last.
    """
    used = json.loads(current[name].parameters) if name in current else {}
    if "threshold" in used or (name in current and current[name].threshold):  # a screening of before knew no thresholds
        used["threshold"] = current[name].threshold
    fields = dict(kind.model_fields)
    if not issubclass(kind, ReadingFilter):
        fields["threshold"] = fields.pop("threshold")
    values: dict[str, object] = {}
    for field, one in fields.items():
        value, key, words = used.get(field, one.default), f"{name}.{field}", one.description or ""
        if isinstance(value, bool):
            values[field] = st.checkbox(f"{field}: {words}", value, key=key)
        elif isinstance(value, str):
            values[field] = st.text_input(f"{field}: {words}", value, key=key).strip()
        elif field == "threshold":
            values[field] = st.number_input(f"{field}: {words}", 0.0, 1.0, value, step=0.01, key=key)
        elif isinstance(value, float):
            values[field] = st.number_input(f"{field}: {words}", value=value, step=0.05, key=key)
        else:
            values[field] = st.number_input(f"{field}: {words}", value=value, step=1, key=key)
    return values


def run_form() -> None:
    """Choose filters and thresholds, and start a background run. What was typed for another dataset, or before the latest
    screening, is no start for this one."""
    form = (dataset, sorted((one.run_id, one.filter, one.threshold) for one in current.values()))
    if state.get("form-of") not in (None, form):
        for key in [key for key in state if "." in str(key) and str(key).split(".")[0] in FILTERS]:
            del state[key]
    state["form-of"] = form
    wanted: dict[str, dict[str, object]] = {}
    for name, kind in FILTERS.items():
        with st.container(border=True, key=f"filter-{name}"):
            with st.container(horizontal=True, vertical_alignment="center"):
                on = st.checkbox(f"**{name}**", value=True, key=f"on-{name}")
                if name in current:
                    st.badge(f"{current[name].flagged:,} of {current[name].screened:,} pairs", color="blue")
            st.caption(kind.description())
            if kind.model_fields:
                with st.expander("Settings"):
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
            state["told"] = f"The run failed: {view.state.error}"
        st.rerun(scope="app")
        return
    progress = view.progress
    share = progress.done / progress.total if progress.total else 0.0
    left = runs.remaining(view)
    kind = "Comparing" if view.state.kind == "ablation" else "Screening"
    words = f"{kind}: {progress.done:,} of {progress.total:,} {progress.unit}" if progress.total else f"{kind}: starting"
    st.progress(min(1.0, share), text=words + (f", {ui.duration(left)} left" if left is not None else ""))
    if progress.message:
        st.caption(plain.md(progress.message))


def found() -> None:
    """What the filters found: by filter and subset, together, and examples."""
    counts = screening_view.counts(opened, dataset)
    st.subheader("Flags per filter and subset", anchor=False)
    st.plotly_chart(charts.flags_by_filter(counts), key="by-filter", config={"displayModeBar": False})
    with st.expander("As a table, with intervals"):
        st.dataframe(screening_view.shares(counts), hide_index=True)
    read_by_whom()
    if "contested" in current:
        strengths()
    st.subheader("Pairs that two filters both flag", anchor=False)
    st.plotly_chart(charts.overlap(screening_view.overlap(opened, dataset)), key="overlap", config={"displayModeBar": False})
    st.subheader("Examples", anchor=False)
    below = opened.flags.kept_below(dataset)
    flagging = [name for name in FILTERS if name in current and (current[name].flagged or name in below)]
    if not flagging:
        st.success("No filter flags anything.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("Filter", flagging, key="example-filter", width=220)
        if st.button("Other examples", key="draw", icon=":material/shuffle:"):
            state["draw"] = state.get("draw", 0) + 1
        lower = name in below and st.toggle("Below the threshold", key=f"below-{name}", value=not current[name].flagged)
    st.plotly_chart(charts.scores(opened.flags.scores(dataset, name)), key=f"scores-{name}", config={"displayModeBar": False})
    for one in opened.flags.examples(dataset, name, seed=str(state.get("draw", 0)), flagged=not lower):
        pair = opened.pairs.pair(one["pair_id"])
        with st.container(border=True):
            ui.show_reasons([{"filter": name, **one}])
            ui.show_pair(pair, a=("chosen", pair.chosen.text), b=("rejected", pair.rejected.text))
            if st.toggle("Its neighbours", key=f"neighbours-{name}-{one['pair_id']}-{one['side']}"):
                ui.show_neighbours(opened, dataset, one["pair_id"])


def strengths() -> None:
    """How strongly models prefer the labels, subset by subset, and the pairs at either end."""
    table = screening_view.strengths(opened, dataset)
    if table.empty:
        return
    st.subheader("How strongly models prefer the labels", anchor=False)
    st.caption(plain.md(f"Read by {current['contested'].read_by or 'reward models'}. Below 0 the votes go against the label."))
    st.plotly_chart(charts.strengths(table), key="strengths", config={"displayModeBar": False})
    st.dataframe(screening_view.strength_in_words(table), hide_index=True)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        subsets = list(dict.fromkeys(table["subset"]))
        subset = st.selectbox("Subset", subsets, key="tail-subset", width=240, format_func=lambda one: one or "(no subset)")
        end = st.segmented_control(
            "Open the pairs",
            ["against their label", "for their label"],
            default="against their label",
            required=True,
            key="tail",
        )
    found = screening_view.tail(opened, dataset, table, subset=subset, against=end == "against their label")
    picked = ui.pick_row([row for row, _ in found], key=f"tail-{subset}-{end}", before=[cells for _, cells in found])
    if picked is not None:
        pair = opened.pairs.pair(found[picked][0].pair_id)
        with st.container(border=True):
            ui.show_pair(pair, a=("chosen", pair.chosen.text), b=("rejected", pair.rejected.text))
            ui.show_reasons(opened.flags.of_pair(dataset, pair.pair_id))


def read_by_whom() -> None:
    """Which models read for the filters, and what was found below a threshold."""
    below = opened.flags.kept_below(dataset)
    for name, one in current.items():
        words = [f"read by {one.read_by}"] if one.read_by else []
        if name in below:
            kept = f"the scores of {below[name]:,} more pairs are below its threshold of {one.threshold:.2f}"
            words.append(f"{kept}: kept, not flagged")
        if words:
            stand_in = one.read_by.startswith("alt-profanity-check")  # it knows swear words and little else
            st.caption(f"{':orange[:material/warning:] ' if stand_in else ''}**{name}**: {plain.md('; '.join(words))}")


# ---- what they are worth


def worth_of_them() -> None:
    """Each filter against the verdicts; a threshold tried out; what all of them miss; what may be dropped unreviewed."""
    with st.spinner("Holding the flags against the verdicts"):
        found = worth.worth(opened, dataset)
    st.caption(
        "A problem is a pair that reviewers judged anything but “same”. In brackets is the 95% interval, n counts the pairs "
        "behind it. Precision is over reviewed flags: where the most suspicious were reviewed first, the rest may do worse."
    )
    st.table([{name: plain.md(cell) for name, cell in one.row().items()} for one in found.filters.values()], hide_index=True)
    with st.expander("What the columns say"):
        st.markdown("\n".join(f"- **{name}**: {plain.md(words)}" for name, words in worth_results.COLUMNS.items()))
    st.subheader("Try another threshold", anchor=False)
    another_threshold(found)
    st.subheader("What the filters miss", anchor=False)
    the_missed(found.control)
    st.subheader("Good enough to drop unreviewed?", anchor=False)
    proposals(found)


@st.fragment
def another_threshold(found: worth.Worth) -> None:
    """One filter's threshold, moved in memory until it is put in force."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = list(found.filters)
        name = st.selectbox("Filter", names, index=names.index(found.busiest), key="worth-filter", width=220)
        now = found.thresholds[name]
        threshold = round(st.slider("Threshold", 0.0, 1.0, now, step=0.01, key=f"threshold-{name}-{now}"), 4)
        use = st.button("Use this threshold", key="use-threshold", type="primary", disabled=threshold == now)
    if use:
        set_threshold(name, threshold)
    there = found.at(name, threshold)
    with st.container(horizontal=True):
        st.metric("Flagged pairs", f"{there.flagged:,}", border=True)
        interval("Precision there", there.problems.short(), there.problems.limits_in_words())
        st.metric("Found, but below", f"{there.below:,}", border=True)
    st.markdown(
        plain.md(found.move(name, threshold).words() if threshold != now else f"{now:.2f} is in force now, the dotted line.")
    )
    chart = charts.worth_of_thresholds(found.curve(name), now=now, looked_at=threshold)
    st.plotly_chart(chart, key=f"worth-{name}", config={"displayModeBar": False})


def set_threshold(name: str, threshold: float) -> None:
    """Put it in force and show the page anew."""
    person = state.get("person", "curator")
    if ui.attempt(lambda: worth.move_thresholds(opened, dataset, {name: threshold}, person)):
        state["set"] = f"{name} flags from {threshold:.2f} on now; review goes by it."
        st.rerun(scope="app")


def the_missed(control: worth_results.Control) -> None:
    """The control sample, and what follows from it."""
    misses = control.misses()
    if misses is None:
        st.info(control.headline(), icon=":material/search:")
        return
    with st.container(horizontal=True):
        st.metric("Pairs no filter flags", f"{control.unflagged:,}", border=True)
        interval("Problems in the control sample", control.rate.short(), control.rate.limits_in_words())
        interval("So the filters miss about", f"{misses.pairs:,} problems", misses.limits_in_words())
    st.markdown("\n".join(f"- {plain.md(words)}" for words in control.details()))


def interval(label: str, value: str, limits: str) -> None:
    """A number with its interval below it."""
    st.metric(label, value, limits, delta_color="off", delta_arrow="off", border=True)


def proposals(found: worth.Worth) -> None:
    """What speaks for and against dropping each filter's flags unreviewed; the accepted ones go to the release policy."""
    st.caption(plain.md(worth.RULE))
    accepted = []
    for name, one in found.proposals.items():
        words = f"**{name}**: {plain.md(one.reason)}"
        if one.drop:
            if st.checkbox(words, value=True, key=f"accept-{name}"):
                accepted.append(name)
            continue
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f":material/remove: {words}")
            if one.threshold is not None and st.button(f"Use {one.threshold:.2f}", key=f"propose-{name}"):
                set_threshold(name, one.threshold)
    if st.button("Take into the release policy", key="take-into-policy", disabled=not accepted):
        state["drop-unreviewed"] = {**state.get("drop-unreviewed", {}), dataset: {name: current[name] for name in accepted}}
    taken = [name for name, one in state.get("drop-unreviewed", {}).get(dataset, {}).items() if current.get(name) == one]
    if taken:
        st.success(f"The release policy drops unreviewed pairs flagged by {plain.md(', '.join(taken))}.")
        st.page_link("pages/datasets.py", label="Datasets, under Releases", icon=":material/inventory_2:")


# ---- what cleaning does


def what_cleaning_does() -> None:
    """Release policies side by side, from nothing to everything, as the latest comparison found them."""
    st.caption(
        "From keeping everything to dropping whatever a filter flags and nobody reviewed, one part after the other; then the "
        "whole without each part. In parentheses: the change from the dataset as it was; in brackets the 95% interval."
    )
    table = ablation.latest(opened, dataset)
    words = "Compare again" if table else "Compare policies"
    pressed = st.button(words, key="compare", type="secondary" if table else "primary", icon=":material/balance:")
    if pressed and ui.attempt(lambda: state.update(watching=runs.start_ablation(opened, dataset).run_id)):
        st.rerun()
    if table is None:
        st.info("None yet: comparing takes some seconds where the texts are read already.", icon=":material/balance:")
        return
    if ablation.out_of_date(opened, dataset, table["run"]):
        st.warning("Flags or verdicts have changed since: compare again.", icon=":material/update:")
    st.dataframe(ablation.in_words(table), hide_index=True)
    st.caption(plain.md("; ".join(f"{what} by {model}" for what, model in table["read_by"].items()) + f". Run {table['run']}."))


if state.get("set"):
    st.success(plain.md(state.pop("set")), icon=":material/check:")
if state.get("told"):
    st.error(plain.md(state.pop("told")))
if "watching" in state:
    watch()
TABS = ("What they found", "What they are worth", "What cleaning does", "What they are")
tab = st.segmented_control(
    "Show", TABS, default=TABS[0] if current else TABS[-1], required=True, key="filters-tab", label_visibility="collapsed"
)
if not current:
    st.info("This dataset is not screened yet.", icon=":material/filter_alt:")
if tab == "What they are" or not current:
    run_form()
elif tab == "What they are worth":
    worth_of_them()
elif tab == "What cleaning does":
    what_cleaning_does()
else:
    found()
