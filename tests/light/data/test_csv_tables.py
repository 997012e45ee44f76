"""Tables of paths and labels."""

import pytest

from convnext.data.csv_tables import read_table
from convnext.errors import ArgumentError


@pytest.fixture
def table(folder):
    """Writes a table beside class folders of cats and dogs."""
    root = folder({"cat": 2, "dog": 1})

    def write(text, name="labels.csv"):
        path = root / name
        path.write_text(text, "utf-8")
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        "cat/0.png,cat\ndog/0.png,dog\n",
        "\ufeffcat/0.png,cat\ndog/0.png,dog\n",
        "path,label\ncat/0.png,cat\ndog/0.png,dog\n",
        "\n\npath,label\ncat/0.png,cat\ndog/0.png,dog\n",
        "\ufeffLabel;Filename\r\ncat;cat/0.png\r\n\r\ndog;dog/0.png\r\n",
        "id\timage\tclass\n1\tcat/0.png\tcat\n2\tdog/0.png\tdog\n",
        'anything,else\n"cat/0.png","cat"\n dog/0.png , dog \n',
    ],
)
def test_headers_and_separators(table, text):
    found = read_table(table(text))
    assert found.paths == ["cat/0.png", "dog/0.png"]
    assert found.labels == ["cat", "dog"]
    assert found.splits == []


def test_parts_and_tables_without_labels(table):
    found = read_table(table("path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,test\n"))
    assert found.splits == ["train", "test"]
    assert read_table(table("cat/0.png\ndog/0.png\n")).labels == []


def test_files_may_lie_anywhere(table, folder):
    outside = folder({"bird": 1}, name="other")
    text = f"../other/bird/0.png,bird\n{outside / 'bird' / '0.png'},bird\ncat/0.png,cat\n"
    assert len(read_table(table(text)).paths) == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("path,label\n", "no row below"),
        ("path,label\ncat/0.png,cat\ndog/9.png,dog\n", "'dog/9.png'"),
        ("path,label\ncat/0.png,\n", "column 2 of the row .* is empty"),
        ("path,label\ncat/0.png\n", "column 2 of the row .* is empty"),
        ('path,label\n"cat/0.png,cat\n', "line 2: unexpected end of data"),
        ("cat,label\nhttp://localhost/0.png,cat\n", "do not exist"),
    ],
)
def test_tables_that_say_too_little(table, text, problem):
    with pytest.raises(ArgumentError, match=problem):
        read_table(table(text))


def test_a_quote_that_is_not_closed_swallows_no_rows(table):
    text = 'path,label\n\ncat/0.png,"cat\ncat/1.png,cat\ndog/0.png,dog"\n'
    with pytest.raises(ArgumentError, match=r"labels\.csv, line 3: .* with all quotes closed"):
        read_table(table(text))


def test_a_table_in_another_encoding(table):
    path = table("")
    path.write_bytes("cat/0.png,Kätzchen\n".encode("latin-1"))
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_table(path)
