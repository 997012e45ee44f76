"""`benchmarks/growth.py`, without measuring: its points, its fits, and resuming."""

import growth
import numpy as np
import pytest
from growth import Point, along, grown, main, points, stored, table

XS = (1, 2, 4, 8, 16, 32, 64)


def test_axes_meet_in_the_base_point():
    found = points(batch=(1, 2), side=(32, 224), model=("a", "convnextv2_tiny"), threads=(1, 2))
    base = Point(1, 224, "convnextv2_tiny", 2)
    assert len(found) == 5
    assert [base._replace(batch=2), base._replace(side=32), base._replace(model="a")] == [
        point for point in found if point not in (base, base._replace(threads=1))
    ]
    assert points(batch=(8,), side=(64,), model=("a",), threads=(4,)) == [Point(8, 64, "a", 4)]


def test_a_power_law():
    law = grown(XS, [3 * x**0.9 for x in XS])
    assert law.exponent == pytest.approx(0.9)
    assert (law.bend, str(law)) == (None, "0.90")
    np.testing.assert_allclose(law.fitted, [3 * x**0.9 for x in XS])


def test_noise_is_no_bend():
    bent = 0
    for seed in range(100):
        noise = np.random.default_rng(seed).normal(0, 0.05, len(XS))
        law = grown(XS, np.array(XS) ** 0.9 * np.exp(noise))
        bent += law.bend is not None
        assert law.exponent == pytest.approx(0.9, abs=0.1)
    assert bent <= 5


def test_where_it_bends():
    law = grown(XS, [max(8, x) ** 1.1 for x in XS])
    assert law.bend == 8
    assert (law.before, law.after) == (pytest.approx(0, abs=1e-9), pytest.approx(1.1))
    assert str(law).endswith("0.00, from 8 on 1.10")
    assert grown(XS[:4], [1, 1, 2, 4]).bend is None, "too few points"


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Run the script with a made-up machine; what it measures."""
    found = []

    about = dict.fromkeys(("processor", "flags", "date", "versions"), "x")

    def measure(engine, point, _material, _seconds):
        found.append((engine, *point))
        failed = engine == "onnxruntime" and point.batch == 2
        row = {"engine": engine, **point._asdict(), "gmacs": len(point.model)}
        row |= {"median_ms": "" if failed else 4 * point.batch / point.threads, "peak_mib": 100}
        return row | {"error": "No memory." if failed else "", **about}

    def with_material(todo):
        return ((point, None) for point in todo)

    monkeypatch.setattr(growth, "measure", measure)
    monkeypatch.setattr(growth, "with_material", with_material)
    monkeypatch.setattr(growth, "draw", lambda _rows, path: path.touch())

    def run(*arguments):
        found.clear()
        line = ["--engines", "openvino,onnxruntime", "--sides", "224", "--models", "test_v2"]
        main([*line, "--out", str(tmp_path), *arguments])
        return list(found)

    return run


def test_a_run_resumes(measured, tmp_path):
    first = measured("--batches", "1,2", "--threads", "2")
    assert [row[:2] for row in first] == [
        *(("openvino", 1), ("onnxruntime", 1), ("openvino", 2), ("onnxruntime", 2)),
    ]
    assert measured("--batches", "1,2", "--threads", "2") == [], "failures are not repeated either"
    assert [row[1] for row in measured("--batches", "1,2,4", "--threads", "2")] == [4, 4]
    assert [row[-1] for row in measured("--batches", "1,2", "--threads", "1,2")] == [1, 1]
    assert measured("--report") == []
    rows = stored(tmp_path / "growth.csv")
    assert len(rows) == 8
    assert [row["batch"] for row in along(rows, "batch", "openvino")] == ["1", "2", "4"]
    text = (tmp_path / "growth.md").read_text()
    assert text == table(rows)
    assert "| openvino | batch | 1 | 4 | 1.00 | 0.00 | 2.0, 8.0 |" in text
    assert "| openvino | threads | 1 | 2 | -1.00 | 0.00 | 4.0, 2.0 |" in text
    assert "- onnxruntime, 2, 224, test_v2, 2: No memory." in text
    assert (tmp_path / "growth.png").exists()


def test_nothing_to_report(tmp_path):
    with pytest.raises(SystemExit, match=r"growth\.csv has no rows"):
        main(["--report", "--out", str(tmp_path)])


def test_the_plot(tmp_path):
    pytest.importorskip("matplotlib")
    row = {"engine": "openvino", "side": "224", "model": "m", "threads": "2", "gmacs": "1"}
    row |= {"error": "", "peak_mib": "100"}
    rows = [{**row, "batch": str(x), "median_ms": str(x)} for x in XS]
    growth.draw(rows, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
