"""The CSV files of the scripts in `benchmarks/`."""

import csv
import os

from memory import mib
from records import save


def test_rows_replace_those_of_the_same_key_and_keep_the_columns_of_others(tmp_path):
    path = tmp_path / "results" / "x.csv"
    save(path, [{"task": "a", "ms": 1}, {"task": "b", "ms": 2}], ("task",))
    save(path, [{"task": "b", "mib": 3}], ("task",))
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"task": "a", "mib": "", "ms": "1"},
            {"task": "b", "mib": "3", "ms": ""},
        ]


def test_memory_of_a_process():
    here = mib("VmHWM")
    assert here > 10
    assert mib("VmHWM", os.getpid()) >= here
    assert mib("VmHWM", 2**30) == 0
