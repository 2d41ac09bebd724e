"""Figures of what came out of alignment: over-optimisation curves, quality against outcome, tables of algorithms and models."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from curation.charts import PALETTE, calm
from curation.stats.figures import Figure

_DOTTED, _FAINT = "#8c7a5b", "rgba(107,114,128,0.55)"
_SCALE = [[0, "#e6b07a"], [0.5, "#efebe2"], [1, "#86b3c8"]]  # light, so that dark words can be read on all of it
_DRAWN_NAMES = 14  # dots that are named on the chart itself; of more the name is shown when one is pointed at


class Line(NamedTuple):
    """One policy's reward as one reward model sees it, along the way from its start.

    `across` is sqrt(KL) of each point, `fit` the fitted form as points, `peak` where it is highest (a distance) and how high.
    """

    name: str
    reward: str
    optimised: bool
    across: Sequence[float]
    rewards: Sequence[Figure]
    points: Sequence[int]
    fit: Sequence[tuple[float, float]] = ()
    peak: tuple[Figure, float] | None = None


def goodhart(lines: Sequence[Line], *, across: str, value: str) -> Any:
    """Reward against sqrt(KL), a colour a policy: dotted what was optimised, as filled dots with their intervals what was held
    out, the line through them its fitted form, a diamond on a bar where that is highest."""
    import plotly.graph_objects as go

    figure = go.Figure()
    colours = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(dict.fromkeys(one.name for one in lines))}
    for one in lines:
        colour, known = colours[one.name], [place for place, found in enumerate(one.rewards) if found.value is not None]
        if one.peak is not None and not one.optimised:
            _add_peak(figure, one, colour)
        if one.fit:
            figure.add_scatter(
                x=[x for x, _ in one.fit], y=[y for _, y in one.fit], mode="lines", line={"color": colour, "width": 1.6},
                showlegend=False, hoverinfo="skip", legendgroup=escape(one.name),
            )  # fmt: skip
        figure.add_scatter(
            x=[one.across[place] for place in known], y=[one.rewards[place].value for place in known],
            mode="lines+markers" if one.optimised or not one.fit else "markers",
            name=escape(one.name), legendgroup=escape(one.name), showlegend=not one.optimised,
            line={"color": colour, "dash": "dot" if one.optimised else "solid", "width": 2},
            marker={"size": 6 if one.optimised else 9, "color": colour, "symbol": "circle-open" if one.optimised else "circle"},
            error_y=None if one.optimised else _bars([one.rewards[place] for place in known]),
            customdata=[
                [f"point {one.points[place]:,}: {one.rewards[place].words()}", escape(one.name), one.points[place]]
                for place in known
            ],
            hovertemplate="%{customdata[0]}, at √KL %{x:.2f}<extra>" + f"{escape(one.name)}<br>{escape(one.reward)}</extra>",
        )  # fmt: skip
    figure.add_hline(y=0, line_dash="dot", line_color=_DOTTED, line_width=1)
    figure.update_xaxes(title=escape(across), rangemode="tozero", zeroline=False)
    figure.update_yaxes(title=escape(value), zeroline=False)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return calm(figure, height=420).update_layout(margin_t=44)


def _add_peak(figure: Any, one: Line, colour: str) -> None:
    """Where the fitted reward is highest, with its interval across."""
    if one.peak is None:
        return
    at, height = one.peak
    figure.add_scatter(
        x=[at.value], y=[height], mode="markers", showlegend=False, legendgroup=escape(one.name), opacity=0.85,
        marker={"size": 13, "color": colour, "symbol": "diamond-open", "line": {"width": 2}},
        error_x={**_bars([at]), "color": colour, "thickness": 7},
        hovertemplate=f"highest at √KL {escape(at.words())}<extra>{escape(one.name)}<br>{escape(one.reward)}</extra>",
    )  # fmt: skip


def _bars(figures: Sequence[Figure]) -> dict[str, Any]:
    """The 95% intervals as error bars; none where there is no interval."""
    values = [one.value or 0.0 for one in figures]
    return {
        "type": "data", "symmetric": False, "thickness": 1.6, "width": 0,
        "array": [(value if one.high is None else one.high) - value for one, value in zip(figures, values, strict=True)],
        "arrayminus": [value - (value if one.low is None else one.low) for one, value in zip(figures, values, strict=True)],
    }  # fmt: skip


def quality_against_outcome(
    dots: Mapping[str, tuple[Figure, Figure]], *, quality: str, outcome: str, middle: float | None = None
) -> Any:
    """Each reward model as a dot: how good it is across, what came of optimising it up, both with their intervals."""
    import plotly.graph_objects as go

    known = {name: both for name, both in dots.items() if both[0].value is not None and both[1].value is not None}
    across, up = [one for one, _ in known.values()], [other for _, other in known.values()]
    names = [escape(name) for name in known]
    figure = go.Figure(
        go.Scatter(
            x=[one.value for one in across], y=[one.value for one in up], text=names, textposition="top center",
            mode="markers+text" if len(names) <= _DRAWN_NAMES else "markers", cliponaxis=False,
            marker={"size": 11, "color": [PALETTE[place % len(PALETTE)] for place in range(len(names))]},
            error_x={**_bars(across), "color": _FAINT}, error_y={**_bars(up), "color": _FAINT},
            customdata=[
                [f"{escape(quality)} {escape(one.words())}<br>{escape(outcome)} {escape(other.words())}", name]
                for name, one, other in zip(names, across, up, strict=True)
            ],
            hovertemplate="%{customdata[0]}<extra>%{text}</extra>",
        )
    )  # fmt: skip
    if middle is not None:
        figure.add_hline(y=middle, line_dash="dot", line_color=_DOTTED)
    figure.update_xaxes(title=escape(quality), zeroline=False)
    figure.update_yaxes(title=escape(outcome), zeroline=False)
    return calm(figure, height=420).update_layout(margin_t=28, margin_r=24)


def table_of_colours(
    rows: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], Figure], *, middle: float
) -> Any:
    """Figures as a table of colours, blue above `middle` and orange below; a cell that nobody ran is empty."""
    import plotly.graph_objects as go

    values = [[cells[row, one].value if (row, one) in cells else None for one in columns] for row in rows]
    reach = max([abs(one - middle) for row in values for one in row if one is not None], default=0.0) or 1.0
    texts, words = [], []
    for row in rows:
        found = [cells.get((row, one)) for one in columns]
        texts.append(["" if one is None else _in_a_cell(one) for one in found])
        words.append(["none yet" if one is None else escape(one.words()) for one in found])
    figure = go.Figure(
        go.Heatmap(
            z=values, x=[escape(one) for one in columns], y=[escape(one) for one in rows], text=texts, texttemplate="%{text}",
            textfont={"color": "#24292f"}, zmin=middle - reach, zmax=middle + reach, showscale=False, xgap=2, ygap=2,
            customdata=words, colorscale=_SCALE,
            hovertemplate="%{y}, %{x}: %{customdata}<extra></extra>", hoverongaps=False,
        )
    )  # fmt: skip
    figure.update_xaxes(showgrid=False, side="top", type="category")
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    return calm(figure, height=90 + 52 * len(rows)).update_layout(margin_t=40)


def _in_a_cell(one: Figure) -> str:
    if one.value is None:
        return "undefined"
    interval = "" if one.low is None or one.high is None else f"<br>{one.low:z.2f} to {one.high:z.2f}"
    return f"{one.value:z.2f}{interval}<br>n={one.n:,} {escape(one.of.partition(',')[0])}"
