"""Training generators, alone and end to end: likelihoods against the generators' own, the marginal
against a brute-force sum, real small trainings, and the comparison with retrieval."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import ROOT, encoder
from test_generators import HITS, bart, gpt2, t5
from tiny_models import dpr

from ragdemo.__main__ import main
from ragdemo.corpus import Corpus
from ragdemo.embedding import DPREncoder, HashingEncoder, SentenceTransformerEncoder
from ragdemo.errors import RagdemoError
from ragdemo.evaluation.finetuning import changes_table, versus_table
from ragdemo.evaluation.questions import Question
from ragdemo.generation.causal import CausalGenerator
from ragdemo.generation.mini import MiniGenerator
from ragdemo.generation.scoring import continuation
from ragdemo.generation.seq2seq import Seq2SeqGenerator
from ragdemo.pipeline import build
from ragdemo.settings import MIB
from ragdemo.training import saved
from ragdemo.training.dual import DualEncoder
from ragdemo.training.generator import Lesson, item, lessons, parted, scores, train_generator
from ragdemo.training.head import Headed, refill
from ragdemo.training.joint import Jointly, marginal, marginal_loss, train_jointly
from ragdemo.training.likelihood import answer_log_likelihoods
from ragdemo.training.pairs import Pair, Split
from ragdemo.training.tuning import News, Plan, last
from ragdemo.training.versus import ARMS, compare, republished, revise
from ragdemo.types import Decoding, Marginal

KINDS = {
    "gpt2": (gpt2, CausalGenerator),
    "t5": (t5, Seq2SeqGenerator),
    "bart": (bart, Seq2SeqGenerator),
}
DECODING = Decoding(max_tokens=32)
ASKED = ("How many days of leave?", "Phones?")
SAID = ("28 days of paid leave", "A lost phone")
CONFIG = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
UPLOAD = CONFIG["server"]["maxUploadSize"] * MIB


@pytest.fixture(params=[*KINDS, "mini"])
def private(request: pytest.FixtureRequest, tmp_path):
    """A generator of each kind that this test may train."""
    if request.param == "mini":
        return MiniGenerator(bf16=False)
    make, kind = KINDS[request.param]
    torch.manual_seed(7)
    make(tmp_path / "model")
    return kind(tmp_path / "model", name=request.param)


def prompts(generator, hits=HITS):
    return [generator.prompt(q, hits, decoding=DECODING) for q in ASKED]


# -- likelihoods


@pytest.mark.parametrize("hits", [HITS, HITS[:1], []])
def test_likelihoods_are_the_generators_own(private, hits) -> None:
    asked = prompts(private, hits)
    ours, counts = answer_log_likelihoods(private, asked, SAID)
    np.testing.assert_allclose(
        ours.detach().numpy(), private.log_likelihood(asked, SAID), rtol=1e-3, atol=1e-3
    )
    assert ours.requires_grad
    assert (counts > 2).all()


def test_only_the_answer_counts(tmp_path) -> None:
    gpt2(tmp_path)
    generator = CausalGenerator(tmp_path)
    long, short = prompts(generator), prompts(generator, [])
    for asked in (long, short):
        _, counts = answer_log_likelihoods(generator, asked, SAID)
        wanted = [
            len(continuation(generator._reader, p.text, s)) + 1
            for p, s in zip(asked, SAID, strict=True)
        ]
        assert counts.tolist() == wanted


# -- learning


@pytest.fixture(autouse=True)
def _seeded():
    """The tiny models are drawn at random: always the same ones, whichever test came before."""
    torch.manual_seed(7)


def taught(hits=()) -> list[Lesson]:
    return [Lesson(q, a, (), tuple(hits)) for q, a in zip(ASKED, SAID, strict=True)]


def test_hub_models_learn_their_answers(tmp_path) -> None:
    for name, (make, kind) in KINDS.items():
        make(tmp_path / name)
        generator = kind(tmp_path / name, name=name)
        plan = Plan(steps=40, batch=2, rate=5e-3, every=40)
        told = list(train_generator(generator, taught(HITS), (), (), plan))
        assert told[-1].losses[-1] < 0.5 * told[-1].losses[0], name
        folder = saved.save(told[-1].trained.make(), tmp_path / f"{name}-out", told[-1].trained)
        again = saved.load(folder, encoder())
        assert again.name.endswith("fine-tuned")
        np.testing.assert_allclose(
            again.log_likelihood(prompts(again), SAID),
            generator.log_likelihood(prompts(generator), SAID), rtol=1e-3,
        )  # fmt: skip


def test_lora_trains_small_matrices_and_leaves_a_standard_model(tmp_path) -> None:
    pytest.importorskip("peft", reason='pip install "peft>=0.21"')
    t5(tmp_path / "t5")
    generator = Seq2SeqGenerator(tmp_path / "t5")
    names = set(generator._model.state_dict())
    whole = sum(p.numel() for p in generator._model.parameters())
    before = sum(generator.log_likelihood(prompts(generator), SAID))
    plan = Plan(steps=30, batch=2, rate=1e-2, every=30)
    told = train_generator(generator, taught(HITS), (), (), plan, lora=True)
    learnt = sum(p.numel() for p in generator._model.parameters() if p.requires_grad)
    assert learnt < whole
    made = last(told).make()
    assert set(made._model.state_dict()) == names
    assert sum(made.log_likelihood(prompts(made), SAID)) > before + 1
    with pytest.raises(RagdemoError, match="LoRA off"):
        train_generator(MiniGenerator(bf16=False), taught(), (), (), plan, lora=True)


def test_the_bundled_model_learns_by_heart_and_its_saved_copy_knows_it(tmp_path) -> None:
    """Also small steps survive being stored: int8, the bundled form, would round them away."""
    generator = MiniGenerator(encoder=encoder(), bf16=False)
    facts = [
        Lesson("Which day is the tea trolley?", "The tea trolley comes on Thursday.", (), ()),
        Lesson("Who feeds the office cat?", "Marta from the post room feeds the cat.", (), ()),
    ]
    assert max(scores(generator, facts)) < 0.7
    trained = last(train_generator(generator, facts, facts, (), Plan(16, 2, 3e-4, 16, 2)))
    made = trained.make()
    assert made.name == "ragdemo-mini, fine-tuned"
    assert min(scores(made, facts)) > 0.9
    folder = saved.save(made, tmp_path / "mini", trained)
    assert scores(saved.load(folder, encoder()), facts) == scores(made, facts)
    back = saved.unpacked(saved.packed(made), encoder())
    assert scores(back, facts) == scores(made, facts)


def test_lessons_teach_what_the_passages_say_and_nothing_else() -> None:
    corpus, asked = company()
    (lesson,) = lessons(asked[:1], corpus, k=2, teaching=True)
    number, start, end = lesson.gold
    assert lesson.hits[number].chunk.content[start:end] == asked[0].answer
    assert item(lesson).target == asked[0].answer
    assert item(Lesson("q", "a", (), lesson.hits)).target == ""  # not said there: a refusal
    assert item(Lesson("q", "a", (), ())).task == "closed"
    learn, watch, test = parted(asked, seed=1)
    assert sorted(q.id for q in (*learn, *watch, *test)) == sorted(q.id for q in asked)


# -- end to end


def test_the_marginal_is_the_brute_force_sum() -> None:
    torch.manual_seed(0)
    scored, logs = torch.randn(3, 4), torch.randn(3, 4) * 5 - 10
    total = 0.0
    for row in range(3):
        weights = [math.exp(s) for s in scored[row].tolist()]
        prior = [w / sum(weights) for w in weights]
        joint = [p * math.exp(y) for p, y in zip(prior, logs[row].tolist(), strict=True)]
        total -= math.log(sum(joint))
        own = Marginal(("a",), ((0,),), tuple(prior), 1.0, (tuple(logs[row].tolist()),))
        assert math.log(sum(joint)) == pytest.approx(own.log_marginals[0], rel=1e-5)
    assert marginal_loss(scored, logs).item() == pytest.approx(total / 3, rel=1e-5)


def test_its_gradient_is_prior_minus_posterior() -> None:
    """d(-log p(y|x)) / d score(z) = p(z|x) - p(z|x,y): evidence for z lowers the loss."""
    torch.manual_seed(1)
    scored = torch.randn(1, 5, requires_grad=True)
    logs = torch.randn(1, 5) * 3
    marginal_loss(scored, logs).backward()
    prior = scored.detach().softmax(1)
    posterior = (scored.detach().log_softmax(1) + logs).softmax(1)
    torch.testing.assert_close(scored.grad, prior - posterior)


JARGON = (
    ("leave", "blenk", "Staff get 28 days of leave."),
    ("phones", "trusk", "A lost phone is reported in 24 hours."),
    ("parking", "dorf", "Parking costs 3 pounds a day."),
    ("canteen", "glorp", "The canteen closes at 14:30."),
)


def jargon(corpus: Corpus, *asks: str) -> tuple[Pair, ...]:
    """Questions in words that no document and no encoder knows."""
    made = []
    for name, word, fact in JARGON:
        chunk = next(c for c in corpus.chunks if c.document_name == f"{name}.md")
        for ask in asks:
            asked = Question(f"{name} {ask}", ask.format(word), fact, (), f"{name}.md", (1,))
            made.append(Pair(asked.question, chunk, asked.places, example=asked))
    return tuple(made)


def test_joint_training_succeeds_where_frozen_retrieval_fails(tmp_path) -> None:
    """Nobody says which passage answers: only that the answer is likely under it."""
    corpus = build([(f"{n}.md", f"{f}\n".encode()) for n, _, f in JARGON], encoder())
    vectors = corpus.vectors.copy()
    split = Split(
        jargon(corpus, "What is the rule about {}?", "What must I know about {}?"),
        jargon(corpus, "How is {} handled?"),
        jargon(corpus, "Tell me about {}.", "What applies to {}?"),
    )
    generator = MiniGenerator(bf16=False)
    frozen = Headed(encoder(), np.eye(384, dtype=np.float32), questions_only=True)
    before = marginal(split.test, corpus, (frozen, generator))
    told: list[News] = []
    plan = Plan(6, 4, 3e-3, 3, 4)
    trained = last(train_jointly(split, corpus, generator, plan, k=4), told.append)
    assert np.mean(trained.before) <= 0.5
    assert np.mean(trained.after) >= 0.9
    made = trained.make()
    assert marginal(split.test, corpus, made) < before - 1
    np.testing.assert_array_equal(corpus.vectors, vectors)
    np.testing.assert_array_equal(
        made.encoder.encode_passages(["x"]), encoder().encode_passages(["x"])
    )
    shares = [point.shares for point in told[-1].points]
    assert {s.question for s in shares} == {split.watch[0].question}
    assert [sum(p for _, p in s.parts) for s in shares] == pytest.approx([1] * len(shares))
    leave = [dict(s.parts)["leave.md · Staff get 28 days of leave."] for s in shares]
    assert leave[-1] > max(0.5, leave[0])
    shift = made.shift(split.test[0].question, corpus)
    right = [c.document_name for c in shift.chunks].index("leave.md")
    assert shift.after[right] > max(0.5, shift.before[right])
    assert sum(shift.before) == pytest.approx(1)
    again = saved.load(saved.save(made, tmp_path / "joint", trained), encoder())
    assert isinstance(again, Jointly)
    np.testing.assert_array_equal(again.encoder.matrix, made.encoder.matrix)
    carried = saved.packed(made, trained, small=True)
    assert len(carried) < UPLOAD < len(saved.packed(made, trained))
    back = saved.unpacked(carried, encoder())
    np.testing.assert_array_equal(back.encoder.matrix, made.encoder.matrix)
    assert marginal(split.test, corpus, back) == marginal(split.test, corpus, made)


def test_a_whole_question_encoder_learns_beside_passages_that_stay(tmp_path) -> None:
    corpus = build([(f"{n}.md", f"{f}\n".encode()) for n, _, f in JARGON], encoder())
    split = Split(
        jargon(corpus, "What is the rule about {}?", "What must I know about {}?"),
        (),
        jargon(corpus, "Tell me about {}.", "What applies to {}?"),
    )
    own = SentenceTransformerEncoder(bf16=False)
    trained = last(
        train_jointly(split, corpus, MiniGenerator(bf16=False), Plan(6, 4, 1e-4, 6, 1), encoder=own)
    )
    assert np.mean(trained.before) <= 0.5
    assert np.mean(trained.after) >= 0.9
    made = trained.make()
    texts = [pair.question for pair in split.test]
    np.testing.assert_array_equal(
        made.encoder.encode_passages(texts), encoder().encode_passages(texts)
    )
    assert (made.encoder.encode_queries(texts) * encoder().encode_queries(texts)).sum(
        1
    ).max() < 0.99
    np.testing.assert_array_equal(refill(Corpus(made.encoder), corpus).vectors, corpus.vectors)
    shift = made.shift(texts[0], corpus)
    right = [c.document_name for c in shift.chunks].index("leave.md")
    assert shift.after[right] > max(0.5, shift.before[right])
    carried = saved.packed(made, trained)
    assert len(carried) < UPLOAD
    again = saved.load(saved.save(made, tmp_path / "joint", trained), encoder())
    for back in (again, saved.unpacked(carried, encoder())):
        assert back.encoder.name == made.encoder.name
        np.testing.assert_array_equal(
            back.encoder.encode_queries(texts), made.encoder.encode_queries(texts)
        )
    with pytest.raises(ValueError, match="same kind"):
        DualEncoder(HashingEncoder(8), own)


# -- against retrieval

FACTS = (
    ("leave", "How many days of leave do staff get?", "Staff get 28 days of leave each year."),
    ("leave", "How many days of leave may be carried over?", "At most 6 days may be carried over."),
    ("leave", "How many weeks ahead is leave requested?", "Leave is requested 3 weeks ahead."),
    ("leave", "How many days off does a wedding give?", "A wedding gives 4 days off."),
    ("leave", "How many days off does moving house give?", "Moving house gives 2 days off."),
    ("leave", "How many days may be sold back?", "Up to 5 days may be sold back."),
    ("phones", "How soon is a lost phone reported?", "A lost phone is reported within 24 hours."),
    ("phones", "What does roaming cost a day?", "Roaming costs 7 pounds a day."),
    ("parking", "What does parking cost a day?", "Parking costs 3 pounds a day."),
    ("parking", "How many spaces are for visitors?", "There are 12 spaces for visitors."),
)


def company() -> tuple[Corpus, list[Question]]:
    files = {}
    for name, _, fact in FACTS:
        files.setdefault(f"{name}.md", []).append(fact)
    corpus = build(
        [(n, f"# {n[:-3].title()}\n\n{' '.join(f)}\n".encode()) for n, f in files.items()],
        encoder(),
    )
    asked = [
        Question(str(n), q, a, tuple(w for w in a.split() if w.isdigit()), f"{name}.md", (1,))
        for n, (name, q, a) in enumerate(FACTS)
    ]
    return corpus, asked


def test_a_new_version_changes_numbers_and_no_offset() -> None:
    corpus, asked = company()
    old = next(d for d in corpus.documents.values() if d.name == "leave.md")
    made = revise(old, [q for q in asked if q.file == "leave.md"])
    assert len(made.questions) == 6
    assert len(made.document.text) == len(old.text)
    assert made.document.id != old.id
    for before, now in made.questions:
        assert before.short != now.short
        assert now.answer in made.document.text
        assert now.answer not in old.text
    later = republished(corpus, [made])
    assert any(made.questions[0][1].answer in c.text for c in later.chunks)
    assert any(made.questions[0][0].answer in c.text for c in corpus.chunks)
    dated = Question("d", "By when?", "Ask by 30 November.", ("30 November",), "leave.md", (1,))
    assert not revise(old, [dated]).questions


def test_the_tuned_model_stays_stale_where_retrieval_follows() -> None:
    corpus, asked = company()
    *_, found = compare(
        asked, corpus, lambda _: MiniGenerator(encoder=encoder(), bf16=False),
        documents=["leave.md"], grounded=Plan(2, 2, 5e-5, 2, 1), closed=Plan(16, 3, 3e-4, 16, 1),
    )  # fmt: skip
    assert [arm.name for arm in found.arms] == list(ARMS)
    base, closed, rag, _ = found.arms
    mean = lambda arm, group: np.mean([one.f1 for one in arm.of(group)])  # noqa: E731
    assert mean(closed, "learnt") > 0.9 > mean(base, "learnt")
    assert mean(closed, "held out") < mean(closed, "learnt")
    assert found.changes
    assert np.mean([one.stale for one in closed.of("changed")]) > 0.6
    assert not any(one.stale for one in rag.of("changed"))
    assert sum(one.found for one in rag.of("changed")) > sum(
        one.found for one in closed.of("changed")
    )
    assert closed.training_seconds > 0 == base.training_seconds
    assert rag.megabytes > base.megabytes > 0
    assert "| closed-book, fine-tuned |" in versus_table(found)
    assert "stale" in changes_table(found)


def test_each_document_alone_held_out_questions_counted_once(tmp_path, capsys) -> None:
    made = tmp_path / "table.md"
    words = "--only generator --document leave.md --generator-seeds 0 1 --steps 1"
    docs = company_folder(tmp_path)
    assert (
        main(["eval", "finetuning", "--docs", str(docs), *words.split(), "--card", str(made)]) == 0
    )
    rows = [line for line in made.read_text().splitlines() if line.startswith("| leave.md")]
    assert [row.split(" | ")[1] for row in rows] == ["0", "1"]
    own = [q for q in company()[1] if q.file == "leave.md"]
    held = {
        q.question for seed in (0, 1) for part in parted(own, seed, (0.5, 0.0))[1:] for q in part
    }
    said = re.search(r"- held out, .* n (\d+)", made.read_text())
    assert int(said[1]) == len(held)
    assert 3 < len(held) < 7  # the two halves held out are not the same one
    assert "(3)" in rows[0]


def test_too_few_questions_are_said() -> None:
    corpus, asked = company()
    with pytest.raises(RagdemoError, match="six or more"):
        list(compare(asked[:3], corpus, lambda _: None))


# -- the command line


@pytest.mark.parametrize(
    "words",
    [
        ["retriever"], ["retriever", "--written"], ["generator", "--closed-book", "--steps", "2"],
        ["generator", "--steps", "1"], ["retriever", "--what", "encoder", "--steps", "1"],
        ["joint", "--steps", "1"], ["joint", "--what", "encoder", "--steps", "1"],
    ],
)  # fmt: skip
def test_the_command_line_trains_and_saves(words: list[str], tmp_path, capsys) -> None:
    docs = company_folder(tmp_path)
    out = tmp_path / "out"
    assert main(["train", *words, "--docs", str(docs), "--out", str(out), "--batch", "2"]) == 0
    said = capsys.readouterr().out
    assert "step    0" in said
    assert f"written to {out}" in said
    assert (out / "README.md").exists()
    assert saved.load(out, encoder())
    assert main(["train", *words, "--docs", str(docs), "--out", str(out)]) == 1  # never over it
    assert "there already" in capsys.readouterr().err


def test_dprs_question_tower_learns_with_the_generator(tmp_path, capsys) -> None:
    docs, out, towers = company_folder(tmp_path), tmp_path / "out", dpr(tmp_path)
    words = ["joint", "--what", "dpr", "--dpr", *towers, "--docs", str(docs), "--out", str(out)]
    assert main(["train", *words, "--steps", "1", "--batch", "2"]) == 0
    assert "question encoder and generator" in (out / "README.md").read_text()
    untrained = DPREncoder(*towers)
    made = saved.load(out, untrained)
    passages = made.encoder.encode_passages(["x"])
    np.testing.assert_array_equal(passages, untrained.encode_passages(["x"]))
    assert made.encoder.similarity == "dot"
    corpus, asked = build([(f"{n}.md", f"{f}\n".encode()) for n, _, f in JARGON], untrained), ["x"]
    split = Split(jargon(corpus, "What is the rule about {}?"), (), ())
    plan, own = Plan(2, 4, 1e-3, 2, 1), DPREncoder(*towers)
    moved = last(train_jointly(split, corpus, MiniGenerator(bf16=False), plan, encoder=own)).make()
    assert (moved.encoder.encode_queries(asked) != untrained.encode_queries(asked)).any()
    np.testing.assert_array_equal(own.encode_passages(["x"]), passages)


# a training that stands still once it prints its mark
STANDS_STILL = {
    "training": """
