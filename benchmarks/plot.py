"""Plots of the benchmarks, drawn without a screen; the suffix of the path says which format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

OURS, THEIRS = "#0f766e", "#94a3b8"
CYCLE = (OURS, "#c2410c", "#4338ca", "#a16207", "#be185d", "#475569")


def bars(title: str, labels: Sequence[str], values: Sequence[float], unit: str, path: Path) -> None:
    """One horizontal bar a label, the first at the top and in our colour."""
    figure, axes = _axes(title, height=0.9 + 0.45 * len(labels))
    places = range(len(labels))
    drawn = axes.barh(places, values, color=[OURS, *[THEIRS] * (len(labels) - 1)])
    said = [f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in values]
    axes.bar_label(drawn, said, padding=4)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.margins(x=0.12)
    figure.savefig(path)


def lines(
    title: str,
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    x_unit: str,
    y_unit: str,
    path: Path,
    *,
    logarithmic: bool = False,
) -> None:
    """One line a name over the same x; on both axes logarithmic where powers are to be seen."""
    figure, axes = _axes(title, height=3.6)
    for colour, (name, values) in zip(CYCLE, series.items(), strict=False):
        axes.plot(x, values, marker="o", color=colour, label=name)
    if logarithmic:
        axes.loglog()
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(x_unit)
    axes.set_ylabel(y_unit)
    if len(series) > 1:
        axes.legend(frameon=False)
    figure.savefig(path)


def _axes(title: str, height: float):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
