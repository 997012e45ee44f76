"""`export`: a model into a file for another runtime, which is compared with the model first.

It asks the other files of this room in turn, and nothing keeps a file that does not answer as the
model does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convnext.engines.quantizing import check_calibration
from convnext.errors import ArgumentError, ArgumentTypeError, ExportError
from convnext.exports.formats import Format, Option, choose_format
from convnext.exports.job import Job
from convnext.exports.placing import check_place, written
from convnext.exports.process import produce
from convnext.exports.source import Resolution, Source, opened_source
from convnext.exports.verify import (
    Verdict,
    compare,
    read_pixels,
    reference,
    verification_pictures,
)
from convnext.graphs.network import OUTPUTS
from convnext.images.sources import Sources

__all__ = ["ExportReport", "export"]

Batch = int | Literal["dynamic"]

CALIBRATION_PICTURES = 256
MEGA = 1e6


@dataclass(frozen=True)
class ExportReport:
    """What was exported and how good it is; printed, it says so in a few lines.

    Attributes:
        path: The file or folder.
        format: Its format.
        precision: What it is written in.
        nbytes: Its size, with what lies beside it.
        seconds: How long it all took.
        runtime: What it was run in.
        judge: What it was compared with.
        pictures: What it was compared on.
        verdict: The comparison.
        notice: On what terms the weights may be used; None if unknown.
    """

    path: Path
    format: str
    precision: str
    nbytes: int
    seconds: float
    runtime: str
    judge: str
    pictures: str
    verdict: Verdict
    notice: str | None

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.format}, {self.precision}, {self.nbytes / MEGA:.1f} MB, "
            f"{self.seconds:.1f} s.",
            f"Run in {self.runtime} on {self.pictures} and compared with {self.judge}: "
            f"{self.verdict}.",
        ]
        if self.notice:
            lines.append(self.notice)
        return "\n".join(lines)


def export(  # noqa: PLR0913
    model: Any,
    path: str | Path,
    *,
    format: str | None = None,
    resolution: Resolution = None,
    batch: Batch = "dynamic",
    precision: str | None = None,
    with_preprocessing: bool | None = None,
    softmax: bool | None = None,
    output: str | None = None,
    output_stride: int | None = None,
    drop_path_rate: float | None = None,
    random: bool = False,
    pictures: Sources | None = None,
    calibration: Sources | None = None,
    overwrite: bool = False,
    on_progress: Callable[[str], object] = lambda _: None,
) -> ExportReport:
    """Write a model for another runtime, run what was written, and keep it only if it is good.

    Args:
        model: The name of a published checkpoint or of a repository on the Hugging Face Hub, a
            weights file in any layout, or a Keras model of this package; with `random`, the name of
            a variant.
        path: Where to: a file, or for a SavedModel also a folder.
        format: One of `convnext.exports.FORMATS`; by default what the path ends in.
        resolution: Side of the pictures, or `"any"` for pictures of every size from 32 pixels on;
            by default that of the weights or of the model.
        batch: How many pictures at once, or `"dynamic"` for any number.
        precision: What the file is written in; by default float32.
        with_preprocessing: Whether the file takes pixels in 0..255 and normalises them itself; by
            default as the Keras model does, and for weights not.
        softmax: Whether it gives probabilities and not logits; by default as the Keras model does,
            and for weights not.
        output: One of `convnext.graphs.network.OUTPUTS`; by default logits, or what is nearest to
            them where there is no classifier.
        output_stride: 8 or 16 for feature maps of so much of each side, by dilation; by default as
            the Keras model has it, and for weights 32.
        drop_path_rate: For formats that can be trained on; by default the Keras model's own, or 0.
        random: Whether random weights will do, which nothing is exported with otherwise.
        pictures: What to compare on; by default those of the calibration, or else a few that are
            generated.
        calibration: Pictures such as the model will see, a hundred or two: what int8 needs.
        overwrite: Whether to replace what is there.
        on_progress: Called with each step before it begins.

    Returns:
        What was written, and how it compares.

    Raises:
        ExportError: It does not answer as the model does, or cannot be written. Nothing is kept.
        ArgumentError: Something cannot be exported like that.
        MissingDependencyError: What the format needs is not installed.

    Example:
        print(export("convnext_tiny.fb_in1k", "tiny.onnx", with_preprocessing=True))
    """
    started = time.perf_counter()
    target = Path(path)
    kind = choose_format(format, target)
    precision = precision or next(iter(kind.precisions))
    kind.check_precision(precision)
    size = _checked_batch(batch, kind)
    _check_calibration(precision, calibration)
    _check_options(kind, resolution, with_preprocessing, softmax, output, drop_path_rate)
    beside = kind.beside(target)
    check_place(target, overwrite=overwrite, may_be_folder="" in kind.suffixes, beside=beside)
    kind.check_installed()
    on_progress("reading the weights")
    with opened_source(model, resolution, random=random, output_stride=output_stride) as source:
        network = source.network
        _check_source(network.weights.path, beside)
        chosen = _checked_output(source, output)
        job = Job(
            network,
            kind.name,
            chosen,
            precision,
            size,
            _wanted(with_preprocessing, source.pixels, "preprocessing", kind),
            _wanted(softmax, source.softmax and chosen == "logits", "softmax", kind),
            _checked_rate(source.drop_path_rate if drop_path_rate is None else drop_path_rate),
            None
            if calibration is None
            else read_pixels(network, calibration, CALIBRATION_PICTURES),
        )
        _check_job(job)
        shown = job.calibration if pictures is None else pictures
        material = verification_pictures(network, shown)
        on_progress("asking the model")
        judge, probabilities = "the Keras model", source.softmax and job.output == "logits"
        expected = source.answers(job, material.pixels, material.normalised)
        if expected is None:
            name, expected = reference(job, material)
            judge, probabilities = f"the engine {name} in float32", False
        with written(target) as temporary:
            runtime, answers = produce(job, temporary, material, on_progress)
            verdict = compare(job, answers, expected, is_softmax=probabilities)
            if not verdict.good:
                raise ExportError(
                    f"The {kind.name} file does not answer as the model does: {verdict}, on "
                    f"{material.said}. Nothing was kept. {_advice(job)}"
                )
            files = [path for path in temporary.parent.rglob("*") if path.is_file()]
            nbytes = sum(file.stat().st_size for file in files)
        seconds = time.perf_counter() - started
        notice = network.weights.info.notice
    return ExportReport(
        target,
        kind.name,
        precision,
        nbytes,
        seconds,
        runtime,
        judge,
        material.said,
        verdict,
        notice,
    )


def _checked_batch(batch: Batch, kind: Format) -> int | None:
    if batch == "dynamic":
        return None
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise ArgumentError(f"batch is a number of pictures, or 'dynamic', not {batch!r}.")
    kind.check_option("batch", "fixed number of pictures")
    return batch


def _check_calibration(precision: str, calibration: object) -> None:
    if precision == "int8" and calibration is None:
        raise ArgumentError(
            "int8 needs calibration= (--calibration): a folder of pictures such as the model will "
            "see. A hundred or two are enough."
        )
    check_calibration(calibration, precision)


def _check_options(
    kind: Format,
    resolution: Resolution,
    with_preprocessing: bool | None,
    softmax: bool | None,
    output: str | None,
    drop_path_rate: float | None,
) -> None:
    if resolution == "any":
        kind.check_option("any size", "pictures of any size")
    if with_preprocessing:
        kind.check_option("preprocessing", "preprocessing of its own")
    if softmax:
        kind.check_option("softmax", "softmax")
    if output is not None:
        if output not in OUTPUTS:
            raise ArgumentError(f"output is one of {', '.join(OUTPUTS)}, not {output!r}.")
        kind.check_option("output", "output to choose")
    if drop_path_rate is not None:
        kind.check_option("drop path", "drop path")


def _wanted(asked: bool | None, own: bool, option: Option, kind: Format) -> bool:
    """What was asked for, or else what the model does, where the format can."""
    if asked is not None and not isinstance(asked, bool):
        raise ArgumentTypeError(f"{option} is True, False or None, not {asked!r}.")
    return (own and option in kind.options) if asked is None else asked


def _checked_rate(rate: float) -> float:
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate < 1:
        raise ArgumentError(f"drop_path_rate is at least 0 and below 1, not {rate!r}.")
    return float(rate)


def _check_source(source: Path | None, beside: Path | None) -> None:
    """Refuse to replace the weights themselves: whoever allows overwriting means the target."""
    if source and beside and beside.exists() and beside.samefile(source):
        raise ArgumentError(
            f"{beside} holds the weights, and would be replaced by what is written beside the "
            "target. Name another target."
        )


def _checked_output(source: Source, output: str | None) -> str:
    network = source.network
    output = network.default_output if output is None else output
    network.check_outputs((output,))
    return output


def _check_job(job: Job) -> None:
    if job.softmax and job.output != "logits":
        raise ArgumentError(f"softmax goes with logits, not with {job.output}.")
    if job.pixels and job.network.channels != 3:
        raise ArgumentError(
            f"{job.network.weights.source} takes {job.network.channels} channels, and there is no "
            "recipe for their pixels. Export it without preprocessing."
        )
    if max(job.network.dilations, default=1) > 1:
        job.kind.check_option("output stride", "output stride: weights are the same for each")
    if job.network.sides is None:
        job.kind.check_option("any size", "pictures of any size; give a resolution")


def _advice(job: Job) -> str:
    if job.precision == "float32":
        return "Please report this, with the versions of the runtimes."
    wider = ", ".join(name for name in job.kind.precisions if name != job.precision)
    return f"Other precisions of {job.format}: {wider}."
