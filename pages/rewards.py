"""Rewards: reward models against a dataset's labels: accuracy in parts, confidence, length, pitfalls; score and train them."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from curation import (
    benchmark,
    benchmark_report,
    charts_rewards,
    pitfalls,
    pitfalls_report,
    plain,
    reward_models,
    reward_training,
    runs,
    scoring,
    ui,
)
from curation.probes import PROBES
from training.rewards.registry import FAMILIES

opened = ui.page("Rewards", "How often each reward model prefers the response people chose, and what it falls for.")
state = st.session_state
VIEWS = ("Accuracy", "Cleaning", "Against each other", "Confidence and length", "Pitfalls", "Reward models")
_TEXTS = ("reward_model", "dataset", "release", "study", "policies")  # settings of a scoring that have widgets of their own
PLAIN: dict[str, Any] = {"displayModeBar": False}


def started(kind: str, settings: dict[str, Any]) -> None:
    """Start a run, say so, and draw the page anew."""
    with st.spinner("Handing the texts over"):
        done = ui.attempt(lambda: state.update(started=runs.start_run(opened, kind, settings).run_id))
    if done:
        st.rerun()


def at_work() -> list[runs.RunView]:
    """Runs of this page's kinds that are not over."""
    return [one for one in runs.all_runs(opened) if one.state.kind in runs.KINDS and one.state.status in ("queued", "running")]


def going_on() -> None:
    """What became of the run this session started, and how far those are that are not over."""
    busy = {one.run.run_id for one in at_work()}
    mine = next((one for one in runs.all_runs(opened) if one.run.run_id == state.get("started")), None)
    if mine is not None and mine.run.run_id not in busy:
        state.pop("started")
        if mine.state.status == "done":
            st.success(plain.md(f"{mine.state.title}: {mine.progress.message}"), icon=":material/check_circle:")
        else:
            st.error(plain.md(f"{mine.state.title} {mine.state.status}: {mine.state.error or 'it was stopped'}"))
    if busy:
        watch(busy)


@st.fragment(run_every=1.0)
def watch(busy: set[str]) -> None:
    """How far they are, drawn again each second; when one is over the page is drawn anew, with what it made."""
    views = at_work()
    if {one.run.run_id for one in views} != busy:
        st.rerun(scope="app")
    for view in views[:3]:
        progress, left = view.progress, runs.remaining(view)
        words = f"{view.state.title}: "
        words += f"{progress.done:,} of {progress.total:,} {progress.unit}" if progress.total else "starting"
        words += f", {progress.message}" if progress.message else ""
        st.progress(
            min(1.0, progress.done / progress.total) if progress.total else 0.0,
            text=plain.md(words + (f", {ui.duration(left)} left" if left is not None else "")),
        )
    st.page_link("pages/runs.py", label="Watch or cancel it under Runs", icon=":material/play_circle:")


# ---- the models themselves


def models(dataset: str | None) -> None:
    """The registry, and forms to register, score, probe and train."""
    counts = opened.scores.counts()
    st.dataframe(
        [
            {
                "reward model": one.reward_model, "texts scored": counts.get(one.reward_model, (0, 0))[0],
                "too long, cut": counts.get(one.reward_model, (0, 0))[1], "what it is": reward_models.described(one),
                "by": one.person, "since": one.registered_at,
            }
            for one in reward_models.all_models(opened)
        ],
        hide_index=True,
    )  # fmt: skip
    tab = st.segmented_control(
        "Do", ["Score", "Train one", "Register one"], default="Score", required=True, key="do", label_visibility="collapsed"
    )
    if tab == "Score":
        score(dataset)
    elif tab == "Train one":
        train(dataset)
    else:
        register()


