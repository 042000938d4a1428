"""What is said of text that stands in a file but that nobody sees who looks at it.

Such text is read like the rest: a screen reader's help or a scan's recognised words are hidden too.
But a visitor has to know of it, since it can also hold words meant for the model alone. Knows
nothing of file formats; `pdf_hidden`, `docx` and `html` do the finding.
"""

from __future__ import annotations

from collections.abc import Mapping

TINY_POINTS = 2.0  # letters smaller than this are dust

KINDS: Mapping[str, str] = {
    "colour": "in the colour of its background",
    "white": "in white, seen on a dark ground only",
    "tiny": f"smaller than {TINY_POINTS:g} points",
    "outside": "outside the page",
    "invisible": "drawn with invisible letters",
    "marked": "marked as hidden",
}
OCR = "recognised"  # invisible letters over a picture, as text recognition leaves them


def note(kind: str, characters: int, where: str = "") -> str:
    """ "Hidden text, outside the page: 40 characters on page 2. It was read like the rest." """
    place = f" on {where}" if where else ""
    if kind == OCR:
        return (
            f"The text{place} is an invisible layer over pictures, as text recognition leaves it; "
            "it may differ from what the pictures show."
        )
    return (
        f"Hidden text, {KINDS[kind]}: {characters:,} character{'s' * (characters != 1)}{place}. "
        "It was read like the rest."
    )
