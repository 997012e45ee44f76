"""Writing and running an artefact where Keras is on TensorFlow: here, or in a process of its own.

Keras takes its backend once for each process, and only TensorFlow writes SavedModels and LiteRT
files. So where another backend runs, or none, a process is started that has the right one: it is
given a folder with the weights, the pictures and the job, and puts the answers there.

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
from convnext.exports.job import Array, Job, Writer
from convnext.exports.verify import Material, answers_of
from convnext.graphs.network import Network
from convnext.images.recipe import Preprocess
from convnext.weights.info import WeightsInfo
from convnext.weights.load import read_weights
from convnext.weights.save import save_weights

__all__ = ["Progress", "main", "produce"]

Progress = Callable[[str], object]

ANNOUNCED = "convnext: "  # lines of the process that are about the work
LONGEST_ERROR = 600


def produce(job: Job, target: Path, material: Material, on_progress: Progress) -> tuple[str, Array]:
    """Write an artefact and run it.

    Args:
        job: What to write.
        target: Where to.
        material: The pictures to run it on.
        on_progress: Called with each step before it begins.

    Returns:
        The runtime it ran in, and its answers.
    """
    if job.kind.in_tensorflow and not _on_tensorflow():
        return _produce_elsewhere(job, target, material, on_progress)
    if "keras" in job.kind.modules:
        _choose_backend()
    return _produce_here(job, target, material, on_progress)


def _produce_here(
    job: Job, target: Path, material: Material, on_progress: Progress
) -> tuple[str, Array]:
    writer = cast("Writer", importlib.import_module(job.kind.writer))
    on_progress(f"writing {job.format}")
    writer.write(job, target)
    on_progress("running the file")
    return writer.RUNTIME, answers_of(writer.opened(job, target), job, material)


def _on_tensorflow() -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and keras.backend.backend() == "tensorflow"


def _choose_backend() -> None:
    """Have Keras use a backend that is installed, unless someone chose one."""
    from convnext.engines.keras import choose_backend

    choose_backend()


def _produce_elsewhere(
    job: Job, target: Path, material: Material, on_progress: Progress
) -> tuple[str, Array]:
    on_progress("starting TensorFlow")
    with TemporaryDirectory(prefix="convnext-export-") as name:
        folder = Path(name)
        _describe(folder, job, target, material)
        _run(folder, on_progress)
        runtime = (folder / "runtime.txt").read_text()
        return runtime, np.load(folder / "answers.npy")


def _describe(folder: Path, job: Job, target: Path, material: Material) -> None:
    network = job.network
    save_weights(
        network.weights.tensors,
        folder / "weights.safetensors",
        dtype="float32",
        info=WeightsInfo(task=network.weights.info.task),
        architecture=network.architecture,
    )
    np.save(folder / "pixels.npy", material.pixels)
    np.save(folder / "normalised.npy", material.normalised)
    if job.calibration is not None:
        np.save(folder / "calibration.npy", job.calibration)
    described = {
        "target": str(target.absolute()),
        "source": network.weights.source,
        "preprocess": asdict(network.preprocess),
        "sides": network.sides,
        "strides": network.strides,
        "dilations": network.dilations,
        "options": {
            "format": job.format,
            "output": job.output,
            "precision": job.precision,
            "batch": job.batch,
            "pixels": job.pixels,
            "softmax": job.softmax,
            "drop_path_rate": job.drop_path_rate,
        },
    }
    (folder / "job.json").write_text(json.dumps(described))


def _run(folder: Path, on_progress: Progress) -> None:
    """Have the process do it, and pass on what it says."""
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
    said: list[str] = []
    with process:
        try:
            for line in process.stdout:
                if line.startswith(ANNOUNCED):
                    on_progress(line.removeprefix(ANNOUNCED).strip())
                else:
                    said.append(line)
        except BaseException:  # Ctrl-C above all: the process is not to go on by itself
            process.kill()
            raise
    if process.returncode:
        problem = folder / "error.txt"
        text = problem.read_text() if problem.exists() else "".join(said)[-LONGEST_ERROR:]
        raise ExportError(text.strip() or f"TensorFlow ended with code {process.returncode}.")


def _job_in(folder: Path, described: dict[str, Any], network: Network) -> Job:
    calibration = folder / "calibration.npy"
    return Job(
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
    """Do what a folder describes.

    Args:
        arguments: The folder.
    """
    folder = Path(arguments[0])
    try:
        described = json.loads((folder / "job.json").read_text())
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
            job = _job_in(folder, described, network)
            runtime, answers = _produce_here(job, Path(described["target"]), material, _announce)
    except Exception as error:  # whatever TensorFlow throws is the export's failure
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
