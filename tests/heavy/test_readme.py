"""The README's Python runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent.parent / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.splitlines()[0])
def test_examples_run(example, capsys):
    exec(compile(example, "README.md", "exec"), {})
    assert "88,591,464" in capsys.readouterr().out


def test_there_are_examples():
    assert len(EXAMPLES) == 1
