"""Label files of all forms; ambiguous ones are errors."""

import pytest

from convnext.data.ground_truth import labels_in_names, read_ground_truth
from convnext.errors import ArgumentError
from convnext.images.labels import labels_for

WNIDS = labels_for("imagenet-1k").wnids
VAL = [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, 5)]


@pytest.fixture
def truth(tmp_path):
    def truth(text, name="labels.txt", **options):
        path = tmp_path / name
        path.write_text(text)
        return read_ground_truth(path, **options)

    return truth


@pytest.fixture
def _synsets(tmp_path):
    """A synsets file with the classes in reverse order."""
    rows = (f"{wnid} {number} x" for number, wnid in enumerate(reversed(WNIDS), 1))
    (tmp_path / "map_clsloc.txt").write_text("\n".join(rows))


def test_lines_of_labels_go_by_the_number_in_the_name(truth):
    found = truth("a\nb\nc\nd\n")
    assert found.labels(VAL) == ["a", "b", "c", "d"]
    assert found.labels([f"x/{VAL[3]}", VAL[1]]) == ["d", "b"]
    with_wnids = "ILSVRC2012_val_00000003_n01440764.JPEG"
    assert found.labels([with_wnids]) == ["c"]
    with pytest.raises(ArgumentError, match="4 lines, but pictures are numbered 5 to 5"):
        found.labels(["ILSVRC2012_val_00000005.JPEG"])


def test_other_names_go_in_order_and_none_may_be_missing(truth):
    found = truth("a\nb\nc\n")
    assert found.labels(["2.png", "1.png", "3.png"]) == ["b", "a", "c"]
    with pytest.raises(ArgumentError, match="3 labels for 2 pictures"):
        found.labels(["1.png", "2.png"])


@pytest.mark.parametrize(
    "text",
    [
        "ImageId,PredictionString\nx1,n01440764 85 1 499 272\nx2,n01443537 0 0 1 1 n01443537 2 2",
        "x1.JPEG n01440764\nx2.JPEG n01443537",
        "file\tlabel\nx1.JPEG\tn01440764\nx2.JPEG\tn01443537\n",
        'x2.JPEG,"n01443537",2,"a, b"\nx1.JPEG,n01440764,1,"c"',
    ],
)
def test_tables(truth, text):
    found = truth(text, "labels.csv")
    assert found.form == "table of names and labels"
    assert found.labels(["x2.JPEG", "x1.JPEG"]) == ["n01443537", "n01440764"]


def test_names_in_a_table_may_be_paths(truth):
    found = truth("a/1.png,cat\nb/1.png,dog\n2.png,emu\n")
    assert found.labels(["b/1.png", "a/1.png", "c/2.png"]) == ["dog", "cat", "emu"]
    with pytest.raises(ArgumentError, match=r"no label for 1 of 2 pictures, such as '3\.png'"):
        found.labels(["a/1.png", "3.png"])
    with pytest.raises(ArgumentError, match="no label of their own for 2 of 2"):
        found.labels(["x/2.png", "y/2.png"])


def test_a_table_that_contradicts_itself_or_is_not_filled(truth):
    with pytest.raises(ArgumentError, match=r"two labels for '1\.png': 'cat' and 'dog'"):
        truth("1.png,cat\n1.png,dog\n")
    with pytest.raises(ArgumentError, match="no label in column 2"):
        truth("1.png,cat\n2.png,\n")


@pytest.mark.parametrize("rows", [50, 30_000])
def test_a_quote_that_is_not_closed_swallows_no_rows(truth, rows):
    good = "".join(f"x{row}.jpg,5\n" for row in range(1, rows))
    with pytest.raises(ArgumentError, match=r"labels\.txt, line 3: .* all quotes closed"):
        truth(f'file,label\n\nx0.jpg,"5\n{good}')


@pytest.mark.usefixtures("_synsets")
def test_ilsvrc_ids_are_detected_by_1000_and_translated(truth):
    found = truth("1\n2\n1000\n")
    assert found.form == "list of labels, ILSVRC ids"
    assert found.labels(VAL[:3]) == [WNIDS[999], WNIDS[998], WNIDS[0]]
    table = truth("file,label\nx1.JPEG,1000\nx2.JPEG,3\n")
    assert table.labels(["x2.JPEG", "x1.JPEG"]) == [WNIDS[997], WNIDS[0]]


def test_numbers_with_a_zero_are_class_numbers(truth):
    assert truth("0\n999\n").labels(VAL[:2]) == ["0", "999"]
    assert truth("5\n7\n", numbers="index").labels(VAL[:2]) == ["5", "7"]


def test_a_label_too_long_for_a_number_is_a_name(truth):
    assert truth("9" * 5000 + "\nb\n").labels(["1.png", "2.png"]) == ["9" * 5000, "b"]


@pytest.mark.usefixtures("_synsets")
def test_ambiguous_numbers_are_an_error(truth):
    with pytest.raises(ArgumentError, match=r"numbers 5 to 7 in .* are ambiguous"):
        truth("5\n7\n")
    assert truth("5\n7\n", numbers="ilsvrc").labels(VAL[:2]) == [WNIDS[995], WNIDS[993]]
    with pytest.raises(ArgumentError, match="Unknown kind of numbers: 'caffe'"):
        truth("5\n7\n", numbers="caffe")


def test_ilsvrc_ids_need_their_order(truth, tmp_path):
    with pytest.raises(ArgumentError, match=r"meta\.mat or map_clsloc\.txt beside it"):
        truth("1\n1000\n")
    with pytest.raises(ArgumentError, match="cannot be read"):
        truth("1\n1000\n", synsets=tmp_path / "missing.txt")


def test_unreadable_and_empty_files(truth, tmp_path):
    with pytest.raises(ArgumentError, match="is empty"):
        truth("\n \n")
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_ground_truth(tmp_path / "missing.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_ground_truth(tmp_path / "binary.txt")


def test_wnids_in_names():
    names = ["a/ILSVRC2012_val_00000001_n01751748.JPEG", "n01440764_10026.JPEG", "n01443537.png"]
    assert labels_in_names(names) == ["n01751748", "n01440764", "n01443537"]
    assert labels_in_names([*names, "cat.png"]) is None
    assert labels_in_names(["n01440764_n01443537.png"]) is None
