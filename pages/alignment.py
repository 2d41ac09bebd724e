"""Alignment: what each reward model does to a policy: plan a grid, then read curves, win rates, quality and responses."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, get_args

import streamlit as st

from curation import (
    alignment,
    charts,
    charts_alignment,
    charts_rewards,
    outcomes,
    outcomes_curves,
    outcomes_grid,
    outcomes_report,
    outcomes_wins,
    overview,
    plain,
    reward_models,
    runs,
    ui,
)
from curation.alignment_settings import ALGORITHMS, TRAINED, Alignment
from curation.outcomes import Made
from curation.outcomes_grid import Measure

opened = ui.page("Alignment", "What optimising a reward model does to a policy, judged by what was held out and by people.")
state = st.session_state
VIEWS = ("Plan", "Curves", "Win rates", "Quality and outcome", "Responses")
PLAIN: dict[str, Any] = {"displayModeBar": False}
AT_FIRST, MANY = 4, 12  # policies drawn until somebody chooses: curves, dots
SMALL: dict[str, Any] = {  # a grid for the first hour: little of everything, enough to see every view filled
    "name": "first", "reward_models": [f"{TRAINED}minilm-bt"], "algorithms": ["dpo", "best-of-n"],
    "gold": [reward_models.LENGTH], "count": 16, "looked_at": 8, "max_tokens": 24, "max_prompt": 64, "n": 8, "max_steps": 3,
    "look_every": 1, "batch": 4, "lora_rank": 4,
}  # fmt: skip
ABOUT_CURVES = (
    "Dotted: the reward that was optimised. Dots with 95% intervals over prompts, and the form fitted to them: the held-out "
    "one; the diamond on its bar: where that is highest. Rewards are the rise over the start, in standard deviations of the "
    "scores of its responses. For best-of-n KL is an upper bound, log n - (n-1)/n: compare the shapes, not the ends."
)


def grids() -> list[runs.RunView]:
    """The grids that are not over."""
    return [
        one for one in runs.all_runs(opened) if one.state.kind == alignment.KIND and one.state.status in ("queued", "running")
    ]


@st.fragment(run_every=2.0)
def watch(busy: set[str]) -> None:
    """How far they are; when a job is over the page is drawn anew, with what it made."""
    taken, views = runs.settle(opened), grids()
    if taken or {one.run.run_id for one in views} != busy:
        st.rerun(scope="app")
    for view in views:
        progress, left = view.progress, runs.remaining(view)
        words = f"{view.state.title}: {progress.done:,} of {progress.total:,} {progress.unit}" if progress.total else "starting"
        words += f", {ui.duration(left)} left" if left is not None else ""
        st.progress(min(1.0, progress.done / progress.total) if progress.total else 0.0, text=plain.md(words))
    st.page_link("pages/runs.py", label="Watch its jobs, or cancel it, under Runs", icon=":material/play_circle:")


# ---- the plan


def plan() -> None:
    """The form, what the grid comes to, and the button that starts it."""
    if not opened.pairs.datasets():
        st.info("There is no dataset yet: a grid takes its prompts from one.", icon=":material/inbox:")
        with st.container(horizontal=True):
            if st.button("Open the sample", type="primary", icon=":material/science:"):
                with st.spinner("Importing the sample"):
                    done = ui.attempt(lambda: overview.open_sample(opened, ui.SAMPLE))
                if done:
                    st.rerun()
            st.page_link("pages/datasets.py", label="Import your own", icon=":material/upload:")
        return
    st.caption(
        "Every reward model is optimised by every algorithm on each of the data with each seed. All policies answer the same "
        "held-out prompts, which nothing here learned from, and gold reward models, which nothing optimises, judge the answers."
    )
    st.button(
        "Fill in a small one", key="small", on_click=fill_in_small, icon=":material/laptop:",
        help="few prompts, short answers, three steps: to see how it works, not to learn anything from; how long it takes on "
        "this machine stands in its plan before anything starts",
    )  # fmt: skip
    if state.pop("aligned", ""):  # it has just begun: its name is taken now
        state["align-name"] = ""
    asked = asked_for()
    if not asked["name"]:
        st.info("Give it a name, and choose at least one reward model: then its plan stands here.", icon=":material/route:")
        return
    try:
        with st.spinner("Looking at prompts and models"):
            made = alignment.plan(opened, asked)
    except (ValueError, OSError) as error:
        st.warning(plain.md(str(error)), icon=":material/edit:")
        return
    total = ui.duration(made.seconds) if made.seconds is not None else "unknown"
    st.subheader(f"{len(made.jobs):,} jobs, about {total} in all", anchor=False)
    st.caption("An estimate for a machine with nothing else to do, within a factor of two or three.")
    for warning in made.warnings:
        st.warning(plain.md(warning), icon=":material/warning:")
    if st.button("Start", key="start", type="primary", icon=":material/play_arrow:"):
        with st.spinner("Handing prompts and models over"):
            done = ui.attempt(lambda: state.update(aligned=alignment.start(opened, asked).run_id))
        if done:
            st.rerun()
    rows = [
        {
            "makes": one.job.name, "by": one.job.kind, "time": "unknown" if one.seconds is None else ui.duration(one.seconds),
            "memory": ui.memory(one.bytes), "after": ", ".join(one.job.after),
        }
        for one in made.jobs
    ]  # fmt: skip
    ui.paged(rows, key="plan")
    st.caption("\n".join(f"- {plain.md(note)}" for note in made.notes))


def fill_in_small() -> None:
    """A callback: the form with settings for a laptop; its data stay what they are."""
    state.update({f"align-{name}": value for name, value in SMALL.items()})


def asked_for() -> dict[str, Any]:
    """What a grid is asked for: lists by choosing, the rest as the settings class has it."""
    models = [one.reward_model for one in reward_models.all_models(opened)]
    released = [f"release:{one.name}" for one in opened.releases.all()]
    data = [*(one.dataset for one in opened.pairs.datasets()), *released]
    lists = {
        "reward_models": ("Reward models that are optimised", [*models, f"{TRAINED}minilm-bt", f"{TRAINED}smollm2"], []),
        "gold": ("Gold reward models, held out", models, []),
        "algorithms": ("Algorithms", list(ALGORITHMS), ["ppo", "dpo", "best-of-n"]),
        "data": ("Data: original and cleaned", data, [data[0], *released[-1:]] if len(opened.pairs.datasets()) == 1 else []),
    }
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input("Name", key="align-name", width=260).strip()
        base = st.text_input(
            "Start of every policy",
            "smollm2",
            key="align-base",
            width=260,
            help="a policy made here, a folder, smollm2, a hub id",
        )
        seeds = st.text_input("Seeds", "0", key="align-seeds", width=160, help=Alignment.model_fields["seeds"].description)
    columns = st.columns(2)
    chosen = {}
    for place, (field, (label, offered, at_first)) in enumerate(lists.items()):
        state.setdefault(f"align-{field}", at_first)
        with columns[place % 2]:
            chosen[field] = st.multiselect(
                label, offered, key=f"align-{field}", accept_new_options=field in ("reward_models", "data"),
                help=plain.md(Alignment.model_fields[field].description or ""),
            )  # fmt: skip
    without = ("name", "base", "seeds", *lists)
    more = ui.settings_asked(Alignment, key="align", without=without, few=("count", "looked_at"))
    return {
        "name": name,
        "base": base.strip(),
        "seeds": seeds,
        **{field: ",".join(some) for field, some in chosen.items()},
        **more,
    }


# ---- what came out


def curves(some: Sequence[Made], gold: str) -> None:
    drawn = chosen_policies(some, "curves-of", AT_FIRST)
    with st.spinner("Fitting curves"):
        found = [outcomes_curves.curve(opened, one, gold) for one in some if one.generator in drawn]
    st.caption(plain.md(f"{ABOUT_CURVES} Held out: {gold}."))
    alone = st.toggle("The held-out reward alone", key="held-out-alone", help="drawn larger, without what was optimised")
    lines = outcomes_report.lines(found, optimised=not alone)
    if lines:
        chart = charts_alignment.goodhart(lines, across="√KL from the start, √nats", value="rise over the start, in sd")
        picked = st.plotly_chart(chart, key="goodhart", config=PLAIN, on_select="rerun", selection_mode="points")
        open_dot(picked, gold)
    ui.table(outcomes_report.curve_rows(found))
    rows = outcomes_report.point_rows(found)
    if rows:
        with st.expander("Every point, and the fitted forms"):
            ui.table(rows)
            st.caption("d is the root of KL (arXiv 2210.10760).")
            ui.table(outcomes_report.form_rows(found))


def open_dot(picked: Mapping[str, Any], gold: str) -> None:
    """The responses at a dot that was pointed at, beside those of its start."""
    dots = [one["customdata"] for one in picked["selection"]["points"] if one.get("customdata")]
    if not dots:
        st.caption("Click a dot to read its responses.")
        return
    _, generator, point = dots[0]
    one = outcomes.made(opened).get(str(generator))
    if one is None or int(point) not in one.points:
        st.caption(
            "The responses at this dot were not kept, only their scores: choose one of best-of-n's picks under Responses."
        )
        return
    with st.container(border=True):
        st.text(f"{one.generator} at {int(point):,}")
        side_by_side([one], gold, point=int(point), key="dot")


def open_dots(chart: Any, named: Mapping[str, Sequence[Made]], gold: str, *, key: str, start: bool = True) -> None:
    """A chart, and the responses of those who stand behind the dot that was pointed at, by its name; with `start` beside those
    of the first one's start."""
    picked = st.plotly_chart(chart, key=key, config=PLAIN, on_select="rerun", selection_mode="points")
    dots = [one["customdata"][-1] for one in picked["selection"]["points"] if one.get("customdata")]
    behind = next((some for name, some in named.items() if dots and escape(name) == dots[0]), ())
    if not behind:
        st.caption("Click a dot to read its responses.")
        return
    with st.container(border=True):
        side_by_side(list(behind)[:AT_FIRST], gold, key=f"dot-{key}", start=start)


