"""Figures of reward models: accuracy, calibration, margins, length, pitfalls, scores against people, training curves."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from curation.charts import PALETTE, calm
from curation.stats.accuracy import Numbers
from curation.stats.calibration import Bin
from curation.stats.figures import Figure
from curation.stats.length_control import LengthBin

_BAD = [[0, "#2f6f8f"], [0.5, "#e9e4d8"], [1, "#b4534f"]]
_PLAIN = [[0, "#d98c3f"], [0.5, "#e9e4d8"], [1, "#2f6f8f"]]


def side_by_side(found: Mapping[str, Mapping[str, Figure]], *, value: str, middle: float | None = None) -> Any:
    """Figures with their 95% intervals: a row a part (subset, probe), a colour a reward model."""
    import plotly.graph_objects as go

    figure = go.Figure()
    parts = list(dict.fromkeys(name for one in found.values() for name in one))
    for number, (model, figures) in enumerate(found.items()):
        known = {name: one for name, one in figures.items() if one.value is not None}
        ends = [
            (one.value if one.low is None else one.low, one.value if one.high is None else one.high) for one in known.values()
        ]
        values = [one.value or 0.0 for one in known.values()]
        rows = [parts.index(name) + (number - (len(found) - 1) / 2) * min(0.16, 0.7 / len(found)) for name in known]
        figure.add_scatter(
            x=values, y=rows, mode="markers", name=escape(model), marker={"size": 9, "color": PALETTE[number % len(PALETTE)]},
            error_x={
                "type": "data", "symmetric": False, "thickness": 1.6, "width": 0,
                "array": [(high or 0.0) - one for (_, high), one in zip(ends, values, strict=True)],
                "arrayminus": [one - (low or 0.0) for (low, _), one in zip(ends, values, strict=True)],
            },
            customdata=[[f"{escape(name or '(no subset)')}: {one.words()}", escape(name)] for name, one in known.items()],
            hovertemplate="%{customdata[0]}<extra>" + escape(model) + "</extra>",
        )  # fmt: skip
    if middle is not None:
        figure.add_vline(x=middle, line_dash="dot", line_color="#8c7a5b")
    figure.update_yaxes(
        tickvals=list(range(len(parts))), ticktext=[escape(name) or "(no subset)" for name in parts],
        range=[len(parts) - 0.4, -0.6], showgrid=False,
    )  # fmt: skip
    figure.update_xaxes(title=escape(value))
    figure.update_yaxes(zeroline=False)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return calm(figure, height=130 + max(30, 13 * len(found)) * len(parts)).update_layout(margin_t=40)


def heat(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]], words: Sequence[Sequence[str]],
    *, bad: bool,
) -> Any:  # fmt: skip
    """Shares 0..1 as a table of colours, one half in the middle; `words` is what a cell says when pointed at. A high share is
    red where it is `bad`, blue where it is not."""
    import plotly.graph_objects as go

    texts = [["" if one is None else f"{one:.0%}" for one in row] for row in values]
    figure = go.Figure(
        go.Heatmap(
            z=[[np.nan if one is None else one for one in row] for row in values], x=[escape(one) for one in columns],
            y=[escape(one) for one in rows], text=texts, texttemplate="%{text}", zmin=0, zmax=1, showscale=False,
            xgap=2, ygap=2, customdata=[[escape(one) for one in row] for row in words],
            hovertemplate="%{y}, %{x}: %{customdata}<extra></extra>",
            colorscale=_BAD if bad else _PLAIN,
        )
    )  # fmt: skip
    figure.update_xaxes(showgrid=False, side="top")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return calm(figure, height=90 + 34 * len(rows)).update_layout(margin_t=40)


def calibration(curves: Mapping[str, Sequence[Bin]]) -> Any:
    """How often a model is right against how sure it is; on the dotted line it is as often right as it is sure."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_scatter(
        x=[0.5, 1], y=[0.5, 1], mode="lines", line={"dash": "dot", "color": "#8c7a5b"}, showlegend=False, hoverinfo="skip"
    )
    for number, (model, bins) in enumerate(curves.items()):
        known = [one for one in bins if one.confidence is not None and one.right.value is not None]
        figure.add_scatter(
            x=[one.confidence for one in known], y=[one.right.value for one in known], mode="lines+markers", name=escape(model),
            line={"color": PALETTE[number % len(PALETTE)]},
            error_y={
                "type": "data", "symmetric": False, "thickness": 1.2, "width": 0,
                "array": [(one.right.high or 0) - (one.right.value or 0) for one in known],
                "arrayminus": [(one.right.value or 0) - (one.right.low or 0) for one in known],
            },
            customdata=[one.right.words() for one in known],
            hovertemplate="sure %{x:.2f}, right %{customdata}<extra>" + escape(model) + "</extra>",
        )  # fmt: skip
    figure.update_xaxes(title="how sure: σ(|margin|)", range=[0.49, 1.01])
    figure.update_yaxes(title="how often right", tickformat=".0%")
    figure.update_layout(legend={"orientation": "h", "y": -0.3})
    return calm(figure, height=340)


