from dataclasses import replace

import pytest

from convnext.architecture import VARIANTS
from convnext.bench.contenders import Contender
from convnext.bench.markdown import markdown_table
from convnext.bench.material import Model
from convnext.bench.race import Result
from convnext.bench.results import rows_of
from convnext.images.recipe import Preprocess


@pytest.fixture
def races(machine):
    """A race of one picture in 6 rounds, and one of 16 in 2."""
    model = Model("a|b", VARIANTS["test_v1"], 2, Preprocess(size=64))
    rows, even = [], [[0.009], [0.011]]
    for batch, rounds in ((1, 6), (16, 2)):
        results = [
            Result(Contender("openvino", "auto"), batch, "float32", turns=[[0.01]] * rounds),
            Result(Contender("timm", "float32"), batch, "float32", turns=[[0.02]] * rounds),
            Result(Contender("timm", "bfloat16"), batch, "bfloat16", turns=even * (rounds // 2)),
            Result(Contender("keras", "float32"), batch, error="No."),
        ]
        rows += rows_of(model, results, None, 2, machine)
    return rows


def test_a_table_of_races(races, machine):
    lines = markdown_table(races).splitlines()
    assert lines[:5] == [
        r"| | a\|b, 64 px, batch 1: ms | ratio | a\|b, 64 px, batch 16: ms | ratio |",
        "| --- | --- | --- | --- | --- |",
        "| **convnext, openvino**, float32 | 10.0 | 1 | 10.0 | 1 |",
        "| timm, float32 | 20.0 | 2.00 [2.00, 2.00] | 20.0 | 2.00, too few rounds |",
        "| timm, bfloat16 | 10.0 | 0.99 [0.90, 1.10], no difference shown "
        "| 10.0 | 0.99, too few rounds |",
    ]
    assert lines[5:7] == ["", "Rounds: 6, 2."]
    assert lines[7].startswith(machine.processor)
    assert len(lines) == 8


def test_a_contender_that_failed_in_one_race(races):
    failed = [replace(row, error="No.") if row.batch == 16 else row for row in races[1:2]]
    text = markdown_table([*races[:1], *races[4:5], *races[1:2], *failed])
    assert "| timm, float32 | 20.0 | 2.00 [2.00, 2.00] | - | - |" in text