def score(dataset: str | None) -> None:
    names = [one.reward_model for one in reward_models.all_models(opened)]
    studies = [name for name, _, _ in opened.studies.all()]
    policies = [one.generator for one in opened.policies.generators()]
    offered = [f"dataset {dataset}", *(f"release {one.name}" for one in opened.releases.all(dataset))] if dataset else []
    offered += [*(f"study {one}" for one in studies), *(["policies"] if policies else [])]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        model = st.selectbox("Reward model", names, index=len(names) - 1, key="score-model", width=260)
        what = st.selectbox("Texts", offered, key="score-what", width=320)
    if what is None:
        st.info("There is nothing to score yet: import a dataset, or set up a study.")
        return
    kind, _, name = what.partition(" ")
    settings = {kind: name}
    if kind == "policies":
        chosen = st.multiselect("Policies", policies, key="score-policies", width=595)
        without = (*_TEXTS, "subset", "count", "probes")
        asked = ui.settings_asked(scoring.Wanted, key="score-of-policies", without=without, few=("points",))
        settings = {"policies": ",".join(chosen), **asked}
    elif kind != "study":
        without = (*_TEXTS, "points")
        asked = ui.settings_asked(scoring.Wanted, key="score", without=without, few=("count", "probes"))
        settings |= {"dataset": dataset or "", **asked}
    if st.button("Score", key="score", type="primary", icon=":material/play_arrow:"):
        started("score", {"reward_model": model, **settings})


def train(dataset: str | None) -> None:
    subsets = [one for one in opened.pairs.subsets(dataset) if one] if dataset else []
    released = [one.name for one in opened.releases.all()]
    offered = [dataset or "", *(f"{dataset}/{one}" for one in subsets), *(f"release:{one}" for one in released)]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input("Name of the new reward model", key="train-name", width=260).strip()
        data = st.selectbox("Pairs it learns from", [one for one in offered if one], key="train-data", width=320)
        base = st.text_input(
            "Made from", "minilm-bt", key="train-base", width=260, help="minilm-bt, smollm2, a folder or a hub id"
        )
    more = ui.settings_asked(reward_training.Wanted, key="train", without=("model", "data", "base"), few=("held_out",))
    if st.button("Train", key="train", type="primary", icon=":material/model_training:"):
        started("reward", {"model": name, "data": data or "", "base": base.strip(), **more})


def register() -> None:
    person = state.get("person", "engineer")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input("Name", key="register-name", width=260).strip()
        family = st.selectbox("Family", list(FAMILIES), key="register-family", width=260)
    kind = FAMILIES[family]
    st.caption(plain.md(f"{kind.description()} Template: {kind.template}. Tokenizer: {kind.tokenizer}."))
    where = [one for one in ("source", "address", "model") if one in kind.model_fields]
    settings = ui.settings_asked(kind, key=f"register-{family}", few=where)
    if st.button("Register", key="register", type="primary", icon=":material/add:"):
        with st.spinner("Looking at its files"):
            done = ui.attempt(lambda: reward_models.register(opened, name, family, settings, person))
        if done:
            st.rerun()


# ---- what they say of a dataset


def accuracy(of: benchmark.Table, dataset: str, release: str) -> None:
    st.caption(
        plain.md(
            f"Over distinct pairs of {of.name}, less those whose prompts a model was trained on here. A tie counts one half; "
            "in brackets the 95% interval."
        )
    )
    ui.table(benchmark_report.accuracy_rows(of))
    ui.table(benchmark_report.to_know_rows(opened, dataset, of))
    told = benchmark_report.published_rows(opened, dataset, of)
    if told:
        st.subheader("By the benchmark's own formula", anchor=False)
        ui.table(told)
    if len(set(of.subsets)) > 1:
        st.subheader("By subset", anchor=False)
        parts = {one: {name: part.half_ties for name, part in benchmark.by_subset(of, one).items()} for one in of.models}
        st.plotly_chart(charts_rewards.side_by_side(parts, value="accuracy", middle=0.5), key="by-subset", config=PLAIN)
        with st.expander("As a table"):
            ui.table(benchmark_report.subset_rows(of))
    several = benchmark_report.best_of_rows(opened, dataset, release, of)
    if several:
        st.subheader("Best of several responses", anchor=False)
        ui.table(several)
    flags = benchmark_report.flag_rows(of)
    if flags:
        st.subheader("By filter flag", anchor=False)
        parts = {one: {name: part.half_ties for name, part in benchmark.by_flag(of, one).items()} for one in of.models}
        st.plotly_chart(charts_rewards.side_by_side(parts, value="accuracy", middle=0.5), key="by-flag", config=PLAIN)
        with st.expander("As a table"):
            ui.table(flags)
    st.subheader("Read where it goes against the label", anchor=False)
    against(of, dataset)


