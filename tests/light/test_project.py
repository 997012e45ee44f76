"""What the project says about itself, held against the project."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import convnext

ROOT = Path(__file__).parent.parent.parent
FRAMEWORKS = ("jax", "keras", "tensorflow", "torch", "timm", "transformers")


def drawn_paths() -> list[str]:
    """The paths in ARCHITECTURE.md's tree, folders with a slash at the end."""
    tree = (ROOT / "ARCHITECTURE.md").read_text().split("```")[1]
    paths, folders = [], []
    for line in tree.strip().splitlines():
        match = re.match(r"( *)([\w./]+)( |$)", line)
        if match is None or match[1].startswith(" " * 20):
            continue
        depth, name = len(match[1]) // 2, match[2]
        folders[depth:] = [name]
        paths.append("".join(folders))
    return paths


def test_every_drawn_path_exists():
    missing = [path for path in drawn_paths() if not (ROOT / path).exists()]
    assert not missing
    assert len(drawn_paths()) > 20


def test_every_package_is_drawn():
    """Folders of data as well; of the tests, the halves alone."""
    drawn = {path.rstrip("/") for path in drawn_paths()}
    folders = [path for path in (ROOT / "src" / "convnext").rglob("*/") if path.is_dir()]
    folders += [path for path in (ROOT / "tests").iterdir() if path.is_dir()]
    names = [path.relative_to(ROOT).as_posix() for path in folders if path.name != "__pycache__"]
    assert len(names) > 20
    assert not [name for name in names if name not in drawn]


def test_every_module_says_what_it_is_for():
    """In its first line, since ARCHITECTURE.md does not."""
    modules = (ROOT / "src").rglob("*.py")
    assert not [path for path in modules if not ast.get_docstring(ast.parse(path.read_text()))]


def test_lists_in_contributing_are_short_and_name_existing_files():
    lists = (ROOT / "CONTRIBUTING.md").read_text().split("\n## Add ")[1:]
    assert len(lists) == 7
    for text in lists:
        assert 3 <= len(re.findall(r"^\d\. ", text, re.MULTILINE)) <= 6
        paths = re.findall(r"`((?:src|tests|docs|README|pyproject)[\w/.]*)`", text)
        assert paths
        assert not [path for path in paths if "NAME" not in path and not (ROOT / path).exists()]


def test_public_names_are_sorted_and_importable():
    pytest.importorskip("keras")
    assert convnext.__all__ == sorted(convnext.__all__, key=lambda n: (not n.isupper(), n))
    for name in convnext.__all__:
        assert getattr(convnext, name) is not None
    assert set(convnext.__all__) <= set(dir(convnext))
    with pytest.raises(AttributeError, match="no attribute 'create_convnext_v3'"):
        convnext.create_convnext_v3  # noqa: B018


def test_precisions_engines_and_outputs_are_each_listed_in_one_place():
    from convnext.engines.base import PRECISIONS
    from convnext.engines.opening import ENGINES
    from convnext.graphs.network import OUTPUTS

    lists = {"precision": PRECISIONS, "engine": ENGINES, "output": OUTPUTS}
    source = ROOT / "src" / "convnext"
    found = set()
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            parts = getattr(node, "keys", None) or getattr(node, "elts", None) or ()
            written = {part.value for part in parts if isinstance(part, ast.Constant)} - {"auto"}
            place = path.relative_to(source).as_posix()
            found |= {(place, name) for name in lists if written == set(lists[name]) - {"auto"}}
    assert found == {
        ("engines/base.py", "precision"),
        ("engines/opening.py", "engine"),
        ("text/encoder.py", "engine"),  # the text tower on each
        ("graphs/network.py", "output"),
    }


LIGHT = [
    "convnext",
    "convnext.classifier",
    "convnext.cli.main",
    "convnext.engines",
    "convnext.evaluate",
    "convnext.hf.config",
    "convnext.hf.processor",
    "convnext.hub",
    "convnext.images.batches",
    "convnext.images.labels",
    "convnext.scale",
    "convnext.serve.workers",
    "convnext.train.run.model_folder",
    "convnext.train.input.loader",
    "convnext.train.input.worker",
    "convnext.weights.catalog",
    "convnext.weights.download",
    "convnext.weights.load",
    "convnext.weights.save",
]


def test_the_light_half_imports_no_framework():
    program = f"import sys, {', '.join(LIGHT)}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert set(loaded) >= set(LIGHT)
    assert not set(FRAMEWORKS) & set(loaded)


def test_without_keras_the_error_names_the_extras():
    program = (
        "import sys; sys.modules['keras'] = None; import convnext\n"
        "try: convnext.create_convnext_v1\n"
        "except convnext.MissingDependencyError as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert "pip install 'convnext[jax]'" in said


def test_the_changelog_knows_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in changelog or f"## {convnext.__version__}" in changelog


def test_the_r_package_has_the_version():
    assert f"\nVersion: {convnext.__version__}\n" in (ROOT / "r" / "DESCRIPTION").read_text()
