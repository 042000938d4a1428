"""Where words stand on a page -> lines and table rows in reading order.

Pure geometry: knows nothing of PDF, of other pages, of headings or of paragraphs. Units are
points; y grows downwards and is a line's baseline. Everything is linear or bounded, because it
runs on files that strangers made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

# A gap this many font sizes wide parts two columns or cells. A space is 0.25 to 0.35 wide, a
# stretched one in justified text about 0.7, a column gutter at least 1.
_CELL_GAP = 0.85
_SAME_LINE = 0.45  # baselines this many font sizes apart share a line: superscripts do
_NEAR = 3.0  # points; two rules or edges this close are the same
_SAME_EXTENT = 0.5  # a table's own rules match exactly, the page's ornaments nearly
_TALLEST_ROW = 120.0  # points between two rules of one table
_LOOK_BACK = 30  # rules above, so that many rules cost no more than linear time
_MAX_DEPTH = 3  # columns within columns
_MARKER = re.compile(r"\(?\w{1,3}[.)]|[•●▪◦‣·*–—-]|\d+(\.\d+)+\.?|[□☐☑✓]")
_NUMBER = re.compile(r"[£$€¥+\-–(]*\d[\d.,:/%\-–) ]*(?:[a-zA-Z€£$%]{1,3})?")


@dataclass(slots=True)
class Word:
    text: str
    x0: float
    x1: float
    y: float
    size: float
    bold: bool = False


@dataclass(slots=True)
class Rule:
    """A thin drawn line from (x0, y0) to (x1, y1); horizontal when it is wider than high."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def horizontal(self) -> bool:
        return self.x1 - self.x0 >= self.y1 - self.y0


@dataclass(slots=True)
class Line:
    """Words on one baseline; `group` tells the column it stands in, `cells` what wide gaps part.

    Two rows alone do not make a table, but they do when the page before ended with one.
    """

    text: str
    x0: float
    x1: float
    y: float
    size: float
    bold: bool
    group: int = 0
    cells: list[tuple[float, str]] = field(default_factory=list)  # (left edge, text); 2 or more


@dataclass(slots=True)
class Table:
    """Rows of cells, all of one length; `lefts` are the columns' left edges."""

    rows: list[list[str]]
    lefts: list[float]
    header: bool  # the first row names the columns
    y: float
    bottom: float
    group: int = 0


@dataclass(slots=True)
class _Segment:
    """Words in a row with no wide gap between them."""

    words: list[Word]
    x0: float
    x1: float
    y: float
    size: float
    table: Table | None = None  # a placeholder for a table that was taken out already
    top: float = field(default=0.0)

    @property
    def bold(self) -> bool:
        return self.words[0].bold and self.words[-1].bold

    @property
    def text(self) -> str:
        return _join(self.words)


def arrange(words: list[Word], rules: list[Rule]) -> list[Line | Table]:
    """Lines and tables of one page in reading order."""
    words, tables = _ruled_tables(words, rules)
    segments = _segments(words)
    for table in tables:
        right = max([table.lefts[-1] + 1, *(r.x1 for r in rules if _inside(r, table))])
        segments.append(_Segment([], table.lefts[0], right, table.bottom, 10.0, table, top=table.y))
    out: list[Line | Table] = []
    _cut(segments, 0, out, [0])
    return out


def _inside(rule: Rule, table: Table) -> bool:
    return rule.horizontal and table.y - _NEAR <= rule.y0 <= table.bottom + _NEAR


def _join(words: list[Word]) -> str:
    parts = [words[0].text]
    for before, word in pairwise(words):
        # touching words are one word whose end is raised, lowered or in another font
        if word.x0 - before.x1 > 0.12 * min(before.size, word.size) or word.x0 < before.x0:
            parts.append(" ")
        parts.append(word.text)
    return "".join(parts)


def _segments(words: list[Word]) -> list[_Segment]:
    """Words, in the order the file draws them, cut wherever the pen jumps."""
    segments: list[_Segment] = []
    current: _Segment | None = None
    for word in words:
        if current is not None:
            reach = max(current.size, word.size)
            gap = word.x0 - current.x1
            if abs(word.y - current.y) < _SAME_LINE * reach and -0.5 * reach < gap < (
                _CELL_GAP * reach
            ):
                current.words.append(word)
                current.x1 = max(current.x1, word.x1)
                if word.size > current.size:
                    current.size, current.y = word.size, word.y
                current.top = min(current.top, word.y - word.size)
                continue
        current = _Segment([word], word.x0, word.x1, word.y, word.size, top=word.y - word.size)
        segments.append(current)
    return segments