def against(of: benchmark.Table, dataset: str) -> None:
    """The pairs whose rejected response a model scores highest above the chosen one."""
    model = st.selectbox("Reward model", of.models, key="against-model", width=260)
    found = benchmark.against(opened, dataset, of, model)
    if not found:
        st.success("It prefers every chosen response.")
        return
    before = [{"margin": round(margin, 3)} for _, margin in found]
    picked = ui.pick_row([row for row, _ in found], key=f"against-{of.name}-{model}", before=before)
    if picked is not None:
        pair = opened.pairs.pair(found[picked][0].pair_id)
        named = ("chosen", "rejected")
        if of.is_turned(pair.pair_id):
            named = ("chosen, rejected in the release", "rejected, chosen in the release")
        with st.container(border=True):
            ui.show_pair(pair, a=(named[0], pair.chosen.text), b=(named[1], pair.rejected.text))
            ui.show_reasons(opened.flags.of_pair(dataset, pair.pair_id))


def cleaning(of: benchmark.Table, dataset: str, release: str) -> None:
    if not release:
        made = "Choose a release above" if opened.releases.all(dataset) else "There is no release of this dataset yet: make one"
        st.info(f"{made} to set the original against the cleaned.", icon=":material/inventory_2:")
        st.page_link("pages/datasets.py", label="Releases, under Datasets", icon=":material/inventory_2:")
        return
    st.caption(
        "Original and cleaned accuracy are over different pairs, so the change is shown in its two parts: what turning labels "
        "round does to the pairs kept, and what leaving pairs out does. A gain from dropping alone may only say that the hard "
        "pairs left."
    )
    ui.table(ui.turned(benchmark_report.cleaning_rows(opened, of, dataset, release)))


def independent(of: benchmark.Table) -> None:
    """What is said where the intervals shown are those of independent pairs, and they are not."""
    if of.repeats():
        st.caption("Several pairs have one prompt here; the intervals of this table and chart take pairs as independent.")


def each_other(of: benchmark.Table) -> None:
    if len(of.models) < 2:
        st.info("It takes two reward models that have scored this dataset.", icon=":material/balance:")
        return
    st.caption(
        "McNemar's exact test on the pairs both scored, by prompts where several pairs have one; Holm's p is adjusted for all "
        "comparisons in this table."
    )
    ui.table(benchmark_report.duel_rows(of))
    st.subheader("How often they prefer the same side", anchor=False)
    independent(of)
    rows, values, words = benchmark_report.matrix(of)
    st.plotly_chart(charts_rewards.heat(rows, rows, values, words, bad=False), key="matrix", config=PLAIN)
    with st.expander("As a table, with intervals"):
        ui.table(benchmark_report.matrix_rows(of))
    votes = benchmark_report.vote_rows(of)
    if votes:
        st.subheader("Votes against the label", anchor=False)
        ui.table(votes)


def confidence(of: benchmark.Table) -> None:
    st.caption(
        "σ(margin) is a probability only for models trained by Bradley-Terry loss or DPO: of others, read the order, not the "
        "numbers."
    )
    with st.spinner("Computing intervals"):
        found = {model: benchmark.behaviour(opened, of, model) for model in of.models}
    ui.table(ui.turned(benchmark_report.behaviour_rows(found)))
    independent(of)
    left, right = st.columns(2)
    with left:
        st.subheader("Calibration", anchor=False)
        curves = {model: one.curve for model, one in found.items() if one.curve}
        st.plotly_chart(charts_rewards.calibration(curves), key="calibration", config=PLAIN)
    with right:
        st.subheader("Margins", anchor=False)
        st.plotly_chart(charts_rewards.margins({one: of.of(one) for one in of.models}), key="margins", config=PLAIN)
    st.subheader("By length difference", anchor=False)
    st.plotly_chart(
        charts_rewards.by_length({model: one.by_length for model, one in found.items()}), key="by-length", config=PLAIN
    )


