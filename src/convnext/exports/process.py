"""Write and run an export, in a separate process if it needs Keras on TensorFlow.

Keras has one backend per process, and only TensorFlow writes SavedModels and LiteRT files. So with
another backend, or none, a process with TensorFlow is started. It reads the weights, the pictures
and the specification from a folder, and writes the outputs to it.

    python -m convnext.exports.process FOLDER
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from convnext.errors import ConvNeXtError, ExportError
from convnext.exports.spec import Array, ExportSpec, Writer
from convnext.exports.verify import Material, answers_of
from convnext.graphs.network import Network
from convnext.images.recipe import Preprocess
from convnext.weights.info import WeightsInfo
from convnext.weights.load import read_weights
from convnext.weights.save import save_weights

__all__ = ["Progress", "main", "produce"]

Progress = Callable[[str], object]

ANNOUNCED = "convnext: "  # prefix of the process's progress messages
LONGEST_ERROR = 600


def produce(
    spec: ExportSpec, target: Path, material: Material, on_progress: Progress
) -> tuple[str, Array]:
    """Write an export and run it.

    Args:
        spec: The specification of the export.
        target: The path to write.
        material: The pictures to run it on.
        on_progress: Called with each step before it begins.

    Returns:
        The name of its runtime, and its outputs.
    """
    if spec.kind.in_tensorflow and not _on_tensorflow():
        return _produce_elsewhere(spec, target, material, on_progress)
    if "keras" in spec.kind.modules:
        _choose_backend()
    return _produce_here(spec, target, material, on_progress)


def _produce_here(
    spec: ExportSpec, target: Path, material: Material, on_progress: Progress
) -> tuple[str, Array]:
    writer = cast("Writer", importlib.import_module(spec.kind.writer))
    on_progress(f"writing {spec.format}")
    writer.write(spec, target)
    on_progress("running the file")
    return writer.RUNTIME, answers_of(writer.opened(spec, target), spec, material)


def _on_tensorflow() -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and keras.backend.backend() == "tensorflow"


def _choose_backend() -> None:
    from convnext.engines.keras import choose_backend

    choose_backend()


def _produce_elsewhere(
    spec: ExportSpec, target: Path, material: Material, on_progress: Progress
) -> tuple[str, Array]:
    on_progress("starting TensorFlow")
    with TemporaryDirectory(prefix="convnext-export-") as name:
        folder = Path(name)
        _describe(folder, spec, target, material)
        _run(folder, on_progress)
        runtime = (folder / "runtime.txt").read_text()
        return runtime, np.load(folder / "answers.npy")


def _describe(folder: Path, spec: ExportSpec, target: Path, material: Material) -> None:
    network = spec.network
    save_weights(
        network.weights.tensors,
        folder / "weights.safetensors",
        dtype="float32",
        info=WeightsInfo(task=network.weights.info.task),
        architecture=network.architecture,
    )
    np.save(folder / "pixels.npy", material.pixels)
    np.save(folder / "normalised.npy", material.normalised)
    if isinstance(spec.calibration, np.ndarray):
        np.save(folder / "calibration.npy", spec.calibration)
    described = {
        "target": str(target.absolute()),
        "source": network.weights.source,
        "preprocess": asdict(network.preprocess),
        "sides": network.sides,
        "strides": network.strides,
        "dilations": network.dilations,
        "options": {
            "format": spec.format,
            "output": spec.output,
            "precision": spec.precision,
            "batch": spec.batch,
            "pixels": spec.pixels,
            "softmax": spec.softmax,
            "drop_path_rate": spec.drop_path_rate,
        },
    }
    (folder / "spec.json").write_text(json.dumps(described))


def _run(folder: Path, on_progress: Progress) -> None:
    """Run the process, and report its progress."""
    settings = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **settings},
    )
    assert process.stdout is not None
    output: list[str] = []
    with process:
        try:
            for line in process.stdout:
                if line.startswith(ANNOUNCED):
                    on_progress(line.removeprefix(ANNOUNCED).strip())
                else:
                    output.append(line)
        except BaseException:  # such as Ctrl-C: the process must not continue
            process.kill()
            raise
    if process.returncode:
        problem = folder / "error.txt"
        text = problem.read_text() if problem.exists() else "".join(output)[-LONGEST_ERROR:]
        raise ExportError(text.strip() or f"TensorFlow ended with code {process.returncode}.")


def _spec_in(folder: Path, described: dict[str, Any], network: Network) -> ExportSpec:
    calibration = folder / "calibration.npy"
    return ExportSpec(
        network,
        **described["options"],
        calibration=np.load(calibration) if calibration.exists() else None,
    )


def _recipe(values: dict[str, Any]) -> Preprocess:
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return Preprocess(**known)


def main(arguments: list[str]) -> int:
    """Write and run the export that a folder describes; returns the exit code.

    Args:
        arguments: The folder.
    """
    folder = Path(arguments[0])
    try:
        described = json.loads((folder / "spec.json").read_text())
        with read_weights(folder / "weights.safetensors", layout="convnext") as weights:
            network = Network(
                replace(weights, source=described["source"]),
                _recipe(described["preprocess"]),
                tuple(described["sides"]) if described["sides"] else None,
                tuple(described["strides"]),
                tuple(described["dilations"]),
            )
            material = Material(
                np.load(folder / "pixels.npy"), np.load(folder / "normalised.npy"), ""
            )
            spec = _spec_in(folder, described, network)
            runtime, answers = _produce_here(spec, Path(described["target"]), material, _announce)
    except Exception as error:  # TensorFlow raises nearly anything
        kind = "" if isinstance(error, ConvNeXtError) else f"{type(error).__name__}: "
        text = " ".join(str(error).split())[:LONGEST_ERROR]
        (folder / "error.txt").write_text(kind + text)
        return 1
    (folder / "runtime.txt").write_text(runtime)
    np.save(folder / "answers.npy", answers)
    return 0


def _announce(step: str) -> None:
    sys.stdout.write(f"\n{ANNOUNCED}{step}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
