"""Metrics, parsed by Prometheus' own client, and added up over processes."""

import json
import os

import pytest

from convnext.serve.metrics import FAMILIES, Metrics, SharedMetrics, merged, render


def filled():
    metrics = Metrics()
    metrics.count("convnext_rejected_total", reason='a "b"\n\\c')
    metrics.count("convnext_rejected_total", 2, reason="queue-full")
    metrics.set("convnext_queue_pictures", 3, model="m")
    for seconds in (0.001, 0.0011, 0.3, 100):
        metrics.observe("convnext_request_seconds", seconds, route="/")
    return metrics


def test_the_text_is_what_prometheus_reads():
    parser = pytest.importorskip("prometheus_client.parser")
    families = {
        f.name: f for f in parser.text_string_to_metric_families(render(filled().snapshot()))
    }
    rejected = families["convnext_rejected"]
    assert rejected.type == "counter"
    assert {s.labels["reason"]: s.value for s in rejected.samples} == {
        'a "b"\n\\c': 1,
        "queue-full": 2,
    }
    samples = families["convnext_request_seconds"].samples
    below = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket")}
    assert (below["0.001"], below["0.0025"], below["0.5"], below["30"], below["+Inf"]) == (
        (1, 2, 3, 3, 4)
    )
    [total] = [s.value for s in samples if s.name.endswith("_sum")]
    assert total == pytest.approx(100.3021)


def test_every_family_is_written_as_its_kind():
    metrics = Metrics()
    for name, family in FAMILIES.items():
        {"counter": metrics.count, "gauge": metrics.set, "histogram": metrics.observe}[family.kind](
            name, 1
        )
    text = render(metrics.snapshot())
    for name, family in FAMILIES.items():
        assert f"# TYPE {name} {family.kind}\n" in text
        assert (family.kind == "counter") == name.endswith("_total")


def test_counts_of_processes_are_added_and_gauges_of_dead_ones_left_out():
    total = merged([(filled().snapshot(), True), (filled().snapshot(), False)])
    assert total["convnext_rejected_total"][(("reason", "queue-full"),)] == 4
    assert total["convnext_queue_pictures"][(("model", "m"),)] == 3
    assert total["convnext_request_seconds"][(("route", "/"),)][-1] == pytest.approx(200.6042)


def test_processes_share_their_counts_by_a_folder(tmp_path):
    one, two = SharedMetrics(tmp_path, filled()), SharedMetrics(tmp_path, filled())
    two.publish()
    dead = tmp_path / "999999999-x.json"
    [file] = tmp_path.glob(f"{os.getpid()}-*.json")
    dead.write_text(file.read_text())
    (tmp_path / "1-y.json").write_text("{damaged")
    total = one.total()
    assert total["convnext_rejected_total"][(("reason", "queue-full"),)] == 6
    assert total["convnext_queue_pictures"][(("model", "m"),)] == 6
    assert total["convnext_workers"][()] == 2
    assert json.loads(file.read_text())
    assert SharedMetrics(None, filled()).total()["convnext_workers"][()] == 1