def fallen_for(dataset: str) -> None:
    """The probes: how often the spoilt response scores higher than the original."""
    with st.spinner("Reading the probes"):
        found = pitfalls_report.found(opened, dataset, [one.reward_model for one in reward_models.all_models(opened)])
    if not found:
        st.info("No reward model was probed on this dataset yet.", icon=":material/bug_report:")
        st.caption("Under Reward models you score it with “probes” ticked.")
        return
    wanted = st.multiselect("Reward models", list(found), default=list(found)[:8], key=f"probed-{dataset}-{len(found)}")
    found = {name: found[name] for name in wanted or found}
    st.caption(
        "Each chosen response is spoilt in a known way and scored again. Shown is the share of responses whose spoilt version "
        "scores higher than the original; a tie counts one half. A good reward model stays near 0."
    )
    read = {name: pitfalls.probed(opened, dataset, name) for name in found}
    st.caption(plain.md("; ".join(f"{name}: {one.what}" for name, one in read.items() if one is not None) + "."))
    rows, columns, values, words = pitfalls_report.heat(found)
    st.plotly_chart(charts_rewards.heat(rows, columns, values, words, bad=True), key="pitfalls", config=PLAIN)
    ui.table(pitfalls_report.rows(opened, dataset, list(found)))
    with st.expander("What the probes do"):
        st.markdown("\n".join(f"- **{name}**: {plain.md(one.about)}" for name, one in PROBES.items()))
    st.subheader("Read them", anchor=False)
    with st.container(horizontal=True):
        model = st.selectbox("Reward model", list(found), key="probed-model", width=260)
        probe = st.selectbox("Probe", pitfalls_report.worst_first(found[model]), key=f"probe-{model}", width=220)
    probed = read[model]
    assert probed is not None  # it was found above
    if probe == "favourite" and probed.phrases:
        st.caption(plain.md("Its favourite phrases: " + "; ".join(f"“{one}”" for one in probed.phrases)))
    for one in probed.examples(probe, limit=5):
        with st.container(border=True):
            st.text(f"The spoilt one scores {one.higher:+.3g}")
            texts = ("original", one.pair.chosen.text), (f"spoilt: {probe}", one.spoilt.response.text)
            ui.show_responses(one.spoilt.prompt, texts)


going_on()
names = [one.dataset for one in opened.pairs.datasets()]
view = st.segmented_control("Show", VIEWS, default=VIEWS[0], required=True, key="rewards-view", label_visibility="collapsed")
dataset = ui.chosen_dataset(opened) if names or view != VIEWS[-1] else None
if view == VIEWS[-1]:
    models(dataset)
    st.stop()
assert dataset is not None  # the page has ended where there is none
if view == "Pitfalls":
    fallen_for(dataset)
    st.stop()
release = ""
releases = [one.name for one in opened.releases.all(dataset)]
with st.container(horizontal=True, vertical_alignment="bottom"):
    if releases:
        offered = ["", *releases]
        chosen = st.selectbox(
            "Release", offered, width=260, index=len(offered) - 1 if view == "Cleaning" else 0,
            key=f"release-{dataset}-{view == 'Cleaning'}",  # there the latest release is the natural one, elsewhere none
            format_func=lambda one: one or "as it was imported",
        )  # fmt: skip
        release = chosen or ""
try:
    of = benchmark.table(opened, dataset, release=release)
except ValueError as nothing:
    st.info(plain.md(str(nothing)), icon=":material/speed:")
    st.caption("Under Reward models you score it: `length`, the baseline to beat, takes a second.")
    st.stop()
with st.container(horizontal=True, vertical_alignment="bottom"):
    key = f"models-{dataset}-{release}-{len(of.models)}"  # one that has just scored it is among those shown
    wanted = st.multiselect("Reward models", of.models, default=list(of.models[:8]), key=key)
of = of.with_models(wanted or list(of.models))
shows: dict[str, Callable[[], None]] = {
    "Accuracy": lambda: accuracy(of, dataset, release),
    "Cleaning": lambda: cleaning(of, dataset, release),
    "Against each other": lambda: each_other(of),
    "Confidence and length": lambda: confidence(of),
}
shows[view or VIEWS[0]]()
