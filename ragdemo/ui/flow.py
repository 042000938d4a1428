"""The pipeline as a diagram whose boxes hold a question's own data and open by a click."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from ragdemo.text import clean

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "ragdemo_flow",
    html='<div class="flow"></div>',
    css=(_HERE / "flow.css").read_text("utf-8"),
    js=(_HERE / "flow.js").read_text("utf-8"),
)
KEY = "flow"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A box with what this question left in it; plain text."""

    id: str
    title: str
    figure: str
    time: str = ""


def diagram(boxes: Sequence[Drawn], chosen: str, choose: Callable[[str], None]) -> None:
    """Boxes in the order of `explained.BOXES`; `choose` gets the id of one that is clicked."""
    known = {box.id for box in boxes}

    def clicked() -> None:
        name = st.session_state[KEY]["chosen"]
        if name in known:  # it comes from a browser
            choose(name)

    _component(
        data={
            "chosen": chosen,
            "boxes": [
                {"id": b.id, "title": b.title, "figure": clean(b.figure)[0], "time": b.time}
                for b in boxes
            ],
        },
        key=KEY,
        on_chosen_change=clicked,
    )
