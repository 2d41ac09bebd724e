"""Data frame to Plotly figure. Names that come from data are escaped: Plotly reads labels as HTML."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from curation.stats.figures import Figure

PALETTE = ("#2f6f8f", "#d98c3f", "#5f9e6e", "#b4534f", "#7d6aa5", "#8c7a5b", "#c77f9e", "#6b7280")


def funnel(stages: Sequence[tuple[str, int]]) -> Any:
    """Counts that follow from one another, such as imported, flagged, reviewed, released."""
    import plotly.graph_objects as go

    names, counts = [escape(name) for name, _ in stages], [count for _, count in stages]
    texts = [f"{count:,}" for count in counts]
    bar = go.Bar(
        x=counts, y=names, orientation="h", text=texts, textposition="outside", cliponaxis=False,
        marker_color=list(PALETTE[: len(names)]), hovertemplate="%{y}: %{x:,}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(bar)
    figure.update_xaxes(range=[0, 1.25 * max([*counts, 1])])  # room for the number beside the longest bar
    figure.update_yaxes(autorange="reversed")
    return calm(figure, height=60 + 52 * len(names))


def flags_by_filter(counts: pd.DataFrame) -> Any:
    """Share of each subset's pairs that each filter flags; columns filter, subset, pairs, of."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for number, (subset, rows) in enumerate(counts.groupby("subset", sort=False)):
        name = escape(str(subset)) or "(no subset)"
        figure.add_bar(
            name=name, y=rows["filter"], x=rows["pairs"] / rows["of"], orientation="h",
            customdata=rows[["pairs", "of"]], marker_color=PALETTE[number % len(PALETTE)],
            hovertemplate=name + ": %{customdata[0]:,} of %{customdata[1]:,} pairs (%{x:.2%})<extra>%{y}</extra>",
        )  # fmt: skip
    figure.update_layout(barmode="group", xaxis_tickformat=".1%", legend={"orientation": "h", "y": -0.15})
    figure.update_yaxes(autorange="reversed")
    bars = counts["filter"].nunique() * (counts["subset"].nunique() + 1)
    return calm(figure, height=max(260, 90 + 13 * bars))


def overlap(table: pd.DataFrame) -> Any:
    """Pairs that two filters both flag: a square table of counts, filters by filters."""
    import plotly.graph_objects as go

    names = [escape(str(name)) for name in table.index]
    texts = [[f"{count:,}" if count else "" for count in row] for row in table.to_numpy().tolist()]
    heat = go.Heatmap(
        z=table.where(table > 0), x=names, y=names, text=texts, texttemplate="%{text}",
        colorscale=[[0, "#a9c3cf"], [1, "#2f6f8f"]], showscale=False,
        hovertemplate="%{y} and %{x}: %{z:,} pairs<extra></extra>", xgap=2, ygap=2,
    )  # fmt: skip
    figure = go.Figure(heat)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return calm(figure, height=110 + 42 * len(names))


def scores(values: Sequence[float]) -> Any:
    """How a filter's scores are spread, 0..1."""
    import plotly.graph_objects as go

    figure = go.Figure(go.Histogram(x=list(values), xbins={"start": 0, "end": 1.0001, "size": 0.05}, marker_color=PALETTE[0]))
    figure.update_layout(xaxis_title="score", yaxis_title="pairs", bargap=0.05)
    figure.update_xaxes(range=[0, 1.02])
    return calm(figure, height=220)


