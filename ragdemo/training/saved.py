"""What was trained as a folder that others can open, with a card; and back.

    head/     a sentence-transformers model: MiniLM, pooling, the head as a dense layer, length 1
    encoder/  a sentence-transformers model        dpr/   question/ and context/
    questions/ encoder/, which reads questions beside the encoder it was made from
    mini/     as ragdemo reads its bundled model   joint/ encoder/ and generator/
    causal/ and seq2seq/  Hugging Face models

`ragdemo.json` says which. A folder is written beside its place and moved there whole, so that a run
that is killed leaves none half made. Of a file that a visitor brings only numbers are read: its
tensors go into a model that we built, and no other file in it is looked at.
"""

from __future__ import annotations

import copy
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import save_file

from ragdemo.embedding import (
    MINILM,
    DPREncoder,
    Encoder,
    SentenceTransformerEncoder,
    minilm_path,
)
from ragdemo.errors import DocumentError, RagdemoError
from ragdemo.facts import loads
from ragdemo.generation.base import Generator
from ragdemo.generation.causal import CausalGenerator
from ragdemo.generation.mini import FOLDER, MiniGenerator
from ragdemo.generation.seq2seq import Seq2SeqGenerator
from ragdemo.settings import MIB
from ragdemo.training.dual import DualEncoder
from ragdemo.training.generator import named, save_mini
from ragdemo.training.head import Headed
from ragdemo.training.joint import Jointly
from ragdemo.training.retriever import encoder_named, ready
from ragdemo.training.tuning import Trained

FACTS = "ragdemo.json"
MOST_BYTES = 200 * MIB  # unpacked, of a file that a visitor brings
SMALL = (FACTS, "head.safetensors", "README.md")
# kinds that can be brought back as a file
CARRIED = ("head", "encoder", "questions", "mini", "joint")

Model = Encoder | Generator | Jointly