# -- columns of text --------------------------------------------------------------------------


def _cut(segments: list[_Segment], depth: int, out: list[Line | Table], group: list[int]) -> None:
    """Append the segments in reading order: down the left column, then down the right one."""
    gutter = _gutter(segments) if depth < _MAX_DEPTH else None
    if gutter is None:
        _flow(segments, out, group[0])
        group[0] += 1
        return
    wide: list[_Segment] = []  # runs across both columns, waiting to be written together
    left: list[_Segment] = []
    right: list[_Segment] = []

    def write_columns() -> None:
        for column in (left, right):
            if column:
                _cut(column.copy(), depth + 1, out, group)
                column.clear()

    def write_wide() -> None:
        if wide:
            _flow(wide.copy(), out, group[0])
            group[0] += 1
            wide.clear()

    ordered = sorted(segments, key=_by_y)
    for index, segment in enumerate(ordered):
        following = ordered[index + 1] if index + 1 < len(ordered) else None
        alone = following is None or following.y - segment.y > _SAME_LINE * segment.size
        across = segment.x0 < gutter - 1 and segment.x1 > gutter + 1
        if wide and alone and segment.x1 <= gutter + 1:  # the short last line of a wide paragraph
            last = wide[-1]
            across = (
                segment.y - last.y < 1.5 * segment.size and abs(segment.x0 - last.x0) < segment.size
            )
        if across:
            write_columns()
            wide.append(segment)
        else:
            write_wide()
            (left if segment.x1 <= gutter + 1 else right).append(segment)
    write_wide()
    write_columns()


def _by_y(segment: _Segment) -> tuple[float, float]:
    return segment.y, segment.x0


def _gutter(segments: list[_Segment]) -> float | None:
    """The x of an empty stripe with running text on both of its sides, if there is one."""
    if len(segments) < 10:
        return None
    x0 = min(s.x0 for s in segments)
    x1 = max(s.x1 for s in segments)
    width = x1 - x0
    if width < 150:
        return None
    steps = 80
    # crossings at every step by a difference array: one pass over the segments
    change = [0] * (steps + 2)
    for s in segments:
        first = int((s.x0 - x0) / width * steps) + 1
        last = int((s.x1 - x0) / width * steps - 1e-9)
        if last >= first:
            change[first] += 1
            change[min(last, steps) + 1] -= 1
    crossings = []
    running = 0
    for step in range(steps + 1):
        running += change[step]
        crossings.append(running)
    low, high = int(steps * 0.2), int(steps * 0.8)
    fewest = min(crossings[low : high + 1])
    if fewest > 0.2 * len(segments):
        return None
    at = [step for step in range(low, high + 1) if crossings[step] == fewest]
    # the middle of the longest run of emptiest steps
    best: list[int] = []
    run: list[int] = []
    for step in at:
        run = [*run, step] if run and step == run[-1] + 1 else [step]
        if len(run) > len(best):
            best = run
    gutter = x0 + width * (best[0] + best[-1]) / 2 / steps
    left = [s for s in segments if s.x1 <= gutter + 1 and s.table is None]
    right = [s for s in segments if s.x0 >= gutter - 1 and s.table is None]
    return gutter if _prose(left) and _prose(right) and _beside(left, right) else None


def _prose(column: list[_Segment]) -> bool:
    """Running text fills its column; cells of a table do not."""
    if len(column) < 5:
        return False
    width = max(s.x1 for s in column) - min(s.x0 for s in column)
    return (
        median(s.x1 - s.x0 for s in column) > 0.6 * width
        and median(sum(len(w.text) + 1 for w in s.words) for s in column) >= 18
    )


def _beside(left: list[_Segment], right: list[_Segment]) -> bool:
    top = max(min(s.y for s in left), min(s.y for s in right))
    bottom = min(max(s.y for s in left), max(s.y for s in right))
    shorter = min(max(s.y for s in c) - min(s.y for s in c) for c in (left, right))
    return bottom - top > 0.5 * shorter