def worth_of_thresholds(curve: pd.DataFrame, *, now: float, looked_at: float) -> Any:
    """Precision with its interval, and pairs flagged, against the threshold; columns as of curation.worth.Worth.curve.

    A line marks the threshold in force, another the one looked at.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.14, row_heights=[0.6, 0.4],
        subplot_titles=("Problems among the reviewed flags", "Pairs flagged"),
    )  # fmt: skip
    known = curve[curve["reviewed"] > 0]
    hidden: dict[str, Any] = {"mode": "lines", "line": {"width": 0, "shape": "hv"}, "hoverinfo": "skip", "showlegend": False}
    figure.add_scatter(x=known["threshold"], y=known["high"], **hidden, row=1, col=1)
    figure.add_scatter(
        x=known["threshold"], y=known["low"], **{**hidden, "showlegend": True}, fill="tonexty",
        fillcolor="rgba(47,111,143,0.2)", name="95% interval", row=1, col=1,
    )  # fmt: skip
    figure.add_scatter(
        x=known["threshold"], y=known["precision"], mode="lines", line={"color": PALETTE[0], "shape": "hv"}, name="precision",
        customdata=known[["reviewed", "low", "high"]], row=1, col=1, hovertemplate="from %{x:.2f}: %{y:.0%} "
        "[%{customdata[1]:.0%}, %{customdata[2]:.0%}] of %{customdata[0]:,} reviewed<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=curve["threshold"], y=curve["flagged"], mode="lines", line={"color": PALETTE[1], "shape": "hv"}, fill="tozeroy",
        fillcolor="rgba(217,140,63,0.25)", showlegend=False, row=2, col=1,
        hovertemplate="from %{x:.2f}: %{y:,} pairs<extra></extra>",
    )  # fmt: skip
    figure.add_vline(x=now, line={"color": PALETTE[7], "dash": "dot"})
    if looked_at != now:
        figure.add_vline(x=looked_at, line={"color": PALETTE[3]})
    figure.update_yaxes(range=[0, 1.03], tickformat=".0%", row=1, col=1)
    figure.update_yaxes(rangemode="tozero", row=2, col=1)
    figure.update_xaxes(range=[0, 1.01])
    figure.update_xaxes(title_text="threshold", row=2, col=1)
    figure.update_layout(legend={"orientation": "h", "y": -0.18})
    calm(figure, height=430)
    return figure.update_layout(margin_t=28)  # room for the titles


def strengths(table: pd.DataFrame) -> Any:
    """How preference strength is spread in each subset; columns subset and mean. Below 0 the votes go against the label."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for number, (subset, rows) in enumerate(table.groupby("subset", sort=False)):
        figure.add_histogram(
            name=escape(str(subset)) or "(no subset)", x=rows["mean"], histnorm="percent", opacity=0.55,
            xbins={"size": 0.2}, marker_color=PALETTE[number % len(PALETTE)], hovertemplate="%{x}: %{y:.1f}% of its pairs",
        )  # fmt: skip
    figure.add_vline(x=0, line_dash="dot", line_color="#6b7280")
    figure.update_layout(
        barmode="overlay", xaxis_title="preference strength of the label", yaxis_title="% of the subset's pairs",
        legend={"orientation": "h", "y": -0.3},
    )  # fmt: skip
    return calm(figure, height=320)


def figures(found: Mapping[str, Figure], *, value: str, middle: float | None = None) -> Any:
    """Figures with their 95% intervals, one a row; a line at `middle` where no difference lies."""
    import plotly.graph_objects as go

    known = {name: one for name, one in found.items() if one.value is not None}
    values = [one.value or 0.0 for one in known.values()]
    ends = [(one.value if one.low is None else one.low, one.value if one.high is None else one.high) for one in known.values()]
    points = go.Scatter(
        x=values, y=[escape(name) for name in known], mode="markers", marker={"size": 11, "color": PALETTE[0]},
        error_x={
            "type": "data", "symmetric": False, "thickness": 2,
            "array": [(high or 0.0) - one for (_, high), one in zip(ends, values, strict=True)],
            "arrayminus": [one - (low or 0.0) for (low, _), one in zip(ends, values, strict=True)],
        },
        customdata=[[one.words(), escape(name)] for name, one in known.items()],
        hovertemplate="%{customdata[0]}<extra>%{y}</extra>",
    )  # fmt: skip
    figure = go.Figure(points)
    if middle is not None:
        figure.add_vline(x=middle, line_dash="dot", line_color="#8c7a5b")
    figure.update_xaxes(title=escape(value))
    figure.update_yaxes(autorange="reversed")
    return calm(figure, height=110 + 34 * len(known))


def calm(figure: Any, *, height: int) -> Any:
    """The look that all figures share."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return figure
