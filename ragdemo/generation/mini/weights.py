"""Store and load the network: int8 with one scale a row, in safetensors; half of float16's size."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ragdemo.errors import ModelUnavailable
from ragdemo.generation.mini.model import MiniModel, config

SCALE = ".scale"


@dataclass(frozen=True, slots=True)
class Facts:
    """What config.json remembers beside the weights."""

    encoder_layers: int = 6
    decoder_layers: int = 4
    refuse_above: float = 0.5  # p("not here") from which the answer is a refusal
    refuse_alone_above: float = 0.5  # the same, of a single passage
    strange_name: float = 0.0  # nats for "not here" where a name asked for stands in no passage
    contrary: float = 0.0  # the same where the sentence of a single passage says the contrary
    again: float = 0.0  # share of the second reading, of sentences on their own, in "not here"
    again_alone: float = 0.0  # the same, of a single passage
    before_alone: float = 0.0  # share of a third, of the likeliest with the sentence before it
    passage_weight: float = 0.0  # of a passage's cosine with the question, in choosing the sentence
    sentence_weight: float = 0.0  # of a sentence's own cosine
    second_above: float = 1.0  # from which p of the second sentence, among all, it is added
    examples: int = 0  # training rows seen
    seed: int = 0


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[rows, columns] -> (int8 [rows, columns], float32 [rows]); weight = int8 * scale, rounded to
    the nearest of 255 levels between -max|row| and max|row|."""
    scale = weight.float().abs().amax(1).clamp(min=1e-12) / 127
    return (weight.float() / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def save(model: MiniModel, folder: Path, facts: Facts) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name in ("bart.encoder.embed_tokens.weight", "bart.decoder.embed_tokens.weight"):
            continue  # tied to bart.shared
        if value.ndim == 2 and value.shape[0] > 1:
            tensors[name], tensors[name + SCALE] = quantise(value)
        else:
            tensors[name] = value.float().contiguous()
    save_file(tensors, str(folder / "model.safetensors"))
    (folder / "config.json").write_text(json.dumps(asdict(facts), indent=1) + "\n")


def load(folder: Path) -> tuple[MiniModel, Facts]:
    """The float32 network, ready to read; raises ModelUnavailable when the folder holds none."""
    try:
        facts = Facts(**json.loads((folder / "config.json").read_text()))
        stored = load_file(str(folder / "model.safetensors"))
    except (OSError, ValueError, TypeError) as problem:
        raise ModelUnavailable(
            f"The bundled generator could not be read from {folder.name}/ "
            f"({type(problem).__name__}). Check out the repository again, with its model files."
        ) from problem
    state = {
        name: value.float() * stored[name + SCALE][:, None] if name + SCALE in stored else value
        for name, value in stored.items()
        if not name.endswith(SCALE)
    }
    with torch.device("meta"):  # no random weights that are thrown away at once
        model = MiniModel(config(facts.decoder_layers, facts.encoder_layers))
    model = model.to_empty(device="cpu")
    for side in ("encoder", "decoder"):
        state[f"bart.{side}.embed_tokens.weight"] = state["bart.shared.weight"]
    model.load_state_dict(state)
    model.bart.encoder.embed_tokens.weight = model.bart.shared.weight
    model.bart.decoder.embed_tokens.weight = model.bart.shared.weight
    return model.eval(), facts
