"""`benchmarks/growth.py`, without measuring: its points, its fits, and resuming."""

import growth
import numpy as np
import pytest
from growth import Point, along, grown, main, obstacle, points, stored, table

XS = (1, 2, 4, 8, 16, 32, 64)


def test_axes_meet_in_the_base_point():
    found = points(batch=(1, 2), side=(32, 224), model=("a", "convnextv2_atto"), threads=(1, 2))
    base = Point(1, 224, "convnextv2_atto", 2)
    assert len(found) == 5
    assert [base._replace(batch=2), base._replace(side=32), base._replace(model="a")] == [
        point for point in found if point not in (base, base._replace(threads=1))
    ]
    assert points(batch=(8,), side=(64,), model=("a",), threads=(4,)) == [Point(8, 64, "a", 4)]


def test_a_straight_line():
    line = grown(XS, [8 + 3 * x for x in XS])
    assert (line.fixed, line.slope) == (pytest.approx(8), pytest.approx(3))
    assert (line.bend, line.text([])) == (None, "8 + 3 a GMAC")
    np.testing.assert_allclose(line.fitted, [8 + 3 * x for x in XS])


def test_noise_is_no_bend():
    bent = 0
    for seed in range(100):
        noise = np.random.default_rng(seed).normal(0, 0.05, len(XS))
        line = grown(XS, (8 + 3 * np.array(XS)) * np.exp(noise))
        bent += line.bend is not None
        assert line.slope == pytest.approx(3, rel=0.3)
    assert bent <= 5


def test_where_it_bends():
    line = grown(XS, [8 + 3 * x + max(0, x - 8) / 2 for x in XS])
    assert (line.bend, line.after) == (None, line.slope), "it is off by less than 10 %"
    line = grown(XS, [8 + x + 4 * max(0, x - 8) for x in XS])
    assert line.text(list(map(str, XS))) == "8 + 1 a GMAC, from 8 on 5"
    assert grown(XS[:4], [1, 1, 2, 9]).bend is None, "too few points"


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Run the script with a made-up machine; what it measures."""
    found = []

    about = dict.fromkeys(("processor", "flags", "date", "versions"), "x")

    def measure(engine, point, _material, _seconds):
        found.append((engine, *point))
        failed = engine == "onnxruntime" and point.batch == 2
        row = {"engine": engine, **point._asdict(), "gmacs": len(point.model)}
        row |= {"median_ms": "" if failed else 6 + 4 * point.batch / point.threads}
        row |= {"peak_mib": 100 + 7 * point.batch}
        return row | {"error": "No memory." if failed else "", **about}

    def with_material(todo):
        return ((*task, None) for task in todo)

    monkeypatch.setattr(growth, "measure", measure)
    monkeypatch.setattr(growth, "with_material", with_material)

    def run(*arguments):
        found.clear()
        line = ["--engines", "openvino,onnxruntime", "--sides", "224", "--models", "test_v2"]
        main([*line, "--out", str(tmp_path / "x.csv"), *arguments])
        return list(found)

    return run


def test_a_run_resumes(measured, tmp_path, capsys):
    first = measured("--batches", "1,2", "--threads", "2")
    assert [row[:2] for row in first] == [
        *(("openvino", 1), ("onnxruntime", 1), ("openvino", 2), ("onnxruntime", 2)),
    ]
    assert measured("--batches", "1,2", "--threads", "2") == [], "failures are not repeated either"
    assert [row[1] for row in measured("--batches", "1,2,4", "--threads", "2")] == [4, 4]
    assert [row[-1] for row in measured("--batches", "1,2", "--threads", "1,2")] == [1, 1]
    capsys.readouterr()
    assert measured("--table") == []
    rows = stored(tmp_path / "x.csv")
    assert len(rows) == 8
    assert [row["batch"] for row in along(rows, "batch", "openvino")] == ["1", "2", "4"]
    text = capsys.readouterr().out.rstrip("\n")
    assert text == table(rows)
    fits = "6 + 0.286 a GMAC | 107 to 128 | 100 + 1 a GMAC"
    assert f"| openvino | batch | 1 to 4 | 8 to 14 | {fits} |" in text
    line = "| openvino | threads | 1 to 2 | 10 to 8 | 0.80 of it | 107 to 107 | 1.00 of it |"
    assert line in text
    assert "- onnxruntime, batch 2, 224 pixels, test_v2, threads 2: No memory." in text


def test_time_is_over(measured, capsys):
    with pytest.raises(SystemExit, match="has no rows"):
        measured("--batches", "1,2", "--threads", "2", "--minutes", "-1")
    assert "4 points are left: run this again" in capsys.readouterr().out


def test_what_is_not_measured(monkeypatch):
    row = {"engine": "openvino", "threads": "2", "batch": "2", "error": ""}
    row |= {"gmacs": "0.5", "median_ms": "100", "peak_mib": "1024"}
    point = Point(4, 224, "convnextv2_atto", 2)  # 2.2 times as much
    monkeypatch.setattr(growth, "free_memory", lambda: 2.5 * 2**30)
    assert obstacle("openvino", point, [row], 1.2) == ""
    assert obstacle("openvino", point, [row], 1) == "not measured: a call would take 0.22 s"
    monkeypatch.setattr(growth, "free_memory", lambda: 2 * 2**30)
    memory = "not measured: it would take 2.2 GiB of memory"
    assert obstacle("openvino", point, [row], 2) == memory
    assert obstacle("openvino", point, [row, {**row, "batch": "3"}], 2) == "", "the largest counts"
    assert obstacle("onnxruntime", point, [row], 0) == ""
    assert obstacle("openvino", point._replace(batch=1), [row], 0) == ""
    assert obstacle("openvino", point, [{**row, "error": "No."}], 0) == ""


def test_the_plot(tmp_path):
    pytest.importorskip("matplotlib")
    row = {"engine": "openvino", "side": "224", "model": "m", "threads": "2", "gmacs": "1"}
    row |= {"error": "", "peak_mib": "100"}
    rows = [{**row, "batch": str(x), "median_ms": str(x)} for x in XS]
    growth.draw(rows, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
