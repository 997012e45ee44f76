"""Checks and times this package on a GPU with CUDA, beside timm with torch.compile.

    python benchmarks/gpu.py                    # at most 10 minutes
    python benchmarks/gpu.py --cpu --seconds 300    # tries the script itself on a small network

First each backend of Keras computes the same pictures with the same random weights as an engine on
the CPU, in float32 (which GPUs multiply in TF32) and bfloat16. Then V1 Tiny is timed in bfloat16 on
pictures that are on the GPU already: calls, and steps of training with AdamW. Each contender has a
process of its own, and they take turns; ratios are timm's time over the contender's. What is not
installed, or does not see the GPU, says so. Results also go to benchmarks/results/gpu.csv.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from records import Row, save, where
from turns import Contender, Report, Until, ratio_of, serve, take_turns

from convnext.bench.process import FailedError

RESULTS = Path(__file__).parent / "results" / "gpu.csv"
BACKENDS = ("torch", "jax", "tensorflow")
REFERENCE, TIMM = "reference", "timm, torch.compile"
SPARE = 15  # seconds of a part's time that are kept for a round that has begun
CALLS = 10  # of a turn
CLOSE = {"float32": 40, "bfloat16": 20}  # decibels that answers have to agree by
# variant, side, pictures of a call, pictures of a step
LARGE = ("convnext_tiny", 224, 256, 128)
SMALL = ("test_v1", 32, 2, 2)
ENVIRONMENT = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the GPU
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def gpu_name() -> str | None:
    """The GPU that PyTorch can use; None without one."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


# ---- in a contender's process


def prepare(
    task: str, library: str, folder: Path, *, cpu: bool
) -> tuple[Report, Callable[[str], Report]]:
    """Build what is timed or checked; a turn is some calls, or the answers in a precision."""
    variant, side, *batches = SMALL if cpu else LARGE
    if library not in (REFERENCE, TIMM):
        check_device(cpu=cpu)
    if task == "answers":
        engine = "auto" if library == REFERENCE else "keras"
        return {}, lambda precision: answers(folder, engine, precision)
    batch = batches[task == "step"]
    make = timm_call if library == TIMM else keras_call
    call = make(task, variant, side, batch, cpu=cpu)
    for _ in range(3):
        call()

    def turn(_order: str) -> Report:
        begun = time.perf_counter()
        for _ in range(CALLS):
            call()
        return {"seconds": (time.perf_counter() - begun) / CALLS}

    return {"pictures": batch}, turn


def check_device(*, cpu: bool) -> None:
    """Raise an error if Keras' backend does not see a GPU."""
    import keras

    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        found = torch.cuda.is_available()
    elif backend == "jax":
        import jax

        found = jax.default_backend() == "gpu"
    else:
        import tensorflow as tf

        found = bool(tf.config.list_physical_devices("GPU"))
    if not found and not cpu:
        raise RuntimeError(f"this build of {backend} sees no GPU")


def answers(folder: Path, engine: str, precision: Any) -> Report:
    """Write the logits of the pictures."""
    from convnext.engines import open_engine

    opened = open_engine(folder / "weights.safetensors", engine, precision=precision)
    path = folder / f"{os.getpid()}.npy"
    np.save(path, opened.predict(np.load(folder / "pictures.npy")))
    return {"seconds": 0.0, "path": str(path), "engine": opened.name}


