"""Rows of results: writing, and reading back to resume."""

from __future__ import annotations

import csv
import errno
import io
import json
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convnext.classifier import ClassScore, Prediction
from convnext.cli.rows import (
    Rows,
    csv_format,
    json_format,
    jsonl_format,
    printable,
    table_format,
    written_rows,
)
from convnext.errors import ArgumentError, ConvNeXtError, ImageError

CAT = ClassScore("tabby, tabby cat", 281, 2 / 3, "n02123045")
DOG = ClassScore('the "hound"', 7, 1.25e-9, "n1")
GOOD = Prediction("a/cat.jpg", (CAT, DOG))
BAD = Prediction("b,\n.jpg", error=ImageError('torn:\r"x"'))
FORMS = {"jsonl": jsonl_format(), "csv": csv_format(2, True)}


def written(form, predictions):
    rows = form.between.join(form.row(prediction) for prediction in predictions)
    return form.start + rows + form.end


def test_a_name_can_always_be_printed():
    assert printable("caf\udce9\u732b \ud800\x1b[2J") == "caf\\udce9\u732b \\ud800\\x1b[2J"
    assert printable(printable("\r\n")) == printable("\r\n") == "\\x0d\\x0a"


def test_json():
    good, bad = json.loads(written(json_format(), [GOOD, BAD]))
    assert good["id"] == "a/cat.jpg"
    assert good["classes"][0] == {
        "label": "tabby, tabby cat",
        "wnid": "n02123045",
        "index": 281,
        "probability": 0.666667,
    }
    assert good["classes"][1]["probability"] == 1.25e-9
    assert bad == {"id": "b,\\x0a.jpg", "error": 'torn:\\x0d"x"'}
    assert json.loads(written(json_format(), [])) == []


def test_json_lines():
    lines = written(jsonl_format(), [GOOD, BAD]).splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a/cat.jpg", "b,\\x0a.jpg"]


def test_csv():
    text = written(csv_format(2, has_wnids=True), [GOOD, BAD])
    good, bad = csv.DictReader(io.StringIO(text, newline=""))
    assert good["label_1"] == "tabby, tabby cat"
    assert (good["wnid_2"], good["index_2"], good["probability_2"]) == ("n1", "7", "1.25e-09")
    assert (bad["id"], bad["label_1"], bad["error"]) == ("b,\\x0a.jpg", "", 'torn:\\x0d"x"')
    plain = csv_format(1, has_wnids=False)
    assert plain.start == "id,label_1,index_1,probability_1,error\n"


def test_the_table_is_for_people():
    assert written(table_format(), [GOOD, BAD]) == (
        'a/cat.jpg\n  66.7%  tabby, tabby cat\n   0.0%  the "hound"\n'
    )


NAMES = st.text(st.characters(codec="utf-8"), max_size=9)
PREDICTIONS = st.lists(
    st.builds(Prediction, NAMES, st.just((CAT, DOG)))
    | st.builds(Prediction, NAMES, error=NAMES.filter(bool).map(ImageError)),
    max_size=4,
)


