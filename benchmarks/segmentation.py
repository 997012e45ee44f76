"""Times UPerNet on ConvNeXt Tiny at 512x512 beside transformers' on PyTorch, and OpenVINO's export.

All hold the same random weights, live in processes of their own and take turns; from normalised
pictures, or pixels, to the logits of each pixel. Ratios have 95 % intervals.

    python benchmarks/segmentation.py                 # some minutes
    python benchmarks/segmentation.py --batches 1 --seconds 60 --dry

Results go to benchmarks/results/segmentation.csv, with the machine and the versions in each row.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from records import THREADS, save, where

from convnext.bench.process import Process, serve
from convnext.bench.rounds import Until, ratio_of, take_turns

RESULTS = Path(__file__).parent / "results" / "segmentation.csv"
SIDE = 512
CLASSES = 150
CONTENDERS = (
    ("convnext", "float32"),
    ("transformers", "float32"),
    ("transformers in OpenVINO", "float32"),
    ("convnext", "bfloat16"),
    ("transformers in OpenVINO", "bfloat16"),
)


def upernet() -> Any:
    """Transformers' UPerNet on Tiny, with its initial weights."""
    import importable_torchvision  # noqa: F401
    import torch
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = ConvNextConfig(
        depths=[3, 3, 9, 3],
        hidden_sizes=[96, 192, 384, 768],
        out_features=stages,
        layer_scale_init_value=1.0,
    )
    config = UperNetConfig(backbone_config=backbone, num_labels=CLASSES, auxiliary_in_channels=384)
    return UperNetForSemanticSegmentation(config).eval()


def prepare(
    library: str, precision: str, folder: Path, batch: int
) -> tuple[dict[str, Any], Callable[[str], dict[str, Any]]]:
    """In a contender's process: load the weights, and return what a turn does."""
    values = np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 3), dtype=np.uint8)
    call = ours(folder, precision) if library == "convnext" else theirs(library, precision, folder)

    def turn(_: str) -> dict[str, Any]:
        start = time.perf_counter()
        logits = call(values)
        seconds = time.perf_counter() - start
        assert logits.size == batch * CLASSES * SIDE * SIDE
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"seconds": seconds, "peak_mib": kib / 1024}

    turn("")
    return {}, turn


def ours(folder: Path, precision: str) -> Callable[[Any], Any]:
    from convnext.engines import open_engine

    engine = open_engine(
        str(folder / "model.safetensors"),
        "openvino",
        precision=precision,
        outputs="segmentation",
        size=SIDE,
        threads=THREADS,
    )
    return engine.predict


def theirs(library: str, precision: str, folder: Path) -> Callable[[Any], Any]:
    import torch

    torch.set_num_threads(THREADS)
    model = upernet()
    model = type(model).from_pretrained(folder).eval()
    mean, std = (
        255 * np.array(v, np.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )

    def normalised(values: Any) -> Any:
        return ((values - mean) / std).transpose(0, 3, 1, 2)

    if library == "transformers":

        def eager(values: Any) -> Any:
            with torch.inference_mode():
                return model(torch.from_numpy(normalised(values))).logits.numpy()

        return eager
    import openvino

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pictures: Any) -> Any:
            return self.model(pictures).logits

    example = torch.zeros(1, 3, SIDE, SIDE)
    graph = openvino.convert_model(Logits(), example_input=example)
    hints = {"float32": "f32", "bfloat16": "bf16"}
    settings = {
        "INFERENCE_PRECISION_HINT": hints[precision],
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled: dict[int, Any] = {}

    def exported(values: Any) -> Any:
        count = len(values)
        if count not in compiled:
            graph.reshape([count, 3, SIDE, SIDE])
            compiled[count] = openvino.compile_model(graph, "CPU", settings)
        return compiled[count]([normalised(values)])[0]

    return exported


def race(folder: Path, batch: int, until: Until) -> list[dict[str, object]]:
    with ExitStack() as stack:
        processes = []
        for library, precision in CONTENDERS:
            print(f"opening {library}, {precision}", file=sys.stderr)
            arguments = (__file__, "--serve", library, precision, folder, batch)
            threads = {"OMP_NUM_THREADS": str(THREADS)}
            process = stack.enter_context(Process(arguments, threads, quiet=False))
            process.reply()
            processes.append(process)
        peaks = [0.0] * len(processes)

        def turn_of(index: int) -> Callable[[int], float]:
            def turn(_: int) -> float:
                reply = processes[index].call("turn")
                peaks[index] = reply["peak_mib"]
                return float(reply["seconds"])

            return turn

        times = take_turns([turn_of(index) for index in range(len(processes))], until)
    rows = []
    for (library, precision), own, peak in zip(CONTENDERS, times, peaks, strict=True):
        base = times[CONTENDERS.index(("convnext", precision))]
        ratio = ratio_of(own, base)
        rows.append(
            {
                "batch": batch,
                "library": library,
                "precision": precision,
                "median_ms": round(1e3 * float(np.median(own))),
                **ratio.columns("over_ours"),
                "peak_mib": round(peak),
                **where(),
            }
        )
        print(
            f"{batch} {library:25} {precision:9} {rows[-1]['median_ms']:>7} ms  {ratio}  "
            f"{peak:.0f} MiB"
        )
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        library, precision, folder, batch = sys.argv[2:]
        sys.exit(serve(lambda: prepare(library, precision, Path(folder), int(batch))))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=240, help="most seconds of each race")
    parser.add_argument("--dry", action="store_true", help="print, and store nothing")
    args = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "torch"
    with tempfile.TemporaryDirectory() as folder:
        upernet().save_pretrained(folder)
        for batch in args.batches:
            rows = race(Path(folder), batch, Until(seconds=args.seconds))
            if not args.dry:
                save(RESULTS, rows, ("batch", "library", "precision"))


if __name__ == "__main__":
    main()