def margins(found: Mapping[str, Numbers]) -> Any:
    """How margins are spread, each in its own standard deviation; below 0 the model goes against the label."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for number, (model, values) in enumerate(found.items()):
        known = values[~np.isnan(values)]
        spread = float(known.std()) if len(known) else 0.0
        if spread > 0:
            counts, edges = np.histogram(known / spread, bins=40, range=(-4, 4))
            figure.add_scatter(
                x=(edges[:-1] + edges[1:]) / 2, y=counts / len(known), mode="lines", name=escape(model),
                line={"shape": "hvh", "color": PALETTE[number % len(PALETTE)]},
                hovertemplate="margin %{x:.1f} sd: %{y:.1%} of the pairs<extra>" + escape(model) + "</extra>",
            )  # fmt: skip
    figure.add_vline(x=0, line_dash="dot", line_color="#6b7280")
    figure.update_xaxes(title="margin of the chosen one, in sd (beyond 4: not drawn)")
    figure.update_yaxes(title="pairs", tickformat=".0%")
    figure.update_layout(legend={"orientation": "h", "y": -0.3})
    return calm(figure, height=320)


def by_length(found: Mapping[str, Sequence[LengthBin]]) -> Any:
    """Accuracy where the chosen response is much shorter, ..., much longer."""
    return side_by_side(
        {
            model: {f"{one.low:+,.0f} to {one.high:+,.0f} characters": one.accuracy.half_ties for one in bins}
            for model, bins in found.items()
        },
        value="accuracy", middle=0.5,
    )  # fmt: skip


def against_people(scores: Numbers, people: Numbers, *, names: Sequence[str], score: str, rating: str) -> Any:
    """Each unit as a point, the score across and people's value up; where many lie the ground is darker."""
    import plotly.graph_objects as go

    known = np.flatnonzero(~np.isnan(scores) & ~np.isnan(people)).tolist()
    x, y = scores[known], people[known]
    figure = go.Figure()
    if len(known) > 30 and np.ptp(x) > 0 and np.ptp(y) > 0:
        figure.add_histogram2dcontour(
            x=x, y=y, ncontours=8, showscale=False, colorscale=[[0, "rgba(47,111,143,0)"], [1, "rgba(47,111,143,0.45)"]],
            contours={"coloring": "fill", "showlines": False}, hoverinfo="skip",
        )  # fmt: skip
    figure.add_scatter(
        x=x, y=y, mode="markers", marker={"size": 6, "color": PALETTE[0], "opacity": 0.75},
        customdata=[[place, escape(names[place])] for place in known],
        hovertemplate="%{customdata[1]}<br>score %{x:.3g}, people %{y:.3g}<extra></extra>", showlegend=False,
    )  # fmt: skip
    figure.update_xaxes(title=escape(score))
    figure.update_yaxes(title=escape(rating))
    return calm(figure, height=420)


def curve(steps: Sequence[Any], lines: Mapping[str, Sequence[Any]], *, value: str) -> Any:
    """Numbers of a training run against its steps; what a step did not measure is bridged."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for number, (name, values) in enumerate(lines.items()):
        known = [(step, one) for step, one in zip(steps, values, strict=True) if one is not None]
        figure.add_scatter(
            x=[step for step, _ in known], y=[one for _, one in known], mode="lines+markers" if len(known) < 30 else "lines",
            name=escape(name), line={"color": PALETTE[number % len(PALETTE)]},
        )  # fmt: skip
    figure.update_xaxes(title="step")
    figure.update_yaxes(title=escape(value))
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return calm(figure, height=260).update_layout(margin_t=30)