def save(model: Model, folder: Path, trained: Trained | None = None) -> Path:
    """Write `model` to `folder`, which must not exist yet. Raises RagdemoError."""
    if folder.exists():
        raise RagdemoError(f"{folder} is there already. Name another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        kind = _write(model, part)
        (part / "README.md").write_text(card(model, kind, trained), encoding="utf-8")
        part.chmod(0o755)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return folder


def _write(model: Model, folder: Path) -> str:
    facts: dict[str, object] = {}
    if isinstance(model, Jointly):
        kind = "joint"
        _write(model.encoder, _made(folder / "encoder"))
        _write(model.generator, _made(folder / "generator"))
    elif isinstance(model, Headed):
        kind = "head"
        facts = {"inner": model.inner.name, "questions_only": model.questions_only}
        if model.inner.name == MINILM:
            with_dense(model.matrix)._model.save_pretrained(str(folder))
        save_file({"matrix": torch.from_numpy(model.matrix)}, str(folder / "head.safetensors"))
    elif isinstance(model, DualEncoder):
        kind = "questions"
        facts = {"inner": model.inner.name}
        _write(model.questions, _made(folder / "encoder"))
    elif isinstance(model, SentenceTransformerEncoder):
        kind = "encoder"
        copy.deepcopy(model._model).half().save_pretrained(str(folder))
    elif isinstance(model, DPREncoder):
        kind = "dpr"
        for name, tower in (("question", model._questions), ("context", model._passages)):
            tower._model.save_pretrained(folder / name)
            tower._tokenizer.save_pretrained(folder / name)
    elif isinstance(model, MiniGenerator):
        kind = "mini"
        save_mini(model, folder)
    elif isinstance(model, CausalGenerator | Seq2SeqGenerator):
        kind = "causal" if isinstance(model, CausalGenerator) else "seq2seq"
        model._model.save_pretrained(folder)
        model._reader._tokenizer.save_pretrained(folder)
    else:
        raise RagdemoError(f"{model.name} can't be saved: it was not trained here.")
    (folder / FACTS).write_text(json.dumps({"kind": kind, **facts}, indent=1) + "\n")
    return kind


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def with_dense(matrix: np.ndarray) -> SentenceTransformerEncoder:
    """MiniLM with the head as its last layers: an ordinary sentence-transformers model."""
    from sentence_transformers.base.modules.dense import Dense
    from sentence_transformers.base.modules.normalize import Normalize

    encoder = SentenceTransformerEncoder(bf16=False)
    wide = len(matrix)
    dense = Dense(wide, wide, bias=False, activation_function=torch.nn.Identity())
    with torch.no_grad():
        dense.linear.weight.copy_(torch.from_numpy(matrix))
    encoder._model.append(dense)
    encoder._model.append(Normalize())
    return encoder


def card(model: Model, kind: str, trained: Trained | None) -> str:
    """A model card: what it is, how it came about, what it was measured at."""
    use = {
        "head": "SentenceTransformer(FOLDER)",
        "encoder": "SentenceTransformer(FOLDER)",
        "dpr": "DPREncoder(FOLDER/question, FOLDER/context)",
        "questions": "SentenceTransformer(FOLDER/encoder)",
        "mini": "MiniGenerator(FOLDER)",
        "joint": "two models: encoder/ for questions, generator/ for answers",
        "causal": "AutoModelForCausalLM.from_pretrained(FOLDER)",
        "seq2seq": "AutoModelForSeq2SeqLM.from_pretrained(FOLDER)",
    }[kind]
    name = getattr(model, "name", "question encoder and generator")
    lines = [
        "---",
        "library_name: " + ("sentence-transformers" if kind in ("head", "encoder") else "ragdemo"),
        "tags: [retrieval-augmented-generation, fine-tuned]",
        "---",
        "",
        "# Fine-tuned with ragdemo",
        "",
        f"- Made from: {_plain(name)}",
        f"- Opens with: `{use}`, or `ragdemo.training.saved.load(FOLDER, encoder)`",
    ]
    if isinstance(model, Headed | DualEncoder) and model.questions_only:
        lines.append("- For questions only: passages are read by the encoder it was made from.")
    if trained:
        lines += [
            f"- Trained: {trained.name}; {trained.steps} steps in {trained.seconds:.0f} s, the "
            f"weights of step {trained.best_step} kept{', stopped early' * trained.stopped}",
            f"- Measured: {trained.verdict}",
        ]
    lines += [
        "",
        "Trained on a visitor's own questions and documents, which are not in this folder; the "
        "weights may still give away what stands in them. Questions held out came from documents "
        "that were not trained on where the training says so. The licence of the model it was made "
        "from holds here too.",
        "",
    ]
    return "\n".join(lines)


def _plain(name: str) -> str:
    """A model's name on one line, without a path of this machine."""
    return " ".join(name.split()).replace("`", "'").rsplit("/", 1)[-1][:120]


def load(folder: Path, encoder: Encoder) -> Model:
    """What `save` wrote; a head goes behind `encoder`. Raises RagdemoError."""
    try:
        kind = loads((folder / FACTS).read_bytes())["kind"]
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise RagdemoError(f"{folder} holds no model that ragdemo trained.") from problem
    if kind == "joint":
        return Jointly(load(folder / "encoder", encoder), load(folder / "generator", encoder))
    if kind == "head":
        return _load(lambda name: (folder / name).read_bytes(), encoder)
    if kind == "questions":
        return DualEncoder(encoder, load(folder / "encoder", encoder))
    if kind == "encoder":
        made = SentenceTransformerEncoder(str(folder))
        encoder_named(made, made._model)
        return made
    if kind == "dpr":
        return DPREncoder(str(folder / "question"), str(folder / "context"))
    if kind == "mini":
        made = MiniGenerator(folder, encoder=encoder)
        made.name = named(made.name)
        return made
    kinds = {"causal": CausalGenerator, "seq2seq": Seq2SeqGenerator}
    if kind not in kinds:
        raise RagdemoError(f"{folder} holds a kind of model that is not known here.")
    return kinds[kind](folder, name=named(folder.name))


def packed(model: Model, trained: Trained | None = None, *, small: bool = False) -> bytes:
    """The folder as a zip; `small` leaves out the encoder that a head goes behind, which `unpacked`
    never reads."""
    with tempfile.TemporaryDirectory() as name:
        folder = save(model, Path(name) / "model", trained)
        heads = {path.parent for path in folder.rglob("head.safetensors")}
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                if small and path.name not in SMALL and heads & {*path.parents}:
                    continue
                archive.write(path, path.relative_to(folder).as_posix())
    return made.getvalue()


def unpacked(data: bytes, encoder: Encoder) -> Model:
    """The model in a zip that `packed` made, `CARRIED` kinds only. Raises DocumentError for
    anything else: tensors of other names or shapes, too large a file, no zip at all."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MOST_BYTES:
                raise ValueError("too large")
            return _load(archive.read, encoder)
    except RagdemoError:
        raise
    except Exception as problem:  # any broken outside file ends in one sentence
        raise DocumentError(
            f"This file is no model saved by this page, or it was damaged "
            f"({type(problem).__name__}). Save it again and load the new file."
        ) from problem


def _load(read: Callable[[str], bytes], encoder: Encoder) -> Model:
    facts = loads(read(FACTS))
    kind = facts["kind"]
    if kind not in CARRIED:
        raise DocumentError(f"A file can bring back {', '.join(CARRIED)}, not {str(kind)[:40]!r}.")
    if kind == "joint":
        asking = _load(lambda name: read(f"encoder/{name}"), encoder)
        writing = _load(lambda name: read(f"generator/{name}"), encoder)
        if not isinstance(asking, Headed | DualEncoder) or not isinstance(writing, MiniGenerator):
            raise ValueError("no question encoder and generator")
        return Jointly(asking, writing)
    if kind in ("head", "questions") and facts["inner"] != encoder.name:
        raise DocumentError(
            f"This model belongs to the encoder {str(facts['inner'])[:80]!r}, the one in use is "
            f"{encoder.name!r}."
        )
    if kind == "questions":
        return DualEncoder(encoder, _load(lambda name: read(f"encoder/{name}"), encoder))
    if kind == "head":
        matrix = read_tensors(read("head.safetensors"))["matrix"].float().numpy()
        return Headed(encoder, matrix, questions_only=facts["questions_only"] is True)
    tensors = read_tensors(read("model.safetensors"))
    if kind == "encoder":
        made = SentenceTransformerEncoder(bf16=False)
        made._model[0].model.load_state_dict(tensors)
        return ready(made)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_file(tensors, str(folder / "model.safetensors"))
        shutil.copy(FOLDER / "config.json", folder)
        shutil.copy(minilm_path() / "tokenizer.json", folder)
        generator = MiniGenerator(folder, encoder=encoder)
    generator.name = named(generator.name)
    return generator
