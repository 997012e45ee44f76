"""The notebooks run from top to bottom, as somebody runs them who just opened them."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbclient
import nbformat
import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
NOTEBOOKS = sorted((EXAMPLES / "notebooks").glob("*.ipynb"))
LONGEST = 600  # seconds for one cell, on a machine that does much else


@pytest.mark.slow
@pytest.mark.torch_alone
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path):
    here = tmp_path / "notebooks"
    here.mkdir()
    shutil.copytree(EXAMPLES / "photos", tmp_path / "photos")
    notebook = nbformat.read(path, as_version=4)
    nbclient.execute(notebook, cwd=here, timeout=LONGEST)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert not [output for output in shown if output.get("name") == "stderr"]


@pytest.mark.torch_alone
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_their_outputs(path):
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert cells
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]
