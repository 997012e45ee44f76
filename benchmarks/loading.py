"""Times and weighs the loading of published sizes beside timm and transformers.

One run is a fresh process: import everything, load a tiny model so that nothing is loaded or set up
for the first time; then what counts: build the model, fill it from a file, read every parameter.
Runs take turns (A B C A B C ...), so that a change of the machine's speed meets all; the ratio of
times is the median of the rounds', with its 95 % interval, and memory is compared by medians.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

from memory import mib, reset_peak
from records import THREADS, save, where
from turns import Contender, Report, Until, add_limits, limits, ratio_of, serve, timed, times_of

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
FORMATS = ("pth", "safetensors")
MIB = 2**20


# ---- in a contender's process


def prepare(library: str, backend: str, file: str, folder: Path, size: str) -> tuple[Report, Any]:
    """Load a tiny model; a turn loads the real one."""
    load = {"convnext": with_convnext, "timm": with_timm, "transformers": with_transformers}
    build = load[library]()

    def loaded(size: str) -> None:
        kept.append(build(size, folder / size / file))
        touch(kept[-1], backend)

    kept: list[object] = []
    loaded("test")
    kept.clear()
    gc.collect()
    reset_peak()
    report = {"process": os.getpid(), "anonymous": mib("RssAnon"), "resident": mib("VmHWM")}

    def turn(_order: str) -> Report:
        seconds = timed(lambda: loaded(size))
        return {"seconds": seconds, "anonymous": mib("RssAnon"), "resident": mib("VmHWM")}

    return report, turn


def touch(model: Any, backend: str) -> None:
    """Read every parameter: transformers maps the file and leaves the reading to the first use."""
    if backend == "torch":  # in the others everything was written, so it is there
        for parameter in model.parameters():
            parameter.sum()


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
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path)
        by_convolution = state["stages.0.blocks.0.mlp.fc1.weight"].ndim == 4
        model = ConvNeXt(depths=variant.depths, dims=variant.dims, conv_mlp=by_convolution)
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


def run_once(contender: tuple[str, str], file: str, size: str, folder: Path) -> Report:
    """One fresh process; what it took and what it needed beyond its start."""
    environment = {"KERAS_BACKEND": contender[1], "OMP_NUM_THREADS": THREADS}
    arguments = (*contender, file, folder, size)
    with Contender("", __file__, *arguments, **environment, TF_CPP_MIN_LOG_LEVEL=3) as one:
        before, peaks, ended = one.report, [0.0], Event()

        def look() -> None:
            while not ended.wait(0.002):
                peaks.append(mib("RssAnon", before["process"]))

        looking = Thread(target=look)
        looking.start()
        try:
            one.turn()
        finally:
            ended.set()
            looking.join()
    after = one.turns[0]
    return {
        "seconds": after["seconds"],
        "anonymous": max(*peaks, after["anonymous"]) - before["anonymous"],
        "resident": after["resident"] - before["resident"],
        "in_all": after["resident"],
    }


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


def race(size: str, form: str, folder: Path, until: Until) -> Iterator[dict[str, object]]:
    """A row for each contender, ours with the ratios to both peers."""
    runs: dict[tuple[str, str], list[Report]] = {contender: [] for contender in CONTENDERS}

    def turn(contender: tuple[str, str]) -> float:
        file = FILES[contender[0]][form][0]
        runs[contender].append(run_once(contender, file, size, folder))
        return float(runs[contender][-1]["seconds"])

    turns = {" on ".join(contender): partial(turn, contender) for contender in CONTENDERS}
    times = times_of(turns, until, f"{size} .{form}", base=-1)
    medians = {
        contender: {key: statistics.median(run[key] for run in own) for key in own[0]}
        for contender, own in runs.items()
    }
    for contender, own in medians.items():
        row: dict[str, object] = {
            "size": size,
            "format": form,
            "library": contender[0],
            "backend": contender[1],
            "file_mib": round((folder / size / FILES["timm"][form][0]).stat().st_size / MIB),
            "median_s": round(own["seconds"], 2),
            **{f"{key}_mib": round(own[key]) for key in ("anonymous", "resident", "in_all")},
        }
        print(*(f"{key} {value}" for key, value in row.items()), sep="  ")
        for peer in PEERS if contender[0] == "convnext" else ():
            ratio = ratio_of(times[" on ".join(contender)], times[f"{peer} on torch"])
            print(f"  seconds over those of {peer}: {ratio}")
            row |= ratio.columns(f"seconds_over_{peer}")
            for key in ("anonymous", "resident"):
                row[f"{key}_over_{peer}"] = round(own[key] / medians[peer, "torch"][key], 2)
        yield {**row, "rounds": len(runs[contender]), **where()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", default=["base"], help="V1 sizes; by default base")
    add_limits(parser, 600)
    parser.add_argument("--dry", action="store_true", help="print, and store nothing")
    parser.add_argument("--serve", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        library, backend, file, folder, size = args.serve
        serve(lambda: prepare(library, backend, file, Path(folder), size))
        return
    for size in args.sizes:
        with files(size) as folder:
            rows = [row for form in FORMATS for row in race(size, form, folder, limits(args))]
        if not args.dry:
            save(RESULTS, rows, ("size",))


if __name__ == "__main__":
    main()
