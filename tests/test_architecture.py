"""The shape of the project: who may import whom, and what importing it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module may import from its own layer and the ones before it.
LAYERS = [
    {"types", "errors", "settings", "text", "policy", "facts"},
    {"loading", "chunking", "embedding", "stores", "prompts", "generation"},
    {"corpus"},
    {"retrieval", "fusion", "grounding", "serving"},
    {"pipeline", "report", "samples"},
    {"anatomy", "evaluation", "training"},
    {"experiments"},
    {"ui"},
]
OPEN = {"__main__", "__init__"}  # name everything, import it only when called


def modules() -> list[Path]:
    return sorted((ROOT / "ragdemo").rglob("*.py"))


def part(path: Path) -> str:
    inside = path.relative_to(ROOT / "ragdemo").parts
    return inside[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Every module named by an import statement anywhere in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module)
            if node.module == "ragdemo":
                found |= {f"ragdemo.{alias.name}" for alias in node.names}
    return found


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    own = part(path)
    if own in OPEN:
        return
    for name in imported(path):
        if name.startswith("ragdemo."):
            other = name.split(".")[1]
            assert layer(other) <= layer(own), f"{own} may not import {other}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_ui_knows_streamlit(path):
    if part(path) != "ui":
        assert not any(name.split(".")[0] == "streamlit" for name in imported(path))


@pytest.mark.parametrize("name", ["ragdemo", "ragdemo.generation", "ragdemo.types", "ragdemo.text"])
def test_import_is_light(name):
    heavy = "torch transformers faiss streamlit pandas sentence_transformers".split()
    code = f"import {name}, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_public_names_exist():
    import ragdemo

    for name in ragdemo.__all__:
        assert getattr(ragdemo, name) is not None
    with pytest.raises(AttributeError):
        ragdemo.nothing  # noqa: B018


def test_no_pickle_and_no_remote_code():
    for path in modules():
        text = path.read_text(encoding="utf-8")
        assert "pickle" not in imported(path)
        assert "trust_remote_code=True" not in text
        assert "allow_pickle=True" not in text
