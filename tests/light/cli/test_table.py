"""Tables: alignment, and columns left out if too wide."""

import os

import pytest

from convnext.cli.table import Column, output_width, render

COLUMNS = [
    Column("NAME", ["a", "longer"]),
    Column("SIZE", ["1.5", "22.0"], numeric=True, rank=1),
    Column("REMARK", ["", "none"], rank=2),
    Column("FILE", ["/x", "/y"]),
]


def test_columns_are_aligned_without_trailing_blanks():
    assert render(COLUMNS[:3]).splitlines() == [
        "NAME    SIZE  REMARK",
        "a        1.5",
        "longer  22.0  none",
    ]


@pytest.mark.parametrize(
    ("width", "title"),
    [
        (None, "NAME    SIZE  REMARK  FILE"),
        (26, "NAME    SIZE  REMARK  FILE"),
        (25, "NAME    SIZE  FILE"),
        (18, "NAME    SIZE  FILE"),
        (17, "NAME    FILE"),
        (1, "NAME    FILE"),
    ],
)
def test_the_least_needed_columns_give_way(width, title):
    assert render(COLUMNS, width).splitlines()[0] == title


def test_width_is_the_terminals_and_without_one_there_is_no_limit(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert output_width() is None
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((72, 24)))
    assert output_width() == 72


def test_width_can_be_set(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert output_width() == 50
