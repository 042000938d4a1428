"""Charts of a run, large enough for a projector: means with their intervals, counts, a scatter.

Plain Vega-Lite: building and checking the same with Altair took a second a page. Names from others
stand in the data only, never as a field or an expression.
"""

from __future__ import annotations

from collections.abc import Sequence

from ragdemo.evaluation.humane import Point
from ragdemo.evaluation.metrics import METRICS
from ragdemo.evaluation.summary import Line

Spec = dict[str, object]

# told apart by people who see red and green alike, on white and on black
COLOURS = (
    "#8a94a3", "#2f7fd0", "#e08a1e", "#2b9d6b", "#b65fc1", "#d0574f", "#149ab0", "#a08a1c",
    "#6a6ae6", "#d15b8f", "#6f9f2f", "#9a7a5a",
)  # fmt: skip
FONT = 14
BAND = 30  # pixels of one arm
AROUND = 110  # pixels of legend and axis
# a smaller tickCount would thin the values out
SHARES = {"values": [0, 0.2, 0.4, 0.6, 0.8, 1], "tickCount": 6, "labelOverlap": False}
ROOM = 1.08  # of the longest bar or the highest share: figures stand beside them
QUIET = {"domain": False, "ticks": False, "title": None, "labelFontSize": FONT, "labelLimit": 190}


def _colour(arms: Sequence[str]) -> Spec:
    return {
        "field": "arm",
        "type": "nominal",
        "sort": None,
        "scale": {"domain": list(arms), "range": list(COLOURS[: len(arms)])},
        "legend": {
            "title": None, "orient": "top", "labelFontSize": FONT, "symbolSize": 160,
            "symbolType": "circle", "symbolOpacity": 1, "columns": 2, "labelLimit": 220,
        },
    }  # fmt: skip


def _rows(field: str, order: Sequence[str], arms: Sequence[str]) -> Spec:
    """A band a value of `field`, in it a line an arm."""
    return {
        "y": {"field": field, "type": "nominal", "sort": list(order), "axis": QUIET,
              "scale": {"paddingInner": 0.25}},
        "yOffset": {"field": "arm", "type": "nominal", "sort": list(arms)},
        "color": _colour(arms),
    }  # fmt: skip


def _height(bands: int, arms: int) -> int:
    return bands * max(arms, 1) * BAND + AROUND


def dots(lines: Sequence[Line], group: str) -> Spec | None:
    """Each metric of the group as a row of dots with intervals, an arm a colour; None where no arm
    has any."""
    rows = [
        {
            "metric": METRICS[key].title,
            "arm": line.arm,
            "mean": found.mean,
            "low": found.low,
            "high": found.high,
            "questions": found.n,
            "said": f"{found.mean:.2f}",
        }
        for line in lines
        for key, found in line.means.items()
        if METRICS[key].group == group
    ]
    if not rows:
        return None
    there = {row["metric"] for row in rows}
    order = [m.title for m in METRICS.values() if m.title in there]
    arms = [line.arm for line in lines]
    timed = group == "time"
    end = max(row["high"] for row in rows) if timed else 1.0
    scale = {"domain": [0, end * ROOM]}
    axis = {"title": None, "labelFontSize": FONT, "format": "~g", "tickCount": 5}
    axis |= {} if timed else SHARES

    def x(field: str) -> Spec:
        return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}

    figures = [
        {"field": f, "type": "quantitative", "format": ".3f"} for f in ("mean", "low", "high")
    ]
    return {
        "data": {"values": rows},
        "height": _height(len(order), len(arms)),
        "encoding": {
            **_rows("metric", order, arms),
            "tooltip": [{"field": "arm"}, {"field": "metric"}, {"field": "questions"}, *figures],
        },
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.55},
             "encoding": {"x": x("low"), "x2": {"field": "high"}}},
            {"mark": {"type": "circle", "size": 150, "opacity": 1}, "encoding": {"x": x("mean")}},
            {"mark": {"type": "text", "dy": -13, "fontSize": 12},
             "encoding": {"x": x("mean"), "text": {"field": "said"}}},
        ],
    }  # fmt: skip


def bars(rows: Sequence[dict[str, object]], arms: Sequence[str], by: str, unit: str) -> Spec:
    """`rows` of arm, `by`, value and said: bars beside each other, an arm a colour. `unit` is
    "share" or "count"."""
    order = list(dict.fromkeys(str(row[by]) for row in rows))
    share = unit == "share"
    end = 1 if share else max((row["value"] for row in rows), default=1)
    axis = {"title": None, "labelFontSize": FONT, "tickCount": 5, "format": "%" if share else "d"}
    x = {
        "field": "value",
        "type": "quantitative",
        "scale": {"domain": [0, end * ROOM]},
        "axis": {**axis, **(SHARES if share else {"tickMinStep": 1})},
    }
    return {
        "data": {"values": list(rows)},
        "height": _height(len(order), len(arms)),
        "encoding": {
            **_rows(by, order, arms),
            "x": x,
            "tooltip": [{"field": "arm"}, {"field": by}, {"field": "said"}],
        },
        "layer": [
            {"mark": {"type": "bar", "cornerRadiusEnd": 3}},
            {"mark": {"type": "text", "align": "left", "dx": 4, "fontSize": 12},
             "encoding": {"text": {"field": "said"}}},
        ],
    }  # fmt: skip


def scatter(points: Sequence[Point], metric: str, scale: str) -> Spec:
    """A metric against what people gave, a dot an answer."""

    def axis(title: str) -> Spec:
        return {"title": title, "titleFontSize": FONT, "labelFontSize": FONT, "tickCount": 5}

    return {
        "data": {"values": [point._asdict() for point in points]},
        "height": 340,
        "mark": {"type": "circle", "size": 130, "opacity": 0.75},
        "encoding": {
            "x": {"field": "rated", "type": "quantitative", "scale": {"domain": [0.8, 5.2]},
                  "axis": axis(f"{METRICS[scale].title}, people")},
            "y": {"field": "metric", "type": "quantitative", "scale": {"domain": [0, 1.05]},
                  "axis": axis(METRICS[metric].title)},
            "color": _colour(list(dict.fromkeys(point.arm for point in points))),
            "tooltip": [{"field": "item"}, {"field": "arm"}, {"field": "rated"},
                        {"field": "metric", "type": "quantitative", "format": ".2f"}],
        },
    }  # fmt: skip
