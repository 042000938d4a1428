"""Chunks: what must hold for any text, and how headings, tables and furniture are treated."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragdemo.chunking import chunk, overlap_of
from ragdemo.settings import Chunking
from ragdemo.types import Block, Document, Page, Span


def by_words(texts: list[str]) -> list[int]:
    """A word is a token for every four of its characters, begun ones counted."""
    return [sum((len(word) + 3) // 4 for word in text.split()) for text in texts]


def by_characters(texts: list[str]) -> list[int]:
    return [len("".join(text.split())) for text in texts]


def by_unknown(texts: list[str]) -> list[int]:
    """As WordPiece does with a word of more than 100 characters: one unknown token."""
    return [len(text.split()) for text in texts]


def at_odds(texts: list[str]) -> list[int]:
    """Counts of parts do not add up to the count of the whole."""
    return [len(text) // 2 + text.count("\n") * 3 for text in texts]


COUNTERS = [by_words, by_characters, by_unknown, at_odds]


def document(text: str, blocks: list[Block] | None = None, pages: int = 1) -> Document:
    cuts = [len(text) * n // pages for n in range(pages + 1)]
    return Document(
        "a" * 64,
        "doc.txt",
        text,
        tuple(Page(n + 1, str(n + 1), cuts[n], cuts[n + 1]) for n in range(pages)),
        tuple(blocks or ()),
    )


WORDS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12),
    st.sampled_from(
        [
            "The",
            "policy.",
            "3.2",
            "👩‍👩‍👧‍👦",
            "é" * 3,
            "e\u0301\u0302",
            "休暇は年間二十日です。",
            "x" * 900,
            "!",
            "…",
        ]
    ),
)
TEXTS = st.lists(st.tuples(WORDS, st.sampled_from([" ", " ", " ", "\n", "\n\n", ""])), max_size=120)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = "".join(word + gap for word, gap in draw(TEXTS))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=16)))
    blocks = []
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        kind = draw(st.sampled_from(["heading", "table", "furniture"]))
        header = None
        if kind == "table" and draw(st.booleans()):
            at = draw(st.integers(0, start))
            header = Span(at, min(len(text), at + draw(st.integers(1, 300))))
        blocks.append(Block(kind, start, end, draw(st.integers(1, 4)), header))
    return document(text, blocks, draw(st.integers(1, 4)))


@settings(max_examples=150, deadline=None)
@given(documents(), st.sampled_from(COUNTERS), st.integers(16, 80), st.integers(12, 100))
def test_what_holds_for_any_text(doc, count, tokens, limit):
    chunks = chunk(doc, count, Chunking(tokens=tokens, overlap=tokens // 4), limit)
    furniture = {i for b in doc.blocks if b.kind == "furniture" for i in range(b.start, b.end)}
    covered: set[int] = set()
    for piece in chunks:
        assert doc.text[piece.start : piece.end] == piece.text
        assert piece.text == piece.text.strip() != ""
        assert piece.id == f"{doc.id[:16]}:{piece.start}-{piece.end}"
        assert piece.tokens == count([piece.content])[0]
        assert piece.tokens <= limit - 2
        assert piece.pages == tuple(sorted(piece.pages)) != ()
        covered.update(range(piece.start, piece.end))
    assert covered.isdisjoint(furniture)
    wanted = {i for i, c in enumerate(doc.text) if not c.isspace()} - furniture
    assert wanted <= covered
    starts = [(piece.start, piece.end) for piece in chunks]
    assert starts == sorted(starts)
    assert len(set(starts)) == len(starts)


@pytest.mark.parametrize("text", ["", "  \n\n ", "\t"])
def test_no_text_no_chunks(text):
    assert chunk(document(text), by_words) == []


def test_one_character():
    (only,) = chunk(document("x"), by_words)
    assert (only.text, only.pages, only.tokens) == ("x", (1,), 1)


def test_a_giant_word_is_cut_by_characters_and_no_emoji_is_torn():
    family = "👩‍👩‍👧‍👦"
    text = family * 500
    chunks = chunk(document(text), by_characters, Chunking(tokens=50, overlap=0), 52)
    assert "".join(c.text for c in chunks) == text
    assert all(c.text.startswith("👩") and not c.text.endswith("\u200d") for c in chunks)


def test_an_unknown_word_of_one_token_is_still_cut():
    chunks = chunk(document("y" * 100_000), by_unknown)
    assert max(len(c.text) for c in chunks) <= 254 * 12


def test_chinese_is_cut_after_its_full_stops():
    text = "员工每年享有二十天带薪年假。" * 60
    chunks = chunk(document(text), by_characters, Chunking(tokens=60, overlap=0))
    assert all(c.text.endswith("。") for c in chunks)


def test_sentences_stay_whole_and_overlap_is_whole_sentences():
    text = " ".join(f"Sentence number {n} says something about leave." for n in range(80))
    chunks = chunk(document(text), by_words, Chunking(tokens=60, overlap=20))
    assert len(chunks) > 5
    assert all(c.text.startswith("Sentence") and c.text.endswith(".") for c in chunks)
    repeated = [overlap_of(chunks, i) for i in range(1, len(chunks))]
    assert all(repeated)
    assert max(repeated) < 100
    assert all(40 <= c.tokens <= 60 for c in chunks[:-1])


def test_a_heading_begins_a_chunk_and_leads_its_path():
    text = "Leave\n\nAnnual\n\nTwenty days a year.\n\nSick\n\nTen days a year."
    blocks = [
        Block("heading", 0, 5, 1),
        Block("heading", text.index("Annual"), text.index("Annual") + 6, 2),
        Block("heading", text.index("Sick"), text.index("Sick") + 4, 2),
    ]
    first, second = chunk(document(text, blocks), by_words)
    assert first.text == "Leave\n\nAnnual\n\nTwenty days a year."
    assert first.heading == "Leave > Annual"
    assert second.text == "Sick\n\nTen days a year."
    assert second.heading == "Leave > Sick"


def test_a_long_section_keeps_its_path_and_the_heading_its_text():
    body = " ".join(f"Rule {n} of the policy holds for all employees." for n in range(60))
    text = "Travel\n\n" + body
    chunks = chunk(document(text, [Block("heading", 0, 6, 1)]), by_words)
    assert chunks[0].text.startswith("Travel\n\nRule 0")
    assert {c.heading for c in chunks} == {"Travel"}


def test_a_lone_heading_before_a_footer_joins_the_text_before_it():
    text = "Some text here.\n\nSick pay\n\nPage 1\n\nTen weeks are paid."
    blocks = [
        Block("heading", text.index("Sick"), text.index("Sick") + 8, 1),
        Block("furniture", text.index("Page"), text.index("Page") + 6),
    ]
    first, second = chunk(document(text, blocks), by_words)
    assert first.text == "Some text here.\n\nSick pay"
    assert second.text == "Ten weeks are paid."
    assert second.heading == "Sick pay"


def table(rows: int) -> tuple[str, Block]:
    header = "Grade | Hotel | Meals"
    lines = [header, *(f"Grade {n} | £{100 + n} | £{20 + n}" for n in range(rows))]
    text = "\n".join(lines)
    return text, Block("table", 0, len(text), header=Span(0, len(header)))


def test_rows_stay_whole_and_know_their_header():
    text, block = table(60)
    chunks = chunk(document(text, [block]), by_words, Chunking(tokens=60, overlap=20))
    assert len(chunks) > 3
    lines = text.split("\n")
    assert [line for c in chunks for line in c.text.split("\n")] == lines
    assert chunks[0].context == ""
    assert all(c.context == lines[0] for c in chunks[1:])
    assert all(c.tokens <= 60 for c in chunks)


def test_a_table_that_goes_on_after_a_footer_keeps_its_header():
    text, block = table(4)
    more = "Grade 9 | £109 | £29"
    whole = f"{text}\n\nPage 1\n\n{more}\n\nThe end."
    at = whole.index("Page 1")
    blocks = [
        block,
        Block("furniture", at, at + 6),
        Block("table", at + 8, at + 8 + len(more), header=block.header),
    ]
    first, second = chunk(document(whole, blocks, pages=2), by_words)
    assert first.context == ""
    assert second.context == "Grade | Hotel | Meals"
    assert second.text == f"{more}\n\nThe end."
    assert second.content.startswith("Grade | Hotel | Meals\nGrade 9")
    assert (first.pages, second.pages) == ((1, 2), (2,)) or second.pages == (2,)


def test_two_tables_never_share_a_header():
    one, block = table(2)
    two = "City | Allowance\nParis | £60"
    text = f"{one}\n\n{two}"
    header = Span(len(one) + 2, len(one) + 2 + len("City | Allowance"))
    blocks = [block, Block("table", len(one) + 2, len(text), header=header)]
    for piece in chunk(document(text, blocks), by_words, Chunking(tokens=24, overlap=0)):
        if "Paris" in piece.text:
            assert "City" in piece.content
            assert piece.context in ("", "City | Allowance")
        if "Grade 1" in piece.text:
            assert "Hotel" in piece.content


def test_a_giant_header_leaves_room_for_the_row():
    header = " | ".join(f"Column {n}" for n in range(500))
    text = f"{header}\n1 | 2 | 3"
    block = Block("table", 0, len(text), header=Span(0, len(header)))
    chunks = chunk(document(text, [block]), by_words)
    assert chunks[-1].text.endswith("1 | 2 | 3")
    assert all(c.tokens <= 254 for c in chunks)


def test_few_words_left_over_join_the_chunk_before():
    text = " ".join(f"Rule {n} holds for everyone in the company." for n in range(16)) + " End."
    chunks = chunk(document(text), by_words, Chunking(tokens=176, overlap=0))
    assert [c.text.endswith("End.") for c in chunks] == [True]


def test_counting_takes_few_calls():
    calls = []

    def counting(texts: list[str]) -> list[int]:
        calls.append(len(texts))
        return by_words(texts)

    text = " ".join(f"Rule {n} holds for everyone." for n in range(3000))
    assert len(chunk(document(text), counting)) > 50
    assert len(calls) <= 3


def test_a_limit_without_room_is_refused():
    with pytest.raises(ValueError, match="limit must be at least"):
        chunk(document("text"), by_words, limit=3)
