"""Charts of a run, large enough for a projector: means with their intervals, shares by kind."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from ragdemo.evaluation.humane import Point
from ragdemo.evaluation.metrics import METRICS
from ragdemo.evaluation.summary import Line

# told apart by people who see red and green alike, on white and on black
COLOURS = (
    "#8a94a3", "#2f6fb3", "#e08a1e", "#2b9d6b", "#b65fc1", "#c9483f", "#14899a", "#8f7a1c",
    "#5b5bd6", "#d15b8f", "#5f8f2f", "#7a5a3a",
)  # fmt: skip
FONT = 14
BAND = 26  # pixels of one arm


def _colour(arms: Sequence[str]) -> alt.Color:
    scale = alt.Scale(domain=list(arms), range=list(COLOURS[: len(arms)]))
    legend = alt.Legend(title=None, orient="top", labelFontSize=FONT, symbolSize=160, columns=2,
                        labelLimit=220)  # fmt: skip
    return alt.Color("arm:N", scale=scale, legend=legend, sort=None)


def dots(lines: Sequence[Line], group: str) -> alt.LayerChart | None:
    """Each metric of the group as a row of dots with intervals, an arm a colour; None where no arm
    has any."""
    arms = [line.arm for line in lines]
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
    order = [m.title for m in METRICS.values() if any(r["metric"] == m.title for r in rows)]
    fixed = group != "time"
    x = {
        "scale": alt.Scale(domain=[0, 1]) if fixed else alt.Scale(zero=True),
        "axis": alt.Axis(title=None, tickCount=5, labelFontSize=FONT, format="~g"),
    }
    axis = alt.Axis(title=None, domain=False, ticks=False, labelFontSize=FONT, labelLimit=190)
    base = alt.Chart(pd.DataFrame(rows)).encode(
        y=alt.Y("metric:N", sort=order, axis=axis, scale=alt.Scale(paddingInner=0.25)),
        yOffset=alt.YOffset("arm:N", sort=arms),
        color=_colour(arms),
        tooltip=["arm:N", "metric:N", "questions:Q",
                 *(alt.Tooltip(f"{n}:Q", format=".3f") for n in ("mean", "low", "high"))],
    )  # fmt: skip
    rules = base.mark_rule(strokeWidth=3, opacity=0.55).encode(x=alt.X("low:Q", **x), x2="high:Q")
    points = base.mark_circle(size=150, opacity=1).encode(x=alt.X("mean:Q", **x))
    words = base.mark_text(dy=-12, fontSize=12).encode(x=alt.X("mean:Q", **x), text="said:N")
    return (rules + points + words).properties(
        height=max(90, len(order) * max(1, len(arms)) * BAND + 20)
    )


def bars(rows: Sequence[dict[str, object]], arms: Sequence[str], by: str, unit: str) -> alt.Chart:
    """`rows` of arm, `by`, value and said: bars beside each other, an arm a colour."""
    order = list(dict.fromkeys(str(row[by]) for row in rows))
    share = unit == "share"
    x = alt.X(
        "value:Q", scale=alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=True),
        axis=alt.Axis(title=None, labelFontSize=FONT, tickCount=5, tickMinStep=0 if share else 1,
                      format="%" if share else "d"),
    )  # fmt: skip
    axis = alt.Axis(title=None, domain=False, ticks=False, labelFontSize=FONT, labelLimit=190)
    base = alt.Chart(pd.DataFrame(rows)).encode(
        y=alt.Y(f"{by}:N", sort=order, axis=axis),
        yOffset=alt.YOffset("arm:N", sort=list(arms)),
        x=x,
        color=_colour(arms),
        tooltip=["arm:N", f"{by}:N", "said:N"],
    )
    words = base.mark_text(align="left", dx=4, fontSize=12).encode(text="said:N")
    return (base.mark_bar(cornerRadiusEnd=3) + words).properties(
        height=len(order) * max(1, len(arms)) * BAND + 30
    )


def scatter(points: Sequence[Point], metric: str, scale: str) -> alt.Chart:
    """A metric against what people gave, a dot an answer."""
    arms = list(dict.fromkeys(point.arm for point in points))
    data = pd.DataFrame([point._asdict() for point in points])

    def axis(title: str) -> alt.Axis:
        return alt.Axis(title=title, titleFontSize=FONT, labelFontSize=FONT, tickCount=5)

    return (
        alt.Chart(data)
        .mark_circle(size=130, opacity=0.75)
        .encode(
            x=alt.X("rated:Q", scale=alt.Scale(domain=[0.8, 5.2]),
                    axis=axis(f"{METRICS[scale].title}, people")),
            y=alt.Y("metric:Q", scale=alt.Scale(domain=[0, 1]), axis=axis(METRICS[metric].title)),
            color=_colour(arms),
            tooltip=["item:N", "arm:N", "rated:Q", alt.Tooltip("metric:Q", format=".2f")],
        )
        .properties(height=340)
    )  # fmt: skip
