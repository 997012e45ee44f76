"""The lines of docs/search.md that take a file of vectors into faiss and usearch."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parent.parent.parent.parent / "docs" / "search.md"


@pytest.mark.parametrize("library", ["faiss", "usearch"])
def test_lines_of_the_page(library, tmp_path, monkeypatch, capsys):
    pytest.importorskip(library)
    [lines] = re.findall(rf"```python {library}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    vectors = np.random.default_rng(0).standard_normal((200, 16), np.float32)
    np.savez("photos.npz", ids=[f"{number}.jpg" for number in range(200)], embeddings=vectors)
    exec(compile(lines, library, "exec"), {})
    assert "'0.jpg'" in capsys.readouterr().out.split(maxsplit=1)[0]
