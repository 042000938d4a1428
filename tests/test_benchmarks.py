"""What the benchmarks count with; what they time is not tested."""

import sys
from pathlib import Path

from samples import SAMPLE_DOCS

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from made import pages_pdf
from quickstarts import likeliest, page_texts, runs


def test_a_chunk_is_on_the_pages_that_share_most_of_its_runs_of_words():
    pages = [runs("Leave is 28 days a year. Policy"), runs("A phone is lent. Policy"), runs("")]
    assert runs("Leave, is 28!") == {"leave is 28"}
    assert runs("Policy") == {"policy"}
    assert likeliest("**leave is 28 days**", pages) == (1,)
    assert likeliest("one phone is lent to all", pages) == (2,)
    assert likeliest("nothing of the kind", pages) == (1, 2, 3)  # in doubt for the library


def test_a_page_read_by_itself_is_found_again():
    texts = page_texts(SAMPLE_DOCS / "expenses-policy.pdf")
    pages = [runs(text) for text in texts]
    assert [likeliest(text, pages) for text in texts] == [(n + 1,) for n in range(len(texts))]


def test_a_made_pdf_has_its_pages_and_is_the_same_again(tmp_path):
    file = tmp_path / "made.pdf"
    file.write_bytes(pages_pdf(3, 1))
    texts = page_texts(file)
    pages_pdf.cache_clear()
    file.write_bytes(pages_pdf(3, 1))
    assert [text.split(".")[0] for text in texts] == ["Page 1", "Page 2", "Page 3"]
    assert page_texts(file) == texts
