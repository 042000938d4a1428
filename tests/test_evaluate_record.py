"""A run as files, and the command line that makes them."""

import csv
import io
import json
from dataclasses import replace

import pytest
from samples import LEAVE, PHONES, mini, small_corpus
from test_evaluate import ASKED, bench

from ragdemo.__main__ import main
from ragdemo.evaluation import record
from ragdemo.evaluation.answering import four_arm_tables
from ragdemo.evaluation.arms import USUAL, Arm
from ragdemo.evaluation.four_arms import ARMS
from ragdemo.evaluation.questions import write_questions
from ragdemo.evaluation.run import run
from ragdemo.types import Decoding

NASTY = '=cmd|x <img src="http://127.0.0.1:9/y"> & "q" | pipe'


def made(asked=ASKED, arms=USUAL) -> record.Record:
    corpus = small_corpus()
    *_, standing = run(asked, arms, bench(corpus))
    return record.finished("A run", asked, arms, corpus, Decoding(), standing)


def test_the_table_has_every_metric_with_its_interval():
    r = made()
    heads, *rows = record.table(r.lines)
    assert heads == ["metric", "questions", "no retrieval", "retrieval",
                     "retrieval less no retrieval", "p"]  # fmt: skip
    by_name = {row[0]: row for row in rows}
    assert by_name["Answer contains"][1:4] == ["2", "0.000 (0.000–0.000)", "1.000 (1.000–1.000)"]
    assert by_name["Answer contains"][4].startswith("+1.000")
    assert by_name["Recall@k"][2] == by_name["Recall@k"][4] == ""
    assert "Corpus BLEU" in by_name
    text = record.to_markdown([heads, *rows])
    assert text.split("\n")[1] == "|---|---|---|---|---|---|"
    assert len(text.split("\n")) == len(rows) + 2


def test_files_carry_their_signature_and_no_formula_or_markup():
    asked = [*ASKED[:2], replace(ASKED[0], id="nasty", question=NASTY, answer=NASTY, short=())]
    r = made(asked)
    page = record.to_html(r)
    assert "<img" not in page
    assert "&lt;img" in page
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    facts = json.loads(record.to_json(r))
    assert facts["format"] == record.FORMAT
    assert len(facts["results"]) == 6
    for name in ("questions", "BLEU", "index", "version of torch", "file leave.md"):
        assert name in facts["signature"]
        assert facts["signature"][name] in page.replace("&#x27;", "'")
    rows = list(csv.DictReader(io.StringIO(record.to_csv(r))))
    assert len(rows) == 6
    assert {row["question"] for row in rows if row["id"] == "nasty"} == {"'" + NASTY}
    assert float(rows[0]["seconds"]) > 0


def test_numbers_below_zero_stay_numbers_in_csv():
    assert record.csv_text([["-1.5", "=1+1", "-x", "a"]]) == "-1.5,'=1+1,'-x,a\n"


def test_other_questions_or_documents_sign_differently():
    def signed(asked, index="i"):
        return record.signature(asked, Decoding(), index, {}, "e", ["mini"])

    assert signed(ASKED) == signed(ASKED)
    assert signed(ASKED)["questions"] != signed(ASKED[:2])["questions"]
    assert "temperature" not in signed(ASKED)["decoding"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    docs = tmp_path_factory.mktemp("docs")
    (docs / "leave.md").write_bytes(LEAVE)
    (docs / "phones.md").write_bytes(PHONES)
    (docs.parent / "questions.jsonl").write_text(write_questions(ASKED))
    return docs


def given(folder, *more) -> list[str]:
    questions = str(folder.parent / "questions.jsonl")
    return ["eval", "--questions", questions, "--docs", str(folder), *more]


def test_the_command_line_makes_the_tables_and_goes_on(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(given(folder, "--limit", "2", "--out", str(out))) == 0
    said = capsys.readouterr()
    assert "| metric | questions | no retrieval | retrieval |" in said.out
    assert "- index: " in said.out
    assert "4 of 4 answers" in said.err
    assert {p.name for p in out.iterdir()} == {
        "results.jsonl", "report.html", "results.csv", "report.json", "tables.md"
    }  # fmt: skip
    assert main(given(folder, "--out", str(out))) == 0
    said = capsys.readouterr()
    assert "4 of 6 answers" in said.err
    assert "4 of these were there from before" in said.err
    arms = tmp_path / "arms.json"
    arms.write_text('[{"name": "words", "retriever": "bm25", "k": 2}]')
    assert main(given(folder, "--arms", str(arms), "--out", str(out))) == 1
    assert "other questions, documents or arms" in capsys.readouterr().err
    assert main(given(folder, "--arms", str(arms), "--limit", "1")) == 0
    assert "| words |" in capsys.readouterr().out


def test_what_is_wrong_is_one_sentence(folder, tmp_path, capsys):
    assert main(["eval", "--questions", "gone.csv", "--docs", str(folder)]) == 1
    assert "gone.csv can't be read" in capsys.readouterr().err
    assert main(given(tmp_path)) == 1
    assert "no document" in capsys.readouterr().err
    assert main(given(folder, "--max-tokens", "0")) == 1


def test_four_arms_in_a_table():
    text = four_arm_tables(ASKED, small_corpus(), mini())
    lines = text.split("\n")
    assert [line.split(":")[0].strip("| ") for line in lines[2:6]] == list(ARMS)
    assert "n = 2" in lines[2]
    assert "| fine | 2 |" in text
    assert "| the documents don't say | 1 |" in text


def test_problems_of_an_arm_are_in_the_report():
    r = made(ASKED[:1], [Arm("far", generator="nobody/none"), Arm("near")])
    assert "nobody/none is out of reach" in record.to_html(r)
