"""Which lines are running headers and footers: the same words at the edge of most pages.

Numbers in them must stand still or count with the pages, so that "The allowance is 10" over
"The allowance is 20" is not taken for one.
"""

from __future__ import annotations

import re
from collections import defaultdict

from ragdemo.loading.layout import Line

_EDGE = 0.13  # of the page's height, at the top and at the bottom
_FEWEST = 3  # pages
_NUMBER = re.compile(r"\d+")
_ROMAN = re.compile(r"[ivxlcdm]{1,7}", re.IGNORECASE)
_LONGEST = 200


def find_furniture(pages: list[tuple[int, float, list[Line]]]) -> dict[int, str]:
    """`id(line)` -> "top" or "bottom". A page is (its number, height in points, lines)."""
    if len(pages) < _FEWEST:
        return {}
    seen: dict[tuple[str, str], list[tuple[int, Line]]] = defaultdict(list)
    for number, height, lines in pages:
        for line in lines:
            if height <= 0 or line.group < 0 or len(line.text) > _LONGEST:
                continue
            if line.y < _EDGE * height:
                seen["top", _key(line.text)].append((number, line))
            elif line.y > (1 - _EDGE) * height:
                seen["bottom", _key(line.text)].append((number, line))
    found: dict[int, str] = {}
    numbers = [number for number, _, _ in pages]
    for (edge, _), places in seen.items():
        if _on_most({number for number, _ in places}, numbers) and _counts(places):
            found.update({id(line): edge for _, line in places})
    # where everything on most pages would be furniture, nothing is
    bare = sum(bool(lines) and all(id(line) in found for line in lines) for _, _, lines in pages)
    return {} if 2 * bare > len(pages) else found


def _key(text: str) -> str:
    text = " ".join(text.split()).casefold()
    if _ROMAN.fullmatch(text.strip("-–— ")):
        return "#"
    return _NUMBER.sub("#", text)


def _on_most(having: set[int], numbers: list[int]) -> bool:
    """On half of all pages, or on nearly all odd or all even ones (left and right headers)."""
    if len(having) < _FEWEST:
        return False
    if 2 * len(having) >= len(numbers):
        return True
    return any(
        len([n for n in having if n % 2 == side])
        >= 0.8 * len([n for n in numbers if n % 2 == side])
        for side in (0, 1)
        if any(n % 2 == side for n in numbers)
    )


def _counts(places: list[tuple[int, Line]]) -> bool:
    """Does every number in the line stay as it is, or grow by one a page, on most pages?"""
    values = [[int(n[:9]) for n in _NUMBER.findall(line.text)] for _, line in places]
    width = max(map(len, values))
    for slot in range(width):
        column = [
            (page, v[slot]) for (page, _), v in zip(places, values, strict=True) if slot < len(v)
        ]
        still: dict[int, int] = defaultdict(int)
        growing: dict[int, int] = defaultdict(int)
        for page, value in column:
            still[value] += 1
            growing[value - page] += 1
        if max(max(still.values()), max(growing.values())) < 0.7 * len(column):
            return False
    return True