def keras_call(task: str, variant: str, side: int, batch: int, *, cpu: bool) -> Callable[[], Any]:
    import keras

    from convnext import create_convnext_v1

    keras.config.set_dtype_policy("mixed_bfloat16")
    model = create_convnext_v1(variant.split("_")[1].replace("v1", "test"), 1000, (side, side, 3))
    pixels = np.random.default_rng(0).standard_normal((batch, side, side, 3), np.float32)
    x, y = keras.ops.convert_to_tensor(pixels), keras.ops.convert_to_tensor(np.arange(batch) % 1000)
    if task == "step":
        optimizer = keras.optimizers.AdamW(1e-4)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        return lambda: float(model.train_on_batch(x, y))
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        compiled = torch.compile(model)

        def forward() -> Any:
            with torch.inference_mode():
                return compiled(x, training=False)[0, 0].item()

        return forward
    if backend == "jax":
        import jax

        own = [variable.value for variable in model.trainable_variables]
        rest = [variable.value for variable in model.non_trainable_variables]
        run = jax.jit(lambda own, rest, x: model.stateless_call(own, rest, x, training=False)[0])
        return lambda: float(run(own, rest, x)[0, 0])
    import tensorflow as tf

    traced = tf.function(lambda x: model(x, training=False), jit_compile=not cpu)
    return lambda: float(traced(x)[0, 0])


