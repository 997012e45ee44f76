"""The reference has an entry for every public name, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
REFERENCE = ROOT / "docs" / "reference"
PUBLIC = [
    "convnext",
    "convnext.applications",
    "convnext.classifier",
    "convnext.engines",
    "convnext.errors",
    "convnext.evaluate",
    "convnext.exports",
    "convnext.hf",
    "convnext.hub",
    "convnext.optimizers",
    "convnext.scale",
    "convnext.segmenter",
    "convnext.search",
    "convnext.text",
    "convnext.train",
    "convnext.weights.catalog",
]
"""Modules whose whole `__all__` is public. Of others, what a page imports is."""


def names_of(module: str) -> list[str]:
    """Its `__all__`, read without importing it: some need Keras."""
    path = ROOT / "src" / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    raise AssertionError(f"{module} has no __all__")


def entries() -> list[str]:
    """What the reference's pages describe."""
    return [
        entry
        for page in sorted(REFERENCE.glob("*.md"))
        for entry in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]


def imported_by_pages() -> set[str]:
    """What the Python of README and pages imports from this package, as full names."""
    found = set()
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for block in re.findall(r"```python.*?\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for node in ast.walk(ast.parse(block)):
                if (
                    isinstance(node, ast.ImportFrom)
                    and str(node.module).split(".")[0] == "convnext"
                ):
                    found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_described(name: str) -> bool:
    """Whether there is an entry for it, or for the same name where `convnext` itself has it."""
    short = f"convnext.{name.rpartition('.')[2]}"
    in_convnext = short.rpartition(".")[2] in names_of("convnext")
    return name in entries() or (in_convnext and short in entries())


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_an_entry(module):
    assert not [name for name in names_of(module) if not is_described(f"{module}.{name}")]


def test_names_that_pages_import_have_a_reference_entry():
    imported = imported_by_pages()
    assert len(imported) > 15
    assert not [name for name in sorted(imported) if not is_described(name)]


def test_entries_are_in_all_of_their_modules_and_stand_once():
    listed = entries()
    assert len(listed) == len(set(listed))
    for entry in set(listed) - {"convnext.errors", "convnext.hub"}:
        module, _, name = entry.rpartition(".")
        assert name in names_of(module), entry


def test_every_page_of_the_reference_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert set(re.findall(r"[\w/]+\.md", navigation)) == pages
