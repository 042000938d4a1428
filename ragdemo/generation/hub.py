"""What a model is and weighs before anything is fetched, and fetching it.

A model is a Hugging Face id or a local folder; folders and models fetched before need no network.
Only safetensors weights are ever fetched: other formats can run code when opened. What the owner
of this machine does not allow (`policy`) is refused before the disk or the network is touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from ragdemo import policy
from ragdemo.errors import LimitReached, ModelUnavailable

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

SUGGESTED: Mapping[str, str] = {
    "distilgpt2": "smallest GPT-2; continues a text, so it rarely answers",
    "gpt2": "what language models were in 2019; shows why instructions matter",
    "facebook/bart-base": "not tuned for questions; a start for fine-tuning, as in the RAG paper",
    "google/flan-t5-small": "tuned on questions; short answers, quick on a CPU",
    "google/flan-t5-base": "tuned on questions; better answers, three times the size",
    "HuggingFaceTB/SmolLM2-360M-Instruct": "small chat model; whole sentences",
    "Qwen/Qwen2.5-0.5B-Instruct": "small chat model that reads long prompts, several languages",
}

TIMEOUT = 5.0  # seconds; a visitor waits for this
MOST_BYTES = 6 * 1000**3  # one download, so that a visitor cannot fill the disk
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_BESIDE = re.compile(r"[^/]+\.(json|txt|model|jinja)")  # configuration, tokenizer, chat template


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the picker shows of a model."""

    id: str
    kind: str  # "causal" or "seq2seq"
    download_bytes: int  # 0 for what is on this machine already
    memory_bytes: int  # estimate, on a CPU
    licence: str  # as its author states it, or "unknown"
    chat: bool  # has a chat template
    parameters: int | None = None


def describe(model: str, *, endpoint: str | None = None) -> ModelCard:
    """Look a model up without fetching it; raises `ModelUnavailable` within about 5 seconds, and
    `RagdemoError` where the owner of this machine does not allow it."""
    folder = _on_disk(model)
    return _describe_folder(model, folder) if folder else _describe_info(_info(model, endpoint))


def fetch(model: str, *, endpoint: str | None = None, most_bytes: int = MOST_BYTES) -> Path:
    """The folder that holds `model`, fetched where it has to be.

    Raises `ModelUnavailable`, `LimitReached` when it is larger than `most_bytes`, and
    `RagdemoError` where the owner of this machine does not allow it.
    """
    if folder := _on_disk(model):
        return folder
    from huggingface_hub import snapshot_download

    info = _info(model, endpoint)
    card = _describe_info(info)
    if card.download_bytes > most_bytes:
        raise LimitReached(
            f"{model} is {card.download_bytes / 1e9:.1f} GB; this app fetches at most "
            f"{most_bytes / 1e9:.1f} GB. Choose a smaller model."
        )
    try:
        folder = snapshot_download(
            model,
            allow_patterns=list(_files(info)),
            etag_timeout=TIMEOUT,
            endpoint=endpoint,
        )
    # the hub's client raises its HTTP library's errors and its own, with no base in common
    except Exception as error:
        raise ModelUnavailable(
            f"{model} could not be fetched completely ({type(error).__name__}). Try again, what "
            "has arrived is kept; or choose the bundled generator."
        ) from error
    return Path(folder)


def permit(model: str) -> None:
    """Raise `RagdemoError` where a visitor may not have `model` from where its name points.

    For loaders of other kinds of model (encoders, re-rankers), before they look at the name.
    """
    if _is_path(model):
        policy.current().need("folders")
    elif not _fetched(model):
        policy.current().need("hub")


def _is_path(model: str) -> bool:
    """Told from the letters where folders are closed: whether one exists is nobody's business."""
    if model.startswith((".", "~", "/", "\\")) or re.match(r"[A-Za-z]:", model):
        return True
    try:
        return policy.current().folders and Path(model).is_dir()
    except OSError:  # too long
        return False


def _on_disk(model: str) -> Path | None:
    """A local folder, or the copy of an earlier fetch if it is complete."""
    if not model.strip():
        raise ModelUnavailable("Name a model: an id such as 'gpt2', or a local folder.")
    try:
        if _is_path(model):
            policy.current().need("folders")
            path = Path(model).expanduser()
            if not path.is_dir():
                raise ModelUnavailable(f"There is no folder '{model}' on this machine.")
            return _checked(path)
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, no home
        raise ModelUnavailable(f"'{model[:80]}' is neither a model id nor a folder.") from error
    return _fetched(model)


