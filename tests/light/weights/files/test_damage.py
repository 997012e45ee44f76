"""Files cut off anywhere, and files with a byte changed: an error of ours or a correct read."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from convnext.errors import WeightsFileError
from convnext.weights.files import hdf5, open_weights, write_weights
from convnext.weights.files.tensors import Mapped
from crafted_files import damaged, dictionary, lazy, tensor, write_legacy_pth

CUTS = 100
FLIPS = {"safetensors": 2000, "pth": 2000, "h5": 2000, "legacy pth": 500, "npz": 500}
HAS_CHECKSUMS = ("npz", "pth")


def write_intact(path: Path, kind: str, arrays: dict[str, np.ndarray]) -> bytes:
    if kind == "legacy pth":
        write_legacy_pth(path, dictionary(a=tensor(), b=tensor(shape=(3, 2), strides=(1, 3))))
    else:
        write_weights(path, lazy(arrays), format=kind)
    return path.read_bytes()


@pytest.mark.parametrize("kind", sorted(FLIPS.keys() - {"h5"}))
def test_damage_is_an_error_or_harmless(kind, tmp_path, arrays):
    path = tmp_path / "a"
    content = write_intact(path, kind, arrays)
    errors, slowest = 0, 0.0
    for seed in range(CUTS + FLIPS[kind]):
        path.unlink()  # writing over a file is slower
        path.write_bytes(damaged(content, seed))
        started = time.process_time()
        try:
            with open_weights(path) as file:
                values = [each.read() for each in file.tensors.values()]
        except WeightsFileError:
            errors += 1
        else:
            if kind in HAS_CHECKSUMS:
                for found, wanted in zip(values, arrays.values(), strict=True):
                    np.testing.assert_array_equal(found, wanted)
        slowest = max(slowest, time.process_time() - started)
    assert errors > 100
    assert slowest < 5


SURVEYS = """
import importlib.util, json, pathlib, sys, time

survey_path, tests, folder, first, last = sys.argv[1:]
sys.path.insert(0, tests)
from crafted_files import damaged

spec = importlib.util.spec_from_file_location("survey", survey_path)
survey = importlib.util.module_from_spec(spec)
spec.loader.exec_module(survey)
folder = pathlib.Path(folder)
content = (folder / "intact").read_bytes()
allowed = survey.SECONDS
for seed in range(int(first), int(last)):
    changed = damaged(content, seed)
    for name in ("damaged", "spill"):
        (folder / name).unlink(missing_ok=True)
    (folder / "damaged").write_bytes(changed)
    survey.SECONDS = int(time.process_time()) + allowed + 1
    survey.limit(len(changed))
    report = survey.survey(folder / "damaged", 0, len(changed), folder / "spill")
    print(json.dumps(report), flush=True)
"""


def surveys(folder: Path) -> list[dict]:
    """What a survey says about each damaged file; as in life, its process may die of one."""
    reports: list[dict] = []
    wanted = CUTS + FLIPS["h5"]
    while len(reports) < wanted:
        arguments = [hdf5.SURVEY, Path(__file__).parent, folder, len(reports), wanted]
        done = subprocess.run(
            [sys.executable, "-c", SURVEYS, *map(str, arguments)], capture_output=True, text=True
        )
        assert done.returncode <= 0, done.stderr  # it ends well or by a signal
        reports += map(json.loads, done.stdout.splitlines())
        if done.returncode:
            reports.append({"refused": "the process died"})
    return reports


@pytest.mark.slow
def test_damage_to_an_hdf5_file_is_an_error_or_harmless(tmp_path, arrays, monkeypatch):
    content = write_intact(tmp_path / "intact", "h5", arrays)
    errors = 0
    for seed, report in enumerate(surveys(tmp_path)):
        monkeypatch.setattr(hdf5, "_survey", lambda *_, report=report: report)
        changed = damaged(content, seed)
        source = Mapped(np.frombuffer(changed, np.uint8))
        try:
            _, tensors, _ = hdf5.read(tmp_path / "damaged", 0, source, tmp_path)
            for each in tensors.values():
                each.read()
        except WeightsFileError:
            errors += 1
    assert errors > 100