def timm_call(task: str, variant: str, side: int, batch: int, *, cpu: bool) -> Callable[[], Any]:
    import importable_torchvision  # noqa: F401
    import timm
    import torch

    device = "cpu" if cpu else "cuda"
    name = "test_convnext" if cpu else variant
    model = timm.create_model(name, num_classes=1000)
    model = model.to(device, memory_format=torch.channels_last)
    x = torch.randn(batch, 3, side, side, device=device).to(memory_format=torch.channels_last)
    y = torch.arange(batch, device=device) % 1000
    half = torch.autocast(device, torch.bfloat16)
    compiled = torch.compile(model)
    if task == "call":
        model.eval().to(torch.bfloat16)
        x = x.to(torch.bfloat16)

        def forward() -> float:
            with torch.inference_mode():
                return float(compiled(x)[0, 0])

        return forward
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def step() -> float:
        optimizer.zero_grad()
        with half:
            loss = torch.nn.functional.cross_entropy(compiled(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


# ---- in the process that keeps time


def opened(
    stack: ExitStack, task: str, libraries: Sequence[str], folder: Path, end: float, *, cpu: bool
) -> Iterator[tuple[str, Contender | FailedError]]:
    """Start contenders at once, since compiling takes long; each with its process or its error."""

    def start(library: str) -> Contender | FailedError:
        backend = library.removeprefix("convnext on ")
        environment = {**ENVIRONMENT, "KERAS_BACKEND": backend if backend in BACKENDS else "torch"}
        if library == REFERENCE:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        options = ("--seconds", max(1, end - time.monotonic()), *(["--cpu"] if cpu else []))
        try:
            return Contender(library, __file__, task, library, folder, *options, **environment)
        except FailedError as error:
            return error

    with ThreadPoolExecutor() as pool:
        for library, one in zip(libraries, pool.map(start, libraries), strict=True):
            if isinstance(one, Contender):
                stack.enter_context(one)
            yield library, one


def correctness(folder: Path, end: float, *, cpu: bool) -> list[Row]:
    from convnext.architecture import VARIANTS
    from convnext.graphs.agreement import agreement
    from convnext.images.generated import generated_pictures
    from convnext.images.recipe import Preprocess
    from convnext.weights.info import WeightsInfo
    from convnext.weights.random_weights import random_weights
    from convnext.weights.save import save_weights

    variant, side, *_ = SMALL if cpu else LARGE
    info = WeightsInfo(preprocess=Preprocess(size=side))
    save_weights(random_weights(VARIANTS[variant]), folder / "weights.safetensors", info=info)
    np.save(folder / "pictures.npy", generated_pictures(8, side))
    libraries = [REFERENCE, *(f"convnext on {backend}" for backend in BACKENDS)]
    rows: list[Row] = []
    with ExitStack() as stack:
        (_, reference), *others = opened(stack, "answers", libraries, folder, end, cpu=cpu)
        try:
            if isinstance(reference, FailedError):
                raise reference
            reference.turn("float32")
        except FailedError as error:
            row = {"task": "correctness", "contender": REFERENCE, "precision": "float32"}
            return [{**row, "result": f"failed: {error}"}]
        expected = np.load(reference.turns[0]["path"])
        for precision in CLOSE:
            for library, one in others:
                row = {"task": "correctness", "contender": library, "precision": precision}
                try:
                    if isinstance(one, FailedError):
                        raise one
                    one.turn(precision)
                    decibels = agreement(np.load(one.turns[-1]["path"]), expected).decibels
                    good = decibels >= CLOSE[precision]
                    rows.append({**row, "result": f"{decibels:.0f} dB: {'as' if good else 'NOT as'}"
                                 f" {reference.turns[0]['engine']} on the CPU"})  # fmt: skip
                except FailedError as error:
                    rows.append({**row, "result": f"failed: {error}"})
    return rows


def speed(task: str, folder: Path, end: float, *, cpu: bool) -> list[Row]:
    libraries = [*(f"convnext on {backend}" for backend in BACKENDS), TIMM]
    failures: dict[str, FailedError] = {}

    def turn(one: Contender, _number: int) -> float | None:
        try:
            return one.turn()
        except FailedError as error:
            failures.setdefault(one.name, error)
            return None

    with ExitStack() as stack:
        started = dict(opened(stack, task, libraries, folder, end, cpu=cpu))
        racing = {name: one for name, one in started.items() if isinstance(one, Contender)}
        failures |= {name: one for name, one in started.items() if isinstance(one, FailedError)}
        seconds = max(1.0, min(60.0, end - time.monotonic() - SPARE))
        take_turns(
            [partial(turn, one) for one in racing.values()], Until(None, 0.02, seconds), base=-1
        )
    rows: list[Row] = []
    for library in libraries:
        row: Row = {"task": task, "contender": library, "precision": "bfloat16"}
        if library in failures:
            rows.append({**row, "result": f"failed: {failures[library]}"})
            continue
        own = racing[library].seconds
        rate = racing[library].report["pictures"] / statistics.median(own)
        row |= {"pictures_per_s": round(rate, 1), "rounds": len(own)}
        if library != TIMM and TIMM not in failures:
            ratio = ratio_of(racing[TIMM].seconds, own)
            row |= {"result": str(ratio), **ratio.columns("timm_over_this")}
        rows.append(row)
    return rows


def show(rows: Sequence[Row]) -> None:
    print(
        "| task | contender | precision | pictures/s | result; for times: timm's over this one's |"
    )
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        cells = [row.get(k, "") for k in ("task", "contender", "precision", "pictures_per_s")]
        print("|", " | ".join(map(str, [*cells, row.get("result", "")])), "|")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="for everything")
    parser.add_argument("--cpu", action="store_true", help="try the script on the CPU; not stored")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.serve:
        task, library, folder = args.serve
        signal.alarm(int(args.seconds))  # ends a process that compiles for too long
        serve(lambda: prepare(task, library, Path(folder), cpu=args.cpu))
        return
    name = gpu_name()
    if name is None and not args.cpu:
        print("There is no GPU with CUDA here that PyTorch can use: nothing was measured.")
        return
    begun = time.monotonic()
    ends = [begun + args.seconds * part for part in (1 / 3, 2 / 3, 1)]  # of the three parts
    with TemporaryDirectory(prefix="convnext-gpu-") as folder:
        rows = correctness(Path(folder), ends[0], cpu=args.cpu)
        rows += speed("call", Path(folder), ends[1], cpu=args.cpu)
        rows += speed("step", Path(folder), ends[2], cpu=args.cpu)
    show(rows)
    columns = ("task", "contender", "precision", "pictures_per_s", "result", "timm_over_this")
    columns += ("timm_over_this_low", "timm_over_this_high", "rounds")
    about = {**where(), "machine": name or "CPU"}
    if not args.cpu:
        save(RESULTS, [{**dict.fromkeys(columns), **row, **about} for row in rows], columns[:3])


if __name__ == "__main__":
    main()