from ragdemo.training import retriever
def still(*given):
    print("HERE", flush=True); time.sleep(300)
retriever.contrastive = still
""",
    "saving": """
from ragdemo.training import saved
def still(*given):
    print("HERE", flush=True); time.sleep(300)
saved.card = still
""",
}


@pytest.mark.parametrize("when", STANDS_STILL)
def test_a_killed_run_leaves_nothing_that_passes_for_a_model(when: str, tmp_path) -> None:
    docs, out = company_folder(tmp_path), tmp_path / "made" / "out"
    words = ["train", "retriever", "--docs", str(docs), "--out", str(out), "--steps", "3"]
    words += ["--batch", "2"]
    code = f"import sys, time\n{STANDS_STILL[when]}\nfrom ragdemo.__main__ import main\n"
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}sys.exit(main({words!r}))"],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
    ) as run:  # fmt: skip
        assert any(line == "HERE\n" for line in run.stdout)
        run.kill()
    assert run.returncode == -signal.SIGKILL
    assert not out.exists()
    assert main(words) == 0  # the same command again
    assert saved.load(out, encoder())


def test_ctrl_c_ends_a_training_as_its_end_would(tmp_path) -> None:
    docs, out = company_folder(tmp_path), tmp_path / "out"
    words = [sys.executable, "-m", "ragdemo", "train", "retriever", "--docs", str(docs), "--out",
             str(out), "--steps", "100000", "--batch", "2", "--rate", "1e-6"]  # fmt: skip
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as run:
        assert any(line.startswith("step ") for line in run.stdout)
        run.send_signal(signal.SIGINT)
        said = run.stdout.read()
    assert run.returncode == 0
    assert "stopped early" in said
    assert saved.load(out, encoder())


def company_folder(tmp_path: Path) -> Path:
    """The company's documents and questions as files."""
    docs = tmp_path / "docs"
    docs.mkdir()
    corpus, asked = company()
    for document in corpus.documents.values():
        (docs / document.name).write_text(document.text)
    rows = [
        {"id": q.id, "question": q.question, "answer": q.answer, "short": list(q.short),
         "file": q.file, "pages": [1]}
        for q in asked
    ]  # fmt: skip
    (docs / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return docs