# -- lines and tables that are aligned but not ruled -------------------------------------------


def _flow(segments: list[_Segment], out: list[Line | Table], group: int) -> None:
    """One column from top to bottom."""
    rows: list[list[_Segment]] = []
    for segment in sorted(segments, key=_by_y):
        if (
            rows
            and segment.table is None
            and rows[-1][0].table is None
            and abs(segment.y - rows[-1][0].y) < _SAME_LINE * max(segment.size, rows[-1][0].size)
        ):
            rows[-1].append(segment)
        else:
            rows.append([segment])
    for row in rows:
        row.sort(key=lambda s: s.x0)
    at = 0
    while at < len(rows):
        if (table := rows[at][0].table) is not None:
            table.group = group
            out.append(table)
            at += 1
            continue
        stop, columns = _aligned(rows, at)
        if columns:
            out.append(_table_of_rows(rows[at:stop], columns, group))
            at = stop
        else:
            out.append(_line(rows[at], group))
            at += 1


def _line(row: list[_Segment], group: int) -> Line:
    words = [word for segment in row for word in segment.words]
    largest = max(row, key=lambda s: s.x1 - s.x0)
    return Line(
        _join(words),
        row[0].x0,
        max(s.x1 for s in row),
        largest.y,
        largest.size,
        all(s.bold for s in row),
        group,
        [(s.x0, s.text) for s in row] if len(row) > 1 else [],
    )


def _aligned(rows: list[list[_Segment]], at: int) -> tuple[int, list[tuple[float, float]]]:
    """The end of the table that begins at row `at` and its columns' extents, or (at, [])."""
    if len(rows[at]) < 2 or _MARKER.fullmatch(rows[at][0].text):
        return at, []
    columns = [(s.x0, s.x1) for s in rows[at]]
    wanted = len(columns)
    full = 1  # rows with at least two cells
    stop = at + 1
    while stop < len(rows):
        row = rows[stop]
        gap = row[0].y - rows[stop - 1][0].y
        if row[0].table is not None or gap > 3.5 * row[0].size:
            break
        if len(row) == 1 and gap > 1.45 * row[0].size:
            break  # only a wrapped cell goes on alone
        merged = _merge(columns, [(s.x0, s.x1) for s in row])
        if len(merged) != wanted:
            break
        columns = merged
        full += len(row) >= 2
        stop += 1
    while len(rows[stop - 1]) == 1 and rows[stop - 1][0].x0 < columns[1][0] - _NEAR:
        stop -= 1  # more likely the text after the table than a wrapped first cell
    gaps = [b[0] - a[1] for a, b in pairwise(columns)]
    if full < 3 or min(gaps) < 0.5 * rows[at][0].size:
        return at, []
    return stop, columns


def _merge(
    columns: list[tuple[float, float]], more: list[tuple[float, float]]
) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for x0, x1 in sorted(columns + more):
        if merged and x0 <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], x1))
        else:
            merged.append((x0, x1))
    return merged


def _table_of_rows(
    rows: list[list[_Segment]], columns: list[tuple[float, float]], group: int
) -> Table:
    cells: list[list[list[Word]]] = []
    bold: list[bool] = []
    above = 0.0
    for row in rows:
        line: list[list[Word]] = [[] for _ in columns]
        for segment in row:
            for index, (x0, x1) in enumerate(columns):
                if x0 - 1 <= segment.x0 <= x1 + 1:
                    line[index] += segment.words
                    break
        close = row[0].y - above < 1.45 * row[0].size
        above = row[0].y
        if cells and close and (not line[0] or len(row) == 1):  # a wrapped cell goes on below
            for index, words in enumerate(line):
                cells[-1][index] += words
        else:
            cells.append(line)
            bold.append(all(s.bold for s in row))
    texts = [[_cell(words) for words in line] for line in cells]
    first, last = rows[0], rows[-1]
    return Table(
        texts,
        [x0 for x0, _ in columns],
        _names_columns(texts, bold),
        first[0].top,
        last[0].y,
        group,
    )


