"""Times and weighs the loading of published sizes beside timm and transformers.

One run is a fresh process: import everything, load a tiny model so that nothing is loaded or set up
for the first time; then what counts: build the model, fill it from a file, read every parameter.
Runs take turns (A B C A B C ...), so that a change of the machine's speed meets all; medians are
compared.
Files hold random weights and are in the page cache, so the disk plays no part.

Memory is what a run needs beyond what it had after the tiny model:

- anonymous: what only this process has and cannot be dropped (`RssAnon`, looked at every 2 ms from
  outside), the model itself included;
- resident: with the pages of mapped files, which the system drops where memory is short (`VmHWM`).

    python benchmarks/loading.py                       # base, a few minutes
    python benchmarks/loading.py xlarge --rounds 3     # needs 8 GB of disk and 8 GB of memory

Results go to benchmarks/results/loading.csv, with the machine and the versions in each row.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from records import THREADS, save, where

RESULTS = Path(__file__).parent / "results" / "loading.csv"
BACKENDS = ("tensorflow", "jax", "torch")
PEERS = ("timm", "transformers")
CONTENDERS = [
    *(("convnext", backend) for backend in BACKENDS),
    *((peer, "torch") for peer in PEERS),
]
FILES = {  # library: format: (file, layout)
    "timm": {"pth": ("timm.pth", "timm"), "safetensors": ("timm.safetensors", "timm")},
    "transformers": {
        "pth": ("pth/pytorch_model.bin", "huggingface"),
        "safetensors": ("safetensors/model.safetensors", "huggingface"),
    },
}
FILES["convnext"] = FILES["timm"]
MIB = 2**20


# ---- in a contender's process


def measure(library: str, backend: str, size: str, form: str, folder: Path) -> None:
    """Load a tiny model, wait for a line on standard input, then load the real one."""
    os.environ["KERAS_BACKEND"] = backend
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    file = FILES[library][form][0]
    load = {"convnext": with_convnext, "timm": with_timm, "transformers": with_transformers}
    build = load[library]()
    touch(build("test", folder / "test" / file), backend)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # from here on VmHWM is the peak of what follows
    before = status("self")
    print(json.dumps(before), flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    model = build(size, folder / size / file)
    touch(model, backend)
    seconds = time.perf_counter() - start
    after = status("self")
    print(json.dumps({"seconds": seconds, **after}), flush=True)
    del model


def touch(model: Any, backend: str) -> None:
    """Read every parameter: transformers maps the file and leaves the reading to the first use."""
    if backend == "torch":  # in the others everything was written, so it is there
        for parameter in model.parameters():
            parameter.sum()


def status(process: int | str) -> dict[str, float]:
    """A process's anonymous and peak resident memory in MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    entries = dict(line.split(":", 1) for line in lines)
    return {
        "anonymous": int(entries["RssAnon"].split()[0]) / 1024,
        "resident": int(entries["VmHWM"].split()[0]) / 1024,
    }


def with_convnext() -> Callable[[str, Path], object]:
    from convnext import create_convnext_v1

    return lambda size, path: create_convnext_v1(size, weights=path)


def with_timm() -> Callable[[str, Path], object]:
    torch = torch_with_torchvision()
    from safetensors.torch import load_file
    from timm.models.convnext import ConvNeXt

    from convnext import VARIANTS

    def load(size: str, path: Path) -> object:
        variant = VARIANTS["test_v1" if size == "test" else f"convnext_{size}"]
        model = ConvNeXt(depths=variant.depths, dims=variant.dims)
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path)
        model.load_state_dict(state)
        return model

    return load


def with_transformers() -> Callable[[str, Path], object]:
    torch_with_torchvision()
    from transformers import ConvNextForImageClassification

    return lambda _size, path: ConvNextForImageClassification.from_pretrained(path.parent)


def torch_with_torchvision() -> object:
    import torch

    torch.set_num_threads(THREADS)
    importlib.import_module("importable_torchvision")
    return torch


# ---- in the process that keeps time


def run_once(library: str, backend: str, size: str, form: str, folder: Path) -> dict[str, float]:
    """One fresh process; what it took and what it needed beyond its start."""
    arguments = ["--measure", library, backend, size, form, str(folder)]
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    before = answer(process)
    process.stdin.write("go\n")
    process.stdin.flush()
    peak = 0.0
    os.set_blocking(process.stdout.fileno(), False)
    while not (line := process.stdout.readline()):
        peak = max(peak, status(process.pid)["anonymous"])
        time.sleep(0.002)
    after = json.loads(line)
    process.communicate("")
    return {
        "seconds": after["seconds"],
        "anonymous": max(peak, after["anonymous"]) - before["anonymous"],
        "resident": after["resident"] - before["resident"],
        "in_all": after["resident"],
    }


