"""Agreement: how far the raters of a study agree, what they hold together, who writes best; how near reward models come."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from curation import charts, charts_rewards, people, plain, proxies, studies, ui
from curation import reward_models as registry
from curation.pairs import Turn
from curation.stats.figures import Figure

opened = ui.page(
    "Agreement", "How far the raters of a study agree, and what their labels say. Every interval redraws whole prompts."
)
study = ui.chosen_study(opened)


def kept(name: str, make: Callable[[], Any]) -> Any:
    """Computed when it is first asked for, and again when an answer came in."""
    with st.spinner("Computing intervals"):
        return studies.kept(opened, study, name, make)


def row(name: str, figure: Figure, **more: object) -> dict[str, object]:
    """A figure as a table shows it."""
    low, high = figure.low, figure.high
    interval = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""
    value = f"{figure.value:.3f}" if figure.value is not None else "undefined"
    because = f"because {figure.undefined}" if figure.undefined else ""
    return {"": name, "value": value, "95% interval": interval, "n": f"{figure.n:,} {figure.of}", **more, "note": because}


def measures(table: people.Table) -> None:
    found = kept(f"measures/{table.name}", lambda: people.measures(table))
    first = found[0]
    st.metric(first.name, first.figure.short(), help=first.about)
    st.caption(plain.md(first.figure.words()))
    st.dataframe([row(one.name, one.figure, about=one.about) for one in found], hide_index=True)
    st.caption("Quote alpha with its interval, beside percent agreement: a high share of one answer lowers every kappa.")
    subsets = kept(f"subsets/{table.name}", lambda: people.by_subset(table))
    if subsets:
        st.subheader("By subset", anchor=False)
        st.dataframe([row(name or "(no subset)", figure) for name, figure in subsets.items()], hide_index=True)
    st.subheader("Each rater against the rest", anchor=False)
    names = st.toggle("Show names", key="names")
    rows = kept(f"raters/{table.name}", lambda: people.by_rater(table))
    shown = []
    for number, one in enumerate(rows, start=1):
        cells: dict[str, object] = {"rater": one.rater if names else f"rater {number}", "values": one.n}
        cells["same as another rater"] = one.same.words()
        if one.correlation is not None:
            cells["correlation with the mean of the others"] = one.correlation.words()
        if one.mean_difference is not None:
            cells["higher than the others by"] = one.mean_difference.words()
        shown.append(cells)
    ui.paged(shown, key="raters")


def generators() -> None:
    found = kept("generators", lambda: people.generators(opened, study))
    if not found.means and not found.win_rates:
        st.info("There is nothing to compare yet.")
    if len(found.means) + bool(found.win_rates) > 1:
        st.subheader("Side by side", anchor=False)
        st.caption("Where the ranks differ, the ways of asking contradict each other; look at the intervals first.")
        st.dataframe(people.beside(found), hide_index=True)
    for aspect, means in found.means.items():
        st.subheader(plain.md(f"Mean {aspect}"), anchor=False)
        st.plotly_chart(charts.figures(means, value=f"mean {aspect}"), key=f"means-{aspect}")
        st.dataframe([row(name, figure) for name, figure in means.items()], hide_index=True)
    if found.win_rates:
        st.subheader("Win rate against all it met", anchor=False)
        st.plotly_chart(charts.figures(found.win_rates, value="win rate, ties half", middle=0.5), key="win-rates")
        st.dataframe([row(name, figure) for name, figure in found.win_rates.items()], hide_index=True)
        st.subheader("Wins, row against column", anchor=False)
        matrix = found.matrix
        st.dataframe(
            [
                {"": one, **{other: people.cell(matrix, one, other) for other in matrix.names}}
                for one in matrix.names
            ],
            hide_index=True,
        )  # fmt: skip
        st.subheader("Bradley-Terry strengths", anchor=False)
        st.caption("Log odds of winning, mean 0; a tie, good or bad, is half a win for each.")
        st.dataframe([row(name, figure) for name, figure in people.ranked(found.strengths)], hide_index=True)


def contradictions() -> None:
    both = kept("both", lambda: people.side_by_side(opened, study))
    if not both.same and not both.against and not both.even:
        st.info("This study has no item that the same rater both rated and compared.")
        return
    share = people.going_against(both)
    st.text(f"The response preferred was rated lower: {share.words()} of the answers in which both tell a difference.")
    st.text(f"In {both.even:,} more, the ratings or the comparison see no difference.")
    names = st.toggle("Show names", key="names-against")
    raters = {rater: f"rater {number}" for number, rater in enumerate(sorted({one.rater for one in both.against}), start=1)}
    for one in both.against[:20]:
        content = opened.studies.content(one.item_id)
        item = opened.studies.item(one.item_id)
        who = one.rater if names else raters[one.rater]
        with st.expander(plain.md(f"{who}: preferred {one.preferred_mean:.1f}, the other {one.other_mean:.1f}")):
            titles = [
                ("preferred" if response == one.preferred else "the other", content.texts[response])
                for response in item.responses
            ]
            ui.show_responses(content.prompt, titles)


def labels() -> None:
    st.caption(
        "What raters hold together, each way of telling marked as such. The adjudicated value stands beside the others. "
        "Dawid-Skene needs the extra `consensus`: pip install 'elephant-room[consensus]'."
    )
    found = kept("labels", lambda: people.labels(opened, study))
    if not found:
        st.info("Nobody has answered yet.")
        return
    ui.paged(found, key="labels")
    st.page_link("pages/studies.py", label="Export them under In and out", icon=":material/download:")


# ---- reward models beside people


def reward_models(table: people.Table) -> None:
    """How far each reward model is a fair proxy for these raters."""
    scored = [
        one.reward_model for one in registry.all_models(opened) if proxies.has_scored(opened, study, table, one.reward_model)
    ]
    if not scored:
        st.info("No reward model has scored this study's responses yet.", icon=":material/speed:")
        st.page_link("pages/rewards.py", label="Score them, under Reward models", icon=":material/play_arrow:")
        return
    chosen = st.multiselect("Reward models", scored, default=scored[:6], key=f"proxies-{study}") or scored
    found = [proxy(table, name) for name in chosen]
    st.subheader("In words", anchor=False)
    for one in found:
        st.markdown(f"**{plain.md(one.model)}** {plain.md(one.verdict())}")
    with st.expander("The rule behind these sentences"):
        st.markdown(plain.md(proxies.RULE))
    main = {one.model: one.main for one in found}
    value = "share of answers agreed with" if table.kind != "rating" else "Spearman with the mean rating"
    st.plotly_chart(charts.figures(dict(people.ranked(main)), value=value), key="proxies")
    ui.table(ui.turned(proxies.rows(found)))
    parts = {name: of_parts(table, name, "subsets", proxies.by_subset) for name in chosen}
    if any(parts.values()):
        st.subheader("By subset", anchor=False)
        st.plotly_chart(charts_rewards.side_by_side(parts, value=value), key="proxies-by-subset")
    if table.kind != "rating":
        st.subheader("How sure it is, and how often the majority prefers the same", anchor=False)
        sure = [name for name in chosen if registry.are_log_odds(opened.scores.model(name))]
        curves = {name: proxies.confidence(says(table, name), table) for name in sure}
        st.plotly_chart(charts_rewards.calibration(curves), key="proxies-calibration")
    with st.expander("Against each rater alone"):
        names = st.toggle("Show names", key="names-proxies")
        against = {name: of_parts(table, name, "raters", proxies.by_rater) for name in chosen}
        rows = [
            {"rater": rater if names else f"rater {number}", **{name: against[name][rater].words() for name in chosen}}
            for number, rater in enumerate(table.raters, start=1)
        ]
        ui.paged(rows, key="proxy-raters")
    reading(table, chosen)


def stamp() -> int:
    """Changes when scores come in."""
    return opened.scores.generation


def of_parts(table: people.Table, name: str, what: str, make: Callable[..., dict[str, Figure]]) -> dict[str, Figure]:
    """A model's main figure on each part of the table."""
    return kept(f"proxy-{what}/{stamp()}/{table.name}/{name}", lambda: make(opened, study, table, name))


