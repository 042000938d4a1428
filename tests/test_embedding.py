"""The contract of every encoder, and MiniLM's own numbers."""

import numpy as np
import pytest

from ragdemo.embedding import ENCODERS, MINILM, load_encoder, minilm_path
from ragdemo.embedding.base import in_batches
from ragdemo.errors import Cancelled, ModelUnavailable

TEXTS = ["Employees get 28 days of leave.", "A phone is lent for work.", "", "日本語 🙂 e\u0301"]


@pytest.fixture(scope="module", params=list(ENCODERS))
def encoder(request):
    return load_encoder(request.param)


def test_rows_are_finite_and_of_length_one(encoder):
    for rows in (encoder.encode_queries(TEXTS), encoder.encode_passages(TEXTS)):
        assert rows.shape == (len(TEXTS), encoder.dimension)
        assert rows.dtype == np.float32
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_company_in_the_batch_does_not_matter(encoder):
    together = encoder.encode_passages(TEXTS * 20)
    alone = np.concatenate([encoder.encode_passages([t]) for t in TEXTS])
    assert (together[: len(TEXTS)] * alone).sum(1).min() > 0.999


def test_no_texts(encoder):
    assert encoder.encode_queries([]).shape == (0, encoder.dimension)
    assert encoder.encode_passages([]).shape == (0, encoder.dimension)


def test_progress_counts_to_the_end_and_can_stop(encoder):
    seen = []
    encoder.encode_passages(["a b"] * 70, lambda done, of: seen.append((done, of)))
    assert seen[-1] == (70, 70)
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)

    def stop(done, of):
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        encoder.encode_passages(["a b"] * 70, stop)


def test_token_counts_grow_with_the_text(encoder):
    one, two, none = encoder.count_tokens(["leave", "leave leave", ""])
    assert 0 == none < one < two


def test_minilm_is_the_published_model():
    """Cosines of all-MiniLM-L6-v2 in float32, computed here from the layers by hand."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    texts = ["How many days of leave do I get?", "Annual leave is 28 days.", "A comet of glass"]
    tokenizer = AutoTokenizer.from_pretrained(minilm_path())
    model = AutoModel.from_pretrained(minilm_path(), use_safetensors=True)
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    pooled = (states * mask).sum(1) / mask.sum(1)
    wanted = torch.nn.functional.normalize(pooled, dim=1).numpy()
    from ragdemo.embedding import SentenceTransformerEncoder

    exact = SentenceTransformerEncoder(MINILM, bf16=False)
    assert np.allclose(exact.encode_queries(texts), wanted, atol=1e-5)
    # whatever precision this machine uses stays close to it
    assert (load_encoder().encode_queries(texts) * wanted).sum(1).min() > 0.99


def test_unknown_model_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelUnavailable, match=MINILM):
        load_encoder(str(tmp_path / "nothing"))


def test_token_vectors_pool_to_the_texts_vector():
    """MiniLM's vector is the mean over all tokens; without the special ones it points nearly
    the same way, and every span is a piece of the text."""
    from ragdemo.embedding import SentenceTransformerEncoder

    exact = SentenceTransformerEncoder(MINILM, bf16=False)
    texts = [TEXTS[0], "", "Größe: £5.50 日本", "leave " * 400]
    read = exact.token_vectors(texts)
    assert exact.token_vectors([]) == []
    assert len(read[1].spans) == 0
    assert len(read[3].spans) == exact.limit - 2  # what lies beyond is missing, not misplaced
    for text, tokens in zip(texts, read, strict=True):
        assert tokens.vectors.shape == (len(tokens.spans), exact.dimension)
        assert np.allclose(np.linalg.norm(tokens.vectors, axis=1), 1, atol=1e-5)
        assert all(text[s.start : s.end].strip() for s in tokens.spans)
    assert [TEXTS[0][s.start : s.end] for s in read[0].spans] == (
        ["Employees", "get", "28", "days", "of", "leave", "."]
    )
    pooled = read[0].vectors.mean(0)
    cosine = pooled @ exact.encode_queries([TEXTS[0]])[0] / np.linalg.norm(pooled)
    assert cosine > 0.95


def test_batches_of_long_texts_are_small_and_every_row_is_in_its_place():
    seen = []

    def encode(texts):
        seen.append(len(texts))
        return np.array([[len(t)] for t in texts], np.float32)

    texts = ["a" * n for n in (1_000, 3, 40, 5_000) for _ in range(20)]
    told = []
    rows = in_batches(encode, texts, 1, lambda done, of: told.append((done, of)))
    assert rows[:, 0].tolist() == [len(t) for t in texts]
    # 40 of 1,000 characters and more, eight at a time; what is short goes 32 at a time
    assert seen == [8, 8, 8, 8, 8, 32, 8]
    assert told[-1] == (80, 80)