def answer(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdout
    for line in process.stdout:
        if line.startswith("{"):
            return dict(json.loads(line))
    assert process.stderr
    raise RuntimeError(process.stderr.read())


@contextmanager
def files(size: str) -> Iterator[Path]:
    """Random weights of a size and of the tiny model, as each library wants them."""
    import numpy as np

    from convnext import VARIANTS
    from convnext.weights.canonical import parameter_shapes
    from convnext.weights.save import save_weights

    with TemporaryDirectory(prefix="convnext-bench-") as name:
        folder = Path(name)
        for which in ("test", size):
            variant = VARIANTS["test_v1" if which == "test" else f"convnext_{which}"]
            rng = np.random.default_rng(0)
            weights = {
                name: rng.standard_normal(shape, dtype=np.float32)
                for name, shape in parameter_shapes(variant).items()
            }
            for file, layout in [f for peer in PEERS for f in FILES[peer].values()]:
                path = folder / which / file
                path.parent.mkdir(parents=True, exist_ok=True)
                save_weights(weights, path, layout=layout)
                if layout == "huggingface":
                    config = {
                        "model_type": "convnext",
                        "architectures": ["ConvNextForImageClassification"],
                        "depths": variant.depths,
                        "hidden_sizes": variant.dims,
                        "id2label": {str(index): str(index) for index in range(1000)},
                    }
                    (path.parent / "config.json").write_text(json.dumps(config))
            del weights
        yield folder


def run(size: str, rounds: int) -> list[dict[str, object]]:
    rows = []
    with files(size) as folder:
        for form in ("pth", "safetensors"):
            results: dict[tuple[str, str], list[dict[str, float]]] = {c: [] for c in CONTENDERS}
            for number in range(rounds):
                print(f"\r{size} .{form}: round {number + 1} of {rounds} ", end="", file=sys.stderr)
                for library, backend in CONTENDERS:
                    found = run_once(library, backend, size, form, folder)
                    results[library, backend].append(found)
            print(file=sys.stderr)
            file = folder / size / FILES["timm"][form][0]
            rows += table(size, form, results, file.stat().st_size / MIB)
    return rows


def table(
    size: str,
    form: str,
    results: dict[tuple[str, str], list[dict[str, float]]],
    file_mib: float,
) -> list[dict[str, object]]:
    """A row for each contender, with our ratios to both peers."""
    medians = {
        contender: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for contender, runs in results.items()
    }
    rows: list[dict[str, object]] = []
    for (library, backend), median in medians.items():
        row: dict[str, object] = {
            "size": size,
            "format": form,
            "library": library,
            "backend": backend,
            "file_mib": round(file_mib),
            "median_s": round(median["seconds"], 2),
            "anonymous_mib": round(median["anonymous"]),
            "resident_mib": round(median["resident"]),
            "in_all_mib": round(median["in_all"]),
            "rounds": len(results[library, backend]),
        }
        for peer in PEERS:
            theirs = medians[peer, "torch"]
            ours = library == "convnext"
            row |= {
                f"{key}_over_{peer}": round(median[key] / theirs[key], 2) if ours else ""
                for key in ("seconds", "anonymous", "resident")
            }
        rows.append(row | where())
    return rows


def show(rows: list[dict[str, object]]) -> None:
    for row in rows:
        ratios = "  ".join(
            f"{peer}: "
            + ", ".join(f"{row[f'{k}_over_{peer}']}x" for k in ("seconds", "anonymous", "resident"))
            for peer in PEERS
            if row["library"] == "convnext"
        )
        print(
            f"{row['size']:7} .{row['format']:12} {row['library']:13} {row['backend']:11}"
            f"{row['median_s']!s:>6} s  anonymous {row['anonymous_mib']!s:>5}  "
            f"resident {row['resident_mib']!s:>5}  in all {row['in_all_mib']!s:>5} MiB  {ratios}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", default=["base"], help="V1 sizes; by default base")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        *contender, folder = args.measure
        measure(*contender, Path(folder))
        return
    for size in args.sizes:
        rows = run(size, args.rounds)
        show(rows)
        save(RESULTS, rows, ("size",))


if __name__ == "__main__":
    main()
