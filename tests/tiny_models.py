"""Real models with random weights, small enough to be made in a test."""

from pathlib import Path

WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] a days employees get how leave lost many mobile must of "
    "paid phone report roaming sick the what who"
).split()
SHAPE = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
}


def tokenizer(folder: Path):
    """A BERT tokenizer of `WORDS`, saved in `folder`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=24,
    )
    fast.save_pretrained(folder)
    return fast


def dpr(folder: Path, *, safe: bool = True, **shape: int) -> tuple[str, str]:
    """Folders of a question and a context encoder."""
    import torch
    from safetensors.torch import load_file
    from transformers import DPRConfig, DPRContextEncoder, DPRQuestionEncoder

    config = DPRConfig(**{**SHAPE, **shape})
    for seed, (name, kind) in enumerate(
        (("question", DPRQuestionEncoder), ("context", DPRContextEncoder))
    ):
        torch.manual_seed(seed)
        kind(config).save_pretrained(folder / name)
        tokenizer(folder / name)
        if not safe:
            weights = folder / name / "model.safetensors"
            torch.save(load_file(weights), folder / name / "pytorch_model.bin")
            weights.unlink()
    return str(folder / "question"), str(folder / "context")


def cross_encoder(folder: Path, labels: int = 1) -> str:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    # wide enough that random weights tell passages apart
    config = BertConfig(**SHAPE, num_labels=labels, initializer_range=0.5)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer(folder)
    return str(folder)