def proxy(table: people.Table, name: str) -> proxies.Proxy:
    return kept(f"proxy/{stamp()}/{table.name}/{name}", lambda: proxies.proxy(opened, study, table, name))


def says(table: people.Table, name: str) -> proxies.Says:
    return kept(f"says/{stamp()}/{table.name}/{name}", lambda: proxies.says(opened, study, table, name))


def reading(table: people.Table, chosen: list[str]) -> None:
    """Scores against people, and where they part: a point or a row opens the texts."""
    st.subheader("Where they part", anchor=False)
    name = st.selectbox("Reward model", chosen, key=f"reading-{study}", width=260)
    told = says(table, name)
    rating = f"mean {table.name}" if table.kind == "rating" else "share that prefers the first"
    items, contents = opened.studies.items(study), opened.studies.contents(study)
    asked = {one: items[one].name or said(contents[one].prompt) for one in {unit.item_id for unit in table.units}}
    labels = [asked[one.item_id] for one in table.units]
    chart = charts_rewards.against_people(told.scores, told.people, names=labels, score=f"score by {name}", rating=rating)
    picked = st.plotly_chart(chart, key=f"scatter-{study}-{table.name}-{name}", on_select="rerun", selection_mode="points")
    found = proxies.disagreements(told, table)
    rows = [
        {"item": asked[one.unit.item_id], "score": round(one.score, 3), "people": round(one.people, 2),
         "model above people by": round(one.apart, 2)}
        for one in found
    ]  # fmt: skip
    ticked = st.dataframe(rows, hide_index=True, on_select="rerun", selection_mode="single-row", key=f"apart-{study}-{name}")
    units = [found[place].unit for place in ticked["selection"]["rows"]]
    points = [one for one in picked["selection"]["points"] if one.get("customdata")]
    units += [table.units[int(one["customdata"][0])] for one in points]
    for unit in units[:2]:
        content = contents[unit.item_id]
        sides = [(f"response {number}", content.texts[one]) for number, one in enumerate(filter(None, unit[1:]), start=1)]
        with st.container(border=True):
            ui.show_responses(content.prompt, sides)


def said(prompt: tuple[Turn, ...]) -> str:
    """The end of a prompt, short enough for a label."""
    return " ".join(prompt[-1].content.split())[:80] if prompt else "(no prompt)"


tables = people.tables(opened, study)
if not tables:
    st.info("Nobody has answered in this study yet, so there is nothing to agree on.", icon=":material/handshake:")
    st.page_link("pages/rate.py", label="Rate", icon=":material/rate_review:")
    st.stop()
VIEWS = ("Measures", "Reward models", "Generators", "Ratings beside comparisons", "Labels")
view = st.segmented_control("Show", VIEWS, default="Measures", required=True, key="view", label_visibility="collapsed")
if view in ("Measures", "Reward models"):
    question = st.segmented_control(
        "Of", list(tables), default=next(iter(tables)), required=True, key=f"of-{study}", format_func=plain.md
    )
    table = tables[question or next(iter(tables))]
    st.caption(plain.md(people.described(table)))
    if view == "Measures":
        measures(table)
    else:
        reward_models(table)
elif view == "Generators":
    generators()
elif view == "Labels":
    labels()
else:
    contradictions()
