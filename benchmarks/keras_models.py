"""Times our Keras models beside keras.applications and timm, on every backend.

Each contender lives in a process of its own, because frameworks in one process disturb each other.
The processes of one backend take turns, one call a turn (A B C A B C ...), so that a change of the
machine's speed meets all of them; what counts is the ratio in a round, its median and 95 %
interval. Backends follow each other: a training step at 224 pixels takes up to 8 GB a process.

    python benchmarks/keras_models.py                 # everything, about half an hour
    python benchmarks/keras_models.py forward-16 --only jax --rounds 5
    python benchmarks/keras_models.py --table         # the stored results as Markdown
    python benchmarks/keras_models.py --builds        # seconds to build every variant, as Markdown

Results go to benchmarks/results/keras_models.csv, with the machine and the versions in each row.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from records import THREADS, save, where
from turns import Contender, Report, Until, add_limits, alternate, limits, ratio_of, serve

RESULTS = Path(__file__).parent / "results" / "keras_models.csv"
BACKENDS = ("tensorflow", "jax", "torch")
ENVIRONMENT = {"OMP_NUM_THREADS": THREADS, "TF_CPP_MIN_LOG_LEVEL": 3}
# task: (kind, pictures in a batch, side, precision)
TASKS = {
    "forward-1": ("forward", 1, 224, "float32"),
    "forward-16": ("forward", 16, 224, "float32"),
    "forward-16-at-64": ("forward", 16, 64, "float32"),
    "step-16-at-32": ("step", 16, 32, "float32"),
    "step-16-at-64": ("step", 16, 64, "float32"),
    "step-16": ("step", 16, 224, "float32"),
    "forward-16-bfloat16": ("forward", 16, 224, "mixed_bfloat16"),
    "build": ("build", 1, 224, "float32"),
}


def contenders(kind: str, precision: str) -> list[tuple[str, str]]:
    """Who takes part: (library, backend)."""
    pairs = [(library, b) for b in BACKENDS for library in ("convnext", "keras.applications")]
    if precision == "mixed_bfloat16":
        pairs = [(name, b) for b in BACKENDS for name in ("convnext", "convnext float32")]
    if kind in ("forward", "step"):
        pairs.append(("timm", "torch"))
    if kind == "step":
        pairs.append(
            ("timm fused", "torch")
        )  # with PyTorch's fused AdamW, which is not its default
    return pairs


# ---- in a contender's process


def prepare(library: str, backend: str, task: str) -> tuple[Report, Callable[[str], Report]]:
    """Build the model; a turn is one call."""
    kind, batch, side, precision = TASKS[task]
    if library.endswith("float32"):
        precision = "float32"
    os.environ["KERAS_BACKEND"] = backend
    import_all_of(library)
    imported = peak_mib()
    begun = time.perf_counter()
    if library.startswith("timm"):
        call = timm_call(kind, batch, side, precision, fused=library.endswith("fused"))
    else:
        call = keras_call(library.split()[0], kind, batch, side, precision)
    built = time.perf_counter()
    call()
    first = time.perf_counter()
    call()

    def turn(_order: str) -> Report:
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "peak": peak_mib()}

    return {"build": built - begun, "first": first - built, "imported": imported}, turn


def import_all_of(library: str) -> None:
    """Import what a library needs, before its memory and times are measured."""
    if library.startswith("timm"):
        import importable_torchvision  # noqa: F401
        import timm  # noqa: F401
    elif library.startswith("convnext"):
        import convnext.applications
        import convnext.optimizers  # noqa: F401
    else:
        import keras.applications  # noqa: F401


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def keras_call(
    library: str, kind: str, batch: int, side: int, precision: str
) -> Callable[[], object]:
    import keras
    import numpy as np

    keras.config.set_dtype_policy(precision)
    images = np.random.default_rng(0).standard_normal((batch, side, side, 3), dtype=np.float32)
    labels = np.arange(batch) % 1000
    if library == "convnext":
        # The published strides at every size, as keras.applications has them.
        from convnext.applications import ConvNeXtTiny
    else:
        from keras.applications import ConvNeXtTiny
    model = ConvNeXtTiny(weights=None, input_shape=(side, side, 3), include_preprocessing=False)
    if kind == "step":
        optimizer = keras.optimizers.AdamW(1e-4)
        if library == "convnext":
            from convnext.optimizers import AdamW

            optimizer = AdamW(1e-4)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        return lambda: model.fit(images, labels, batch_size=batch, epochs=1, verbose=0)
    return lambda: model.predict(images, batch_size=batch, verbose=0)


def build_every_variant(backend: str) -> None:
    """Print how long each takes, Keras being there and one model built already."""
    os.environ["KERAS_BACKEND"] = backend
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras

    from convnext import VARIANTS, create_convnext_v1, create_convnext_v2

    create = {"v1": create_convnext_v1, "v2": create_convnext_v2}
    create_convnext_v2("test")
    seconds = {}
    for variant in VARIANTS.values():
        start = time.perf_counter()
        create[variant.family](variant.size)
        seconds[variant.name] = round(time.perf_counter() - start, 2)
        keras.backend.clear_session()
    print(json.dumps(seconds))


def timm_call(
    kind: str, batch: int, side: int, precision: str, *, fused: bool
) -> Callable[[], object]:
    import timm
    import torch

    torch.set_num_threads(THREADS)
    model = timm.create_model("convnext_tiny")
    images = torch.randn(batch, 3, side, side)
    labels = torch.arange(batch) % 1000
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed_bfloat16")
    if kind == "forward":
        model.eval()

        def forward() -> object:
            with torch.inference_mode(), half:
                return model(images)

        return forward
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=fused)

    def step() -> object:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# ---- in the process that keeps time


def run(task: str, until: Until, backend: str) -> list[dict[str, object]]:
    kind, batch, side, precision = TASKS[task]
    with ExitStack() as stack:
        started = []
        for library, its_backend in contenders(kind, precision):
            if its_backend == backend:
                about = (library, backend, task)
                one = Contender(library, __file__, *about, **ENVIRONMENT)
                started.append(stack.enter_context(one))
        if kind != "build":
            alternate(started, until, f"{task} on {backend}")
    rows = []
    for contender in started:
        seconds = contender.seconds
        ratio = ratio_of(seconds, started[0].seconds) if seconds else None
        if ratio and contender is not started[0]:
            print(f"{task} on {backend}, {contender.name} to ours: {ratio}")
        rows.append(
            {
                "task": task,
                "library": contender.name,
                "backend": backend,
                "precision": precision if "float32" not in contender.name else "float32",
                "batch": batch,
                "side": side,
                "median_ms": round(1e3 * statistics.median(seconds), 1) if seconds else "",
                "min_ms": round(1e3 * min(seconds), 1) if seconds else "",
                **dict.fromkeys(("ratio", "ratio_low", "ratio_high", "rounds")),
                **(ratio.columns("ratio") if ratio else {}),
                "build_s": round(contender.report["build"], 2),
                "first_call_s": round(contender.report["first"], 2),
                "peak_mib": round(contender.turns[-1]["peak"]) if seconds else "",
                "imported_mib": round(contender.report["imported"]),
                **where(),
            }
        )
    return rows


def show(rows: list[dict[str, object]]) -> None:
    """A table of times and memory."""
    for row in rows:
        print(
            f"{row['task']:20} {row['backend']:11} {row['library']:20} "
            f"{row['median_ms']!s:>9} ms  build {row['build_s']!s:>6} s  "
            f"first {row['first_call_s']!s:>6} s  peak {row['peak_mib']!s:>5} MiB, "
            f"of which {row['imported_mib']} by imports"
        )


def _interval(row: Mapping[str, str]) -> str:
    ends = f" [{row['ratio_low']}, {row['ratio_high']}]" if row["ratio_low"] else ""
    return f"{row['ratio']}{ends}"


def print_markdown() -> None:
    """The stored results, with the ratio of each peer to ours on the same backend."""
    with RESULTS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    print(
        "| task | backend | library | median ms | ratio to ours | rounds | first s | peak MiB "
        "| of which imports |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        before = [row[name] for name in ("task", "backend", "library", "median_ms")]
        after = [row[name] for name in ("rounds", "first_call_s", "peak_mib", "imported_mib")]
        print("|", " | ".join([*before, _interval(row), *after]), "|")


def print_builds() -> None:
    """Seconds to build each variant with random weights, one process a backend."""
    columns = {}
    for backend in BACKENDS:
        done = subprocess.run(
            [sys.executable, __file__, "--build-every", backend],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        columns[backend] = json.loads(done.stdout.splitlines()[-1])
    print("| variant |", " | ".join(columns), "|")
    print("| --- |", " | ".join("---" for _ in columns), "|")
    for name in columns[BACKENDS[0]]:
        if not name.startswith("test"):
            print(f"| {name} |", " | ".join(str(columns[b][name]) for b in columns), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []], help="by default all")
    add_limits(parser)
    parser.add_argument("--only", choices=BACKENDS, help="one backend")
    parser.add_argument("--table", action="store_true", help="print the stored results")
    parser.add_argument("--builds", action="store_true", help="time building every variant")
    parser.add_argument("--build-every", choices=BACKENDS, help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(lambda: prepare(*args.serve))
        return
    if args.build_every:
        build_every_variant(args.build_every)
        return
    if args.builds:
        print_builds()
        return
    if args.table:
        print_markdown()
        return
    for task in args.tasks or TASKS:
        for backend in [args.only] if args.only else BACKENDS:
            rows = run(task, limits(args), backend)
            show(rows)
            save(RESULTS, rows, ("task", "backend"))


if __name__ == "__main__":
    main()