def _cell(words: list[Word]) -> str:
    """The text of a cell; its words may stand on several lines."""
    lines: list[list[Word]] = []
    for word in words:
        if lines and abs(word.y - lines[-1][0].y) < _SAME_LINE * max(word.size, lines[-1][0].size):
            lines[-1].append(word)
        else:
            lines.append([word])
    lines.sort(key=lambda line: line[0].y)
    return " ".join(_join(sorted(line, key=lambda w: w.x0)) for line in lines)


def _names_columns(rows: list[list[str]], bold: list[bool]) -> bool:
    """Is the first row a header? It is set off in bold, or it has words above numbers."""
    if len(rows) < 2 or not sum(bool(cell) for cell in rows[0]) >= min(2, len(rows[0])):
        return False
    if bold and bold[0] and not all(bold):
        return True
    if any(_NUMBER.fullmatch(cell) for cell in rows[0]):
        return False
    below = list(zip(*rows[1:], strict=True))
    numeric = [
        sum(bool(_NUMBER.fullmatch(cell)) for cell in column) >= 0.5 * len(column)
        for column in below
    ]
    return any(numeric)


# -- ruled tables ------------------------------------------------------------------------------


def _ruled_tables(words: list[Word], rules: list[Rule]) -> tuple[list[Word], list[Table]]:
    """Tables whose lines are drawn, and the words that are in none of them."""
    tables: list[Table] = []
    for cluster in _clusters(rules):
        ys = _positions([r.y0 for r in cluster if r.horizontal])
        xs = _positions([r.x0 for r in cluster if not r.horizontal])
        if len(ys) < 3 and not (len(ys) == 2 and len(xs) >= 3):
            continue
        left = min(r.x0 for r in cluster)
        right = max(r.x1 for r in cluster)
        if len(xs) < 3:
            ys = _row_above(words, ys, left, right) + ys
        top, bottom = ys[0], ys[-1]
        # a word belongs to the table when its middle does
        inside = [
            w
            for w in words
            if top <= w.y - 0.3 * w.size <= bottom and left <= (w.x0 + w.x1) / 2 <= right
        ]
        if len(inside) < 4:
            continue
        table = _grid(inside, xs, ys) if len(xs) >= 3 else _striped(inside, ys)
        if table is None or len(table.lefts) < 2:
            continue
        taken = {id(w) for w in inside if table.y <= w.y - 0.3 * w.size <= table.bottom}
        words = [w for w in words if id(w) not in taken]
        tables.append(table)
    return words, tables