def win_rates(some: Sequence[Made], gold: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scoring = list(outcomes.judges(opened, some))
        models = st.multiselect("Judged by", scoring, default=[gold], key=f"judged-{gold}-{len(scoring)}", width=420)
        equal = st.toggle(
            "At equal length", key="equal-length", help="what the win rate would be were both as long (AlpacaEval 2)"
        )
    drawn = chosen_policies(some, "wins-of", MANY)
    st.caption(
        "How often a policy's response wins against one of its start to the same prompt; a tie counts one half, whole prompts "
        "are redrawn. People and models that compare stand beside reward models where they have compared the two. An interval "
        "is of its comparison alone; the table has p adjusted for all."
    )
    moved = [one for one in some if one.generator in drawn and one.moved]
    with st.spinner("Comparing"):
        found = [duel for one in moved for duel in outcomes_wins.against_start(opened, one, models=models, equal_length=equal)]
    if found:
        dots = outcomes_report.win_dots(found, equal_length=equal)
        chart = charts_rewards.side_by_side(dots, value="win rate against the start", middle=0.5)
        named = {one.generator: [one] for one in moved}
        open_dots(chart, named, gold, key="wins")
        with st.expander("As a table"):
            wins_as_table(found, equal_length=equal, without="against")
    else:
        st.info("No policy here has been scored at its start and at its end.", icon=":material/balance:")
    st.subheader("One policy against others", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = [one.generator for one in some]
        first = st.selectbox("Policy", names, key=f"first-{len(names)}", width=320)
        rest = [name for name in names if name != first]
        others = st.multiselect("Against", rest, default=rest[:AT_FIRST], key=f"others-{len(names)}-{first}", width=620)
    one = next(each for each in some if each.generator == first)
    against = [each for each in some if each.generator in others]
    duels = outcomes_wins.against_others(opened, one, against, models=models, equal_length=equal)
    if duels:
        dots = outcomes_report.win_dots(duels, equal_length=equal)
        st.caption(plain.md(f"How often {first} wins against each of the others, by {', '.join(dots)}."))
        chart = charts_rewards.side_by_side(dots, value="win rate", middle=0.5)
        open_dots(chart, {other.generator: [one, other] for other in against}, gold, key="others", start=False)
        with st.expander("As a table"):
            wins_as_table(duels, equal_length=equal, without="policy")
    else:
        st.info("There is no other policy here whose answers a judge has read beside its own.", icon=":material/balance:")


def wins_as_table(shown: Sequence[outcomes_wins.Duel], *, equal_length: bool, without: str) -> None:
    """Win rates with p, and what that is and what it is adjusted for."""
    ui.table(outcomes_report.win_rows(opened, shown, without=without))
    st.caption(outcomes_report.FAMILY + (" It is not that of the rate at equal length." if equal_length else ""))


def quality(some: Sequence[Made], gold: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        measure: Measure = st.selectbox("Outcome", get_args(Measure), key="measure", width=220)
        algorithm = st.selectbox(
            "Algorithm", [*dict.fromkeys(one.algorithm for one in some if one.optimised), ""], key="by-algorithm", width=220,
            format_func=lambda one: one or "all that were run on each",
        )  # fmt: skip
    distance = 0.0
    if measure == "gain at equal KL":
        reached = outcomes_grid.common_distance(opened, [one for one in some if one.optimised], gold)
        if reached is None:
            st.info("The KL of some of these was not measured, so there is no KL at which to compare them.")
            return
        distance = reached
        st.caption(plain.md(f"At the largest √KL all of them came to: {distance:.2f}. Of best-of-n KL is its upper bound."))
    outcome = {"win rate": "win rate against the start", "gain": "gain, in sd"}.get(measure, "gain at equal KL, in sd")
    with st.spinner("Computing intervals"):
        by_model = outcomes_grid.by_model(opened, some, gold, measure, algorithm=algorithm or "", distance=distance)
        cells = outcomes_grid.cells(opened, some, gold, measure, distance=distance)
        cleaned = outcomes_grid.cleaning(opened, some, gold, measure, distance=distance)
    st.subheader("Does a better reward model make a better policy?", anchor=False)
    pleased = {name: [one for one in some if one.optimised == name and algorithm in ("", one.algorithm)] for name in by_model}
    against_quality(by_model, pleased, outcome, gold, outcomes_grid.middle(measure))
    st.subheader("Algorithm by reward model", anchor=False)
    if not cells:
        st.info("No policy that optimised a reward model has this outcome yet.", icon=":material/grid_on:")
    else:
        st.caption(plain.md(f"The {outcome}, by {gold}: the mean over prompts and seeds, with its 95% interval and n."))
    for data, some_cells in cells.items():
        interaction(some_cells, measure, data)
    st.subheader("What cleaning does", anchor=False)
    if not cleaned:
        st.info("No algorithm was run on both a dataset and a release of it with the same seed.", icon=":material/inventory_2:")
        return
    st.caption(
        plain.md(
            f"The {outcome}, by {gold}: on the release less on the original, paired by seed and prompt. p is that of no "
            "difference, over seeds and prompts; Holm's is over all rows."
        )
    )
    differences = {f"{one.algorithm}, {one.what}": one.difference for one in cleaned}
    named = {
        f"{one.algorithm}, {one.what}": [each for each in some if (each.algorithm, each.pleases) == (one.algorithm, one.what)]
        for one in cleaned
    }
    open_dots(charts.figures(differences, value="cleaned less original", middle=0.0), named, gold, key="cleaning", start=False)
    ui.table(outcomes_report.cleaning_rows(cleaned))


def against_quality(
    by_model: Mapping[str, Any], pleased: Mapping[str, Sequence[Made]], outcome: str, gold: str, middle: float
) -> None:
    """A dot a reward model: how good it is, and what came of optimising it. `pleased` are the policies that did."""
    if not by_model:
        st.info("No policy that optimised a reward model has this outcome yet.", icon=":material/scatter_plot:")
        return
    datasets, studies = [one.dataset for one in opened.pairs.datasets()], ["", *(name for name, _, _ in opened.studies.all())]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        dataset = st.selectbox(
            "Accuracy on", datasets, index=len(datasets) - 1 if datasets else None, key="on-dataset", width=260
        )
        releases = ["", *(one.name for one in opened.releases.all(dataset))] if dataset else [""]
        release = st.selectbox("Cleaned by", releases, index=len(releases) - 1, key=f"on-release-{dataset}", width=220)
        study = st.selectbox("People of the study", studies, index=len(studies) - 1, key="on-study", width=220)
    told = outcomes_grid.qualities(opened, list(by_model), dataset=dataset or "", release=release or "", study=study or "")
    if not told:
        st.info(
            "How good these reward models are is not known yet: score a dataset, or a study, with them.",
            icon=":material/speed:",
        )
        st.page_link("pages/rewards.py", label="Score, under Rewards", icon=":material/speed:")
        return
    name = st.segmented_control("Quality", list(told), default=next(iter(told)), required=True, key=f"quality-{len(told)}")
    dots = outcomes_grid.quality_and_outcome(told[name or next(iter(told))], by_model)
    chart = charts_alignment.quality_against_outcome(dots.dots, quality=name or "", outcome=outcome, middle=middle)
    open_dots(chart, pleased, gold, key="quality")
    spearman, pearson = dots.correlations.spearman, dots.correlations.pearson
    st.caption(
        plain.md(
            f"The outcome is the {outcome}, by {gold}. Spearman {spearman.words()}; Pearson {pearson.words()}. Few reward "
            "models can tell little, and those that one recipe trained with several seeds less."
        )
    )
    with st.expander("As a table"):
        ui.table(outcomes_report.dot_rows(dots, name or "", outcome))


def interaction(cells: Mapping[outcomes_grid.Cell, outcomes_grid.Outcomes], measure: Measure, data: str) -> None:
    """The table of colours of one of the data, and whether the effects only add up."""
    found = outcomes_grid.interaction(cells, measure)
    if data:
        st.text(f"On {data}")
    rows, columns = (list(dict.fromkeys(cell[side] for cell in found)) for side in (0, 1))
    chart = charts_alignment.table_of_colours(rows, columns, found, middle=outcomes_grid.middle(measure))
    st.plotly_chart(chart, key=f"cells-{data}", config=PLAIN)
    with st.expander("As a table, and what is beyond the sum of algorithm and reward model"):
        ui.table(outcomes_report.interaction_rows(found))
        beyond = outcomes_grid.beyond_additive(cells)
        if beyond is not None:
            st.caption(plain.md(outcomes_report.interaction_words(beyond)))
            ui.table(outcomes_report.beyond_rows(beyond))


def responses(some: Sequence[Made], gold: str) -> None:
    names = [one.generator for one in some]
    chosen = st.multiselect("Policies", names, default=names[:2], key=f"read-{len(names)}-{names[:1]}", max_selections=6)
    side_by_side([one for one in some if one.generator in chosen], gold, key="read")


def side_by_side(some: Sequence[Made], gold: str, *, key: str, point: int | None = None, start: bool = True) -> None:
    """A list of prompts, and what these answered to the one that is ticked, with `start` beside the start of the first."""
    if not some:
        st.caption("Choose a policy.")
        return
    first = some[0]
    rows = outcomes_report.prompts(opened, first.generator, gold)
    if gold:
        st.caption(plain.md(f"Prompts by how much the score by {gold} rose from the start to the end, in sd, the least first."))
    column = f"rise by {gold}"
    table = [
        {**({column: None if one.change is None else round(one.change, 2)} if gold else {}), "asked": one.asked[:300]}
        for one in rows
    ]
    ticked = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"prompts-{key}-{first.generator}",
        height=212,
    )
    place = next(iter(ticked["selection"]["rows"]), 0)
    sides = [(one.generator, one.last if point is None else point) for one in some]
    if start and first.moved and (first.generator, first.start) not in sides:
        sides.insert(0, (first.generator, first.start))
    with st.container(border=True):
        ui.attempt(lambda: show(outcomes_report.responses(opened, rows[place].prompt_id, sides)))


def show(found: outcomes_report.Shown) -> None:
    ui.show_responses(found.prompt, found.responses, notes=found.notes)
    if found.absent:
        st.caption(plain.md(f"Not asked this prompt: {', '.join(found.absent)}."))


def chosen_policies(some: Sequence[Made], key: str, few: int) -> list[str]:
    """Names of some of these; until somebody chooses a few that are alike but for the reward model."""
    names = [one.generator for one in some if one.moved or one.kind == outcomes.BEST_OF_N]
    return st.multiselect("Policies", names, default=outcomes_report.typical(some, few), key=f"{key}-{len(names)}-{names[:1]}")


busy = {one.run.run_id for one in grids()}
if busy:
    watch(busy)
names = outcomes_report.alignments(opened)
view = st.segmented_control(
    "Show", VIEWS, default=VIEWS[1] if names else VIEWS[0], required=True, key="alignment-view", label_visibility="collapsed"
)
if view == "Plan":
    plan()
    st.stop()
if not names:
    st.info("No policy has answered held-out prompts yet.", icon=":material/route:")
    st.caption(
        "Under Plan you set up a grid; “Fill in a small one” there is the quickest, and its plan says how long it takes."
    )
    st.stop()
with st.container(horizontal=True, vertical_alignment="bottom"):
    grid = names[0]
    if len(names) > 1:
        grid = st.selectbox("Grid", names, key="grid", width=260, format_func=lambda one: one or "policies of no grid")
    made = outcomes_report.chosen(opened, grid).made
    judges = outcomes_report.golds(opened, made)
    gold = ""
    if judges:
        gold = st.selectbox("Gold reward model", judges, key=f"gold-{grid}-{len(judges)}", width=260)
if not gold and view != "Responses":
    st.info("No reward model that was held out has scored these responses yet.", icon=":material/gavel:")
    st.caption("Give a grid a gold reward model, or score the policies' responses by one that none of them optimised.")
    st.stop()
told = outcomes_report.standing_rows(opened, made, [gold])
if told:
    with st.expander(plain.md(f"{gold} is not simply gold here: what to know"), icon=":material/warning:"):
        ui.table(told)
shows: dict[str, Callable[[], None]] = {
    "Curves": lambda: curves(made, gold),
    "Win rates": lambda: win_rates(made, gold),
    "Quality and outcome": lambda: quality(made, gold),
    "Responses": lambda: responses(made, gold),
}
shows[view or VIEWS[1]]()
