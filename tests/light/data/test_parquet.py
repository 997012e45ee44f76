from __future__ import annotations

from pathlib import Path

import pytest

from convnext.data.archives import LabelledSource
from convnext.data.parquet import TableColumns, row_ranges, table_rows
from convnext.errors import ArgumentError, ImageError

PLAIN = TableColumns()


@pytest.fixture
def table(make, tmp_path):
    """A hundred rows in groups of twenty."""
    pyarrow = pytest.importorskip("pyarrow")
    columns = {
        "image": pyarrow.array(
            [{"bytes": b"%d" % n, "path": f"{n}.jpg"} for n in range(100)],
        ),
        "label": [n % 10 for n in range(100)],
    }
    return str(make.table(tmp_path / "x.parquet", columns, row_group_size=20))


def ranges(path, wanted):
    return list(row_ranges(path, PLAIN, wanted))


def test_parts_end_where_row_groups_end(table):
    assert ranges(table, 20) == [(0, 20), (20, 40), (40, 60), (60, 80), (80, 100)]
    assert ranges(table, 15) == ranges(table, 20)
    assert ranges(table, 50) == [(0, 60), (60, 100)]
    assert ranges(table, 1000) == [(0, 100)]


def test_large_row_groups_are_cut(table):
    parts = ranges(table, 7)
    assert parts[:3] == [(0, 10), (10, 20), (20, 30)]
    assert [stop for _, stop in parts[:-1]] == [start for start, _ in parts[1:]]
    assert parts[-1][1] == 100


@pytest.mark.parametrize(("start", "stop"), [(0, 100), (0, 1), (13, 14), (19, 41), (95, 100)])
def test_rows(table, start, stop):
    rows = list(table_rows(table, PLAIN, start, stop))
    assert rows == [
        LabelledSource(f"{table}#{n}", b"%d" % n, str(n % 10)) for n in range(start, stop)
    ]


def test_plain_columns(make, tmp_path):
    columns = {"file_name": ["a", "b"], "jpg": [b"1", None], "text": ["x", "y"]}
    path = str(make.table(tmp_path / "x.parquet", columns))
    first, second = table_rows(path, PLAIN, 0, 2)
    assert first == LabelledSource("a", b"1", None)
    assert (second.name, second.label) == ("b", None)
    assert "is null" in str(second.source)
    [row] = table_rows(path, TableColumns("jpg", "text", "file_name"), 0, 1)
    assert row == LabelledSource("x", b"1", "a")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (TableColumns("img"), r"no column 'img' of encoded pictures\. Its columns: jpg \(binary\)"),
        (TableColumns("text"), "no column 'text' of encoded pictures"),
        (PLAIN, "more than one column that could hold the pictures: jpg, png"),
        (TableColumns("jpg", path="id"), "no column 'id'. It has: 'jpg', 'png', 'text'"),
        (TableColumns("jpg", label="id"), "no column 'id'"),
    ],
)
def test_columns_that_are_not_there(make, tmp_path, columns, words):
    path = str(make.table(tmp_path / "x.parquet", {"jpg": [b"1"], "png": [b"2"], "text": ["x"]}))
    with pytest.raises(ArgumentError, match=words):
        list(row_ranges(path, columns, 10))


def test_files_that_are_no_parquet_are_refused(make, tmp_path, table):
    path = tmp_path / "y.parquet"
    whole = Path(table).read_bytes()
    for content in (b"", b"PAR1", b"x" * 1000, whole[:-10], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(
            ArgumentError, match=r"y\.parquet cannot be read as Parquet.*Copy it again"
        ):
            ranges(str(path), 10)
    path = make.table(tmp_path / "z.parquet", {"text": ["x"]})
    with pytest.raises(ArgumentError, match="has no column of encoded pictures"):
        ranges(str(path), 10)


def test_damage_inside_becomes_rows(make, tmp_path):
    data = [bytes([n]) * 1000 for n in range(100)]
    path = make.table(
        tmp_path / "x.parquet", {"image": data}, row_group_size=20, compression="snappy"
    )
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle - 1500 : middle + 1500] = b"\xff" * 3000
    path.write_bytes(content)
    rows = list(table_rows(str(path), PLAIN, 0, 100))
    assert [row.name for row in rows] == [f"{path}#{n}" for n in range(100)]
    bad = [n for n, row in enumerate(rows) if isinstance(row.source, ImageError)]
    assert bad == list(range(bad[0], 100))
    assert 20 <= bad[0] <= 60
    assert f"from row {bad[0]} on" in str(rows[99].source)