def _fetched(model: str) -> Path | None:
    """The copy of an earlier fetch if it is complete."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(model, local_files_only=True))
    except HFValidationError as error:
        raise ModelUnavailable(
            f"'{model[:80]}' is neither a model id (like 'gpt2' or 'google/flan-t5-small') nor a "
            "local folder."
        ) from error
    except LocalEntryNotFoundError as error:
        # without our file list the client calls every selective download incomplete
        path = Path(getattr(error, "snapshot_path", ""))
    return path if path.parts and _complete(path) else None


def _complete(folder: Path) -> bool:
    if not (folder / "config.json").is_file():
        return False
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(_object(index)["weight_map"].values())
        except (ValueError, KeyError, AttributeError):
            return False
        return all((folder / shard).is_file() for shard in shards)
    return (folder / "model.safetensors").is_file()


def _checked(folder: Path) -> Path:
    if not _complete(folder):
        raise ModelUnavailable(
            f"The folder '{folder.name}' holds no complete model: it needs config.json and "
            "model.safetensors (other weight formats can run code and are not opened)."
        )
    return folder


def _info(model: str, endpoint: str | None) -> ModelInfo:
    policy.current().need("hub")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        return HfApi(endpoint=endpoint).model_info(model, files_metadata=True, timeout=TIMEOUT)
    except GatedRepoError as error:
        raise ModelUnavailable(
            f"{model} is given out only after its licence was accepted on huggingface.co; choose "
            "another model, or set HF_TOKEN for this machine."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelUnavailable(
            f"The Hugging Face hub has no public model '{model}'. Check the spelling."
        ) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise ModelUnavailable(
            f"The Hugging Face hub answered {status} when asked for {model}. Try later, or choose "
            "the bundled generator."
        ) from error
    # no network, no name server, a proxy, time-out, offline mode: each raises its own kind
    except Exception as error:
        raise ModelUnavailable(
            f"The Hugging Face hub can't be reached from this machine, so {model} can't be "
            "fetched. Choose the bundled generator, a local folder, or an endpoint."
        ) from error


def _files(info: ModelInfo) -> dict[str, int]:
    """Names and bytes of the files that loading needs."""
    wanted = {
        file.rfilename: file.size or 0
        for file in info.siblings or ()
        if _WEIGHTS.fullmatch(file.rfilename) or _BESIDE.fullmatch(file.rfilename)
    }
    if not any(_WEIGHTS.fullmatch(name) for name in wanted):
        raise ModelUnavailable(
            f"{info.id} has no safetensors weights; other formats can run code and are not "
            "opened. Choose another model."
        )
    return wanted


def _describe_info(info: ModelInfo) -> ModelCard:
    files = _files(info)
    config = info.config or {}
    tokenizer = config.get("tokenizer_config") or {}
    parameters = info.safetensors.total if info.safetensors else None
    weights = sum(size for name, size in files.items() if _WEIGHTS.fullmatch(name))
    licences = [tag.removeprefix("license:") for tag in info.tags or () if tag[:8] == "license:"]
    return ModelCard(
        id=info.id,
        kind=_kind(info.id, config),
        download_bytes=sum(files.values()),
        memory_bytes=_memory(parameters, weights),
        licence=licences[0] if licences else "unknown",
        chat="chat_template.jinja" in files
        or bool(tokenizer.get("chat_template") or config.get("chat_template_jinja")),
        parameters=parameters,
    )


def _describe_folder(model: str, folder: Path) -> ModelCard:
    try:
        config = _object(folder / "config.json")
        settings = folder / "tokenizer_config.json"
        tokenizer = _object(settings) if settings.is_file() else {}
        weights = [path for path in folder.iterdir() if _WEIGHTS.fullmatch(path.name)]
        parameters = sum(_count_parameters(path) for path in weights)
        readme = folder / "README.md"
        head = readme.read_text("utf-8", errors="replace")[:4_000] if readme.is_file() else ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnavailable(f"The model in '{folder.name}' is damaged: {error}") from error
    stated = re.search(r"^license:\s*([\w.\-]+)", head, re.MULTILINE)
    return ModelCard(
        id=model,
        kind=_kind(model, config),
        download_bytes=0,
        memory_bytes=_memory(parameters, sum(path.stat().st_size for path in weights)),
        licence=stated.group(1) if stated else "unknown",
        chat=(folder / "chat_template.jinja").is_file() or bool(tokenizer.get("chat_template")),
        parameters=parameters,
    )


def _object(path: Path) -> dict[str, object]:
    """A JSON object; `ValueError` for anything else."""
    value = json.loads(path.read_text("utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return value


def _count_parameters(path: Path) -> int:
    """From the file's header: eight bytes of length, then JSON with each tensor's shape."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            raise ValueError("a weights file is cut short")
        header = json.loads(file.read(size))
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _memory(parameters: int | None, weight_bytes: int) -> int:
    """Four bytes a parameter on a CPU, and a fifth for the cache and the work itself."""
    return int(1.2 * (4 * parameters if parameters else weight_bytes))


def _kind(model: str, config: Mapping[str, object]) -> str:
    """By model type. BART is in both of the library's tables and was made to read, then write;
    BERT is in the causal one, and its architecture tells that it fills gaps."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
    )
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as SEQ2SEQ,
    )

    type_ = config.get("model_type")
    architectures = tuple(config.get("architectures") or ())
    if type_ in SEQ2SEQ:
        return "seq2seq"
    writes = any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures)
    if type_ in CAUSAL and (writes or not architectures):
        return "causal"
    named = ", ".join(architectures) or "no architecture named"
    raise ModelUnavailable(
        f"{model} can't write text here: its type is '{type_}' ({named}). "
        "Choose a causal model (GPT-2, Llama, Qwen) or an encoder-decoder (T5, BART)."
    )