@pytest.mark.parametrize("kind", FORMS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(predictions=PREDICTIONS, data=st.data())
def test_wherever_a_run_ended_the_next_completes_its_file(kind, predictions, data, tmp_path):
    form = FORMS[kind]
    path = tmp_path / "rows"
    whole = written(form, predictions).encode()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    held = written_rows(path, form.start or None)
    kept = len(held)
    if len({prediction.id for prediction in predictions}) == len(predictions):
        assert list(held) == [printable(prediction.id) for prediction in predictions[:kept]]
        errors = [p.error and printable(str(p.error)) for p in predictions]
        assert list(held.values()) == errors[:kept]
        with Rows(path, start=form.start, append=True) as rows:
            for prediction in predictions[kept:]:
                rows.add(form.row(prediction))
        assert path.read_bytes() == whole


def test_a_missing_file_has_no_rows(tmp_path):
    assert written_rows(tmp_path / "absent.jsonl") == {}


@pytest.mark.parametrize(
    "text", ["precious notes\n", "[1]\n", '{"id": 7}\n', '{"name": "x"}\n', "[" * 10**5 + "\n"]
)
def test_a_file_of_something_else_is_left_alone(tmp_path, text):
    path = tmp_path / "notes.jsonl"
    path.write_text(f"{text}end")
    with pytest.raises(ArgumentError, match="row 1 is invalid"):
        written_rows(path)
    assert path.read_text() == f"{text}end"


@pytest.mark.parametrize("before", ["", '{"id": "x", "error": "torn"}\n'])
def test_an_end_that_is_no_torn_row_is_left_alone(tmp_path, before):
    path = tmp_path / "notes.jsonl"
    path.write_text(f'{before}[{{"id":"precious"}}]')
    with pytest.raises(ArgumentError, match="its last line is not one of its rows"):
        written_rows(path)
    assert path.read_text() == f'{before}[{{"id":"precious"}}]'


def test_an_end_that_is_no_torn_header_is_left_alone(tmp_path):
    path = tmp_path / "notes.csv"
    path.write_text("precious")
    with pytest.raises(ArgumentError, match="its last line is not one of its rows"):
        written_rows(path, FORMS["csv"].start)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"id": "x", "embedding": [1.0, 2.0]}\n', {}),
        ('{"id": "x", "classes": []}\n', {"answer": "embedding"}),
        ('{"id": "x", "embedding": [1.0, 2.0]}\n', {"answer": "embedding", "width": 3}),
    ],
)
def test_rows_of_another_command_or_model_are_refused(tmp_path, text, wanted):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(ArgumentError, match="not written by this command with this model"):
        written_rows(path, **wanted)


def test_a_csv_file_with_other_columns_is_left_alone(tmp_path):
    path = tmp_path / "rows.csv"
    text = written(csv_format(1, True), [Prediction("x", (CAT,))])
    path.write_text(f"{text}to")
    with pytest.raises(ArgumentError, match="made with other options"):
        written_rows(path, FORMS["csv"].start)
    assert path.read_text() == f"{text}to"


def test_letters_that_the_output_has_not(tmp_path, monkeypatch):
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", latin)
    with Rows(None) as rows:
        rows.add("\u732b")
    assert latin.buffer.getvalue() == b"\\u732b"
    with Rows(tmp_path / "rows") as rows:
        rows.add("\ud800")
    assert (tmp_path / "rows").read_text() == "\\ud800"


def test_rows_are_there_as_soon_as_they_are_added(tmp_path):
    with Rows(tmp_path / "rows", start="<", between=",", end=">") as rows:
        rows.add("a")
        assert (tmp_path / "rows").read_text() == "<a"
        rows.add("b")
        assert (tmp_path / "rows").read_text() == "<a,b"
    assert (tmp_path / "rows").read_text() == "<a,b>"


def test_the_end_is_written_after_an_error(tmp_path):
    def interrupted():
        with Rows(tmp_path / "rows", start="[", end="]") as rows:
            rows.add("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "rows").read_text() == "[1]"


def test_a_file_without_rows_has_start_and_end(tmp_path):
    with Rows(tmp_path / "rows", start="[", end="]"):
        pass
    assert (tmp_path / "rows").read_text() == "[]"


def test_a_file_is_replaced_by_the_first_row(tmp_path):
    (tmp_path / "rows").write_text("precious")
    with Rows(tmp_path / "rows") as rows:
        assert (tmp_path / "rows").read_text() == "precious"
        rows.add("a")
    assert (tmp_path / "rows").read_text() == "a"


def test_a_file_stays_where_no_row_came(tmp_path):
    (tmp_path / "rows").write_text("precious")
    with pytest.raises(ImageError), Rows(tmp_path / "rows", start="[", end="]"):
        raise ImageError
    assert (tmp_path / "rows").read_text() == "precious"


class FullDisk(io.StringIO):
    def write(self, text):
        if "no" in text:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_full_disk_is_one_line(tmp_path):
    rows = Rows(tmp_path / "rows", end="no")
    rows.add("a\n")
    rows._stream.close()
    rows._stream = FullDisk()
    with pytest.raises(ConvNeXtError) as caught, rows:
        rows.add("no")
    assert str(caught.value) == (
        f"{tmp_path / 'rows'} cannot be written: No space left on device. The 1 rows before are "
        "kept; continue with --resume."
    )


def test_a_file_that_may_not_be_written(tmp_path):
    with pytest.raises(ConvNeXtError, match="cannot be written: Is a directory"):
        Rows(tmp_path)


def test_a_reader_that_went_away_is_for_the_caller_to_know(monkeypatch):
    class Gone(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        Rows(None).add("x")