def _clusters(rules: list[Rule]) -> list[list[Rule]]:
    """Rules that touch, or horizontal rules of the same extent one below the other."""
    parent = list(range(len(rules)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    order = sorted(range(len(rules)), key=lambda i: rules[i].y0)
    active: list[int] = []
    across: list[int] = []
    for i in order:
        rule = rules[i]
        active = [j for j in active if rules[j].y1 >= rule.y0 - _NEAR]
        for j in active:
            if rules[j].x0 - _NEAR <= rule.x1 and rule.x0 - _NEAR <= rules[j].x1:
                parent[root(i)] = root(j)
        active.append(i)
        if rule.horizontal:
            for j in reversed(across[-_LOOK_BACK:]):
                above = rules[j]
                if (
                    abs(above.x0 - rule.x0) + abs(above.x1 - rule.x1) < _SAME_EXTENT
                    and rule.y0 - above.y0 < _TALLEST_ROW
                ):
                    parent[root(i)] = root(j)
                    break
            across.append(i)
    groups: dict[int, list[Rule]] = {}
    for i in range(len(rules)):
        groups.setdefault(root(i), []).append(rules[i])
    return sorted((g for g in groups.values() if len(g) >= 3), key=lambda g: min(r.y0 for r in g))


def _positions(values: list[float]) -> list[float]:
    out: list[float] = []
    for value in sorted(values):
        if not out or value - out[-1] > _NEAR:
            out.append(value)
    return out


def _grid(words: list[Word], xs: list[float], ys: list[float]) -> Table | None:
    """Rows and columns both ruled: every word falls into a cell."""
    columns = len(xs) - 1
    bands: list[list[Word]] = [[] for _ in range(len(ys) - 1)]
    for word in words:
        bands[_band(word.y - 0.3 * word.size, ys)].append(word)
    if len(bands) <= 2:  # only the outline, and perhaps the header, are ruled across
        bands = [line for band in bands for line in _baselines(band)]
    texts: list[list[str]] = []
    bold: list[bool] = []
    for band in bands:
        if not band:
            continue
        cells: list[list[Word]] = [[] for _ in range(columns)]
        for word in band:
            cells[_band((word.x0 + word.x1) / 2, xs)].append(word)
        texts.append([_cell(cell) for cell in cells])
        bold.append(all(word.bold for word in band))
    filled = [c for c in range(columns) if any(row[c] for row in texts)]
    if len(filled) < 2:
        return None
    texts = [[row[c] for c in filled] for row in texts]
    # a ruled table without numbers still has its names in the first row more often than not
    header = _names_columns(texts, bold) or (
        len(texts) > 2
        and all(0 < len(c) <= 40 and not c.endswith(":") for c in texts[0])
        and not any(_NUMBER.search(c) for c in texts[0])
    )
    return Table(texts, [xs[c] for c in filled], header, ys[0], ys[-1])


def _row_above(words: list[Word], ys: list[float], left: float, right: float) -> list[float]:
    """The top of a row that stands over the first rule, for tables ruled only below their rows."""
    height = median(b - a for a, b in pairwise(ys))
    over = [
        w
        for w in words
        if 0 < ys[0] - (w.y - 0.3 * w.size) < height and left <= (w.x0 + w.x1) / 2 <= right
    ]
    if not over:
        return []
    row = max(_baselines(over), key=lambda line: line[0].y)
    below = [w for w in words if ys[0] <= w.y - 0.3 * w.size <= ys[-1]]
    cells = len(_columns([row]))
    if cells < 2 or cells != len(_columns([row, below])):
        return []
    return [min(w.y - w.size for w in row) - 1]


def _striped(words: list[Word], ys: list[float]) -> Table | None:
    """Only lines between rows are ruled: columns are where no word ever stands."""
    bands: list[list[Word]] = [[] for _ in range(len(ys) - 1)]
    for word in words:
        bands[_band(word.y - 0.3 * word.size, ys)].append(word)
    first, last = 0, len(bands)
    # text that merely stands between the table and another rule of the page
    while first < last and len(_columns(bands[first : first + 1])) < 2:
        first += 1
    while last > first and len(_columns(bands[last - 1 : last])) < 2:
        last -= 1
    columns = _columns(bands[first:last])
    if not 2 <= len(columns) <= 20:
        return None
    top, bottom = ys[first], ys[last]
    ruled_header = last - first == 2
    bands = [band for band in bands[first:last] if band]
    if len(bands) <= 2:  # rules above, below and under the header
        bands = [line for band in bands for line in _baselines(band)]
    lefts = [x0 for x0, _ in columns]
    edges = [*lefts, columns[-1][1] + 1]
    texts: list[list[str]] = []
    bold: list[bool] = []
    for band in bands:
        cells: list[list[Word]] = [[] for _ in columns]
        for word in band:
            cells[_band(word.x0 + 0.1, edges)].append(word)
        texts.append([_cell(cell) for cell in cells])
        bold.append(all(word.bold for word in band))
    header = (ruled_header and len(texts) > 2) or _names_columns(texts, bold)
    return Table(texts, lefts, header, top, bottom)


def _columns(bands: list[list[Word]]) -> list[tuple[float, float]]:
    """The extents of the columns that all lines of the bands leave free between them."""
    columns: list[tuple[float, float]] = []
    for band in bands:
        for line in _baselines(band):
            row = _segments(sorted(line, key=lambda w: w.x0))
            columns = _merge(columns, [(s.x0, s.x1) for s in row])
    return columns


def _band(value: float, edges: list[float]) -> int:
    for index in range(len(edges) - 2):
        if value < edges[index + 1]:
            return index
    return len(edges) - 2


def _baselines(words: list[Word]) -> list[list[Word]]:
    lines: list[list[Word]] = []
    for word in sorted(words, key=lambda w: (w.y, w.x0)):
        if lines and word.y - lines[-1][0].y < _SAME_LINE * word.size:
            lines[-1].append(word)
        else:
            lines.append([word])
    return lines
