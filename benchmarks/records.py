"""What every benchmark's CSV says: where and when a row was measured; rows kept and replaced."""

from __future__ import annotations

import csv
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("keras", "tensorflow-cpu", "jax", "torch", "timm", "transformers", "numpy")
THREADS = 2

Row = dict[str, object]


def where() -> dict[str, str]:
    """The machine, the versions, the day."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return {
        "machine": f"{_processor()}, {THREADS} threads",
        "versions": "; ".join([f"python {platform.python_version()}", *found]),
        "date": date.today().isoformat(),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    name = next((x.split(":")[1].strip() for x in text.splitlines() if "model name" in x), "?")
    flags = " AVX512-BF16" if "avx512_bf16" in text else ""
    return name + flags


def save(path: Path, rows: Sequence[Row], key: Sequence[str]) -> None:
    """Put the rows in place of earlier ones of the same key."""
    measured = {tuple(str(row[name]) for name in key) for row in rows}
    kept: list[Row] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = [r for r in csv.DictReader(file) if tuple(r[k] for k in key) not in measured]
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        columns = dict.fromkeys(name for row in [*rows, *kept] for name in row)
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *rows])
