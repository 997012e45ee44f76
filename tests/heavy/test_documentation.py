"""The Python in README and docs runs as it is written, page by page, in an empty folder.

What would need a network stands in blocks marked `python no-run`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


PAGES = [page for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))] if blocks(page)]


@pytest.mark.torch_alone
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page):
        exec(compile(block, page.name, "exec"), names)
    printed = capsys.readouterr().out
    assert page.name != "README.md" or "88,591,464" in printed


def test_the_pages_with_examples_are_found():
    assert {"README.md", "engines.md", "weights.md"} <= {page.name for page in PAGES}
