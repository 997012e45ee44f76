"""A report as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convnext.evaluate.report import Report

__all__ = ["markdown", "summary_rows", "table"]

LISTED = 20  # most rows of a table; report.json has all

SummaryRow = tuple[str, str, str, str, str]


def summary_rows(report: Report) -> list[SummaryRow]:
    """The main results: measure, value, 95 % interval, published value, difference."""
    results, published = report["results"], report["published"] or {}
    rows = []
    for name, title in (("top1", "top-1"), ("top5", "top-5")):
        share, difference = results[name], published.get(f"{name}_difference")
        rows.append(
            (
                title,
                f"{share['percent']:.3f} %" if share else "-",
                _interval(share, "low", "high", ".2f") if share else "-",
                f"{published[name]:g} %" if published.get(name) else "-",
                _signed(difference) if difference else "-",
            )
        )
    for name, title in (("log_loss", "log-loss"), ("ece", "calibration error")):
        value = results[name]
        rows.append((title, "-" if value is None else f"{value:.4f}", "-", "-", "-"))
    speed = report["session"]["pictures_per_second"]
    return [*rows, ("pictures/s", f"{speed:,.1f}", "-", "-", "-")]


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def markdown(report: Report) -> str:
    """Write the whole report as a page."""
    return "\n\n".join(_parts(report)) + "\n"


def _parts(report: Report) -> Iterator[str]:
    model, data, results = report["model"], report["data"], report["results"]
    yield f"# {_cell(model['name'])}"
    yield (
        f"{results['pictures']:,} pictures of {data['classes']:,} classes from "
        f"`{_line(data['path'])}`; the model chose among {data['competing_classes']:,} classes."
    )
    titles = ("measure", "measured", "95 % interval", "published", "difference")
    yield table(titles, summary_rows(report))
    if report["published"]:
        yield (
            f"The published numbers were measured by {report['published']['measured_by']} and are "
            "taken as exact, so a difference has the interval of the measured number (Wilson)."
        )
    if results["unanswered"]:
        yield f"**The logits of {results['unanswered']:,} pictures are not finite numbers.**"
    if results["bad_pictures"]:
        yield f"**{results['bad_pictures']:,} pictures could not be read; they are listed below.**"
    yield from (f"Note: {_line(note)}" for note in report["notes"])
    yield "## What was run"
    yield table(("", ""), list(_facts(report)))
    yield from _classes(report)
    if report["bad_pictures"]:
        yield "## Bad pictures"
        bad = [(picture["id"], picture["error"]) for picture in report["bad_pictures"]]
        yield table(("picture", "why"), bad)


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    model, engine, session = report["model"], report["engine"], report["session"]
    yield "checkpoint", model["checkpoint"] or "none of the published"
    yield "architecture", model["architecture"]
    weights = model["weights"]
    yield "weights", f"{weights['file']} (layout {weights['layout']}), sha256 {weights['sha256']}"
    yield "licence", model["licence"] or "unknown"
    yield "class names", model["class_names"]
    yield "preprocessing", _listing(report["preprocess"])
    yield "engine", f"{engine['name']}, {engine['precision']}, batches of {engine['batch']}"
    yield "labels", report["data"]["labels"]
    yield "data digest", f"{report['data']['fingerprint']} (names and labels)"
    yield "date", session["date"]
    yield "machine", _listing(session["machine"])
    yield "versions", _listing(session["versions"])


def _classes(report: Report) -> Iterator[str]:
    rows = sorted(
        report["per_class"], key=lambda row: (row["correct"] / row["pictures"], row["index"])
    )
    yield "## Worst classes"
    yield table(
        ("class", "name", "wnid", "pictures", "top-1", "top-5"),
        [
            (
                row["index"],
                row["name"],
                row["wnid"] or "-",
                row["pictures"],
                f"{100 * row['correct'] / row['pictures']:.1f} %",
                f"{100 * row['within_5'] / row['pictures']:.1f} %",
            )
            for row in rows[:LISTED]
        ],
    )
    if report["confusions"]:
        yield "## Most frequent confusions"
        yield table(
            ("class", "taken for", "pictures"),
            [(pair["of"], pair["for"], pair["pictures"]) for pair in report["confusions"][:LISTED]],
        )


def _interval(values: Mapping[str, Any], low: str, high: str, form: str) -> str:
    return f"{values[low]:{form}} to {values[high]:{form}}"


def _signed(difference: Mapping[str, float]) -> str:
    return f"{difference['points']:+.3f} ({_interval(difference, 'low', 'high', '+.2f')})"


def _listing(values: Mapping[str, Any]) -> str:
    shown = ((key, v if isinstance(v, str) else json.dumps(v)) for key, v in values.items())
    return "; ".join(f"{key} {value}" for key, value in shown)


def _cell(value: object) -> str:
    """Escape text for a table cell: one line, no bars, no lone surrogates."""
    return _line(value).replace("|", "\\|")


def _line(value: object) -> str:
    return " ".join(str(value).encode("utf-8", "backslashreplace").decode().split())
