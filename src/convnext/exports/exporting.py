"""`export`: write a model for another runtime, and keep the file only if its outputs agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convnext.engines.quantizing import check_calibration
from convnext.errors import ArgumentError, ArgumentTypeError, ExportError
from convnext.exports.formats import Format, Option, choose_format
from convnext.exports.process import produce
from convnext.exports.source import ExportSource, Resolution, opened_source
from convnext.exports.spec import Array, ExportSpec
from convnext.exports.target import check_target, written
from convnext.exports.verify import (
    Verdict,
    compare,
    read_pixels,
    reference,
    verification_pictures,
)
from convnext.graphs.network import OUTPUTS, Network
from convnext.images.sources import Sources
from convnext.int8.calibration import Calibration, names_calibration

__all__ = ["ExportReport", "export"]

BatchSize = int | Literal["dynamic"]

CALIBRATION_PICTURES = 256
MEGA = 1e6


@dataclass(frozen=True)
class ExportReport:
    """The result of an export; `print` shows it in a few lines.

    Attributes:
        path: The file or folder.
        format: Its format.
        precision: Its precision.
        nbytes: Its size, including files beside it.
        seconds: Duration of the export.
        runtime: The runtime that ran it.
        judge: The model or engine it was compared with.
        pictures: Description of the pictures of the comparison.
        verdict: The comparison.
        notice: Terms of use of the weights; None if unknown.
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
    batch: BatchSize = "dynamic",
    precision: str | None = None,
    with_preprocessing: bool | None = None,
    softmax: bool | None = None,
    output: str | None = None,
    output_stride: int | None = None,
    drop_path_rate: float | None = None,
    random: bool = False,
    pictures: Sources | None = None,
    calibration: Calibration | Sources | None = None,
    overwrite: bool = False,
    on_progress: Callable[[str], object] = lambda _: None,
) -> ExportReport:
    """Write a model for another runtime, run the file, and keep it only if its outputs agree.

    Args:
        model: The name of a published checkpoint or of a repository on the Hugging Face Hub, a
            weights file in any layout, or a Keras model of this package; with `random`, the name of
            a variant.
        path: The file to write, or for a SavedModel also a folder.
        format: One of `convnext.exports.FORMATS`; by default chosen by the suffix of the path.
        resolution: Side of the pictures, or `"any"` for pictures of any size from 32 pixels on; by
            default that of the weights or of the model.
        batch: Batch size, or `"dynamic"` for any.
        precision: Precision of the file; by default float32.
        with_preprocessing: Whether the file takes pixels in 0..255 and normalises them itself; by
            default as the Keras model, and False for weights.
        softmax: Whether the file outputs probabilities instead of logits; by default as the Keras
            model, and False for weights.
        output: One of `convnext.graphs.network.OUTPUTS`; by default logits, or without a classifier
            the last output.
        output_stride: 8 or 16 for larger feature maps by dilation; by default that of the Keras
            model, and 32 for weights.
        drop_path_rate: For formats that can be trained; by default the Keras model's, or 0.
        random: Whether to allow random weights.
        pictures: Pictures for the comparison; by default those of the calibration, or a few
            generated ones.
        calibration: For int8, one or two hundred pictures such as the model will see; in ONNX and
            OpenVINO also the result of `convnext.engines.quantize`, or its file.
        overwrite: Whether to replace an existing file.
        on_progress: Called with each step before it begins.

    Returns:
        The files and the comparison.

    Raises:
        ExportError: The outputs differ from the model's, or the file cannot be written. Nothing is
            kept.
        ArgumentError: An option is invalid, or does not fit the format or the model.
        MissingDependencyError: A package that the format needs is not installed.

    Example:
        print(export("convnext_tiny.fb_in1k", "tiny.onnx", with_preprocessing=True))
    """
    started = time.perf_counter()
    target = Path(path)
    kind = choose_format(format, target)
    precision = precision or next(iter(kind.precisions))
    kind.check_precision(precision)
    size = _checked_batch(batch, kind)
    _check_calibration(kind, precision, calibration)
    _check_options(kind, resolution, with_preprocessing, softmax, output, drop_path_rate)
    beside = kind.beside(target)
    check_target(target, overwrite=overwrite, may_be_folder="" in kind.suffixes, beside=beside)
    kind.check_installed()
    on_progress("reading the weights")
    with opened_source(model, resolution, random=random, output_stride=output_stride) as source:
        network = source.network
        _check_source(network.weights.path, beside)
        chosen = _checked_output(source, output)
        spec = ExportSpec(
            network,
            kind.name,
            chosen,
            precision,
            size,
            _chosen(with_preprocessing, source.pixels, "preprocessing", kind),
            _chosen(softmax, source.softmax and chosen == "logits", "softmax", kind),
            _checked_rate(source.drop_path_rate if drop_path_rate is None else drop_path_rate),
            None if calibration is None else _read_calibration(network, calibration),
        )
        _check_spec(spec)
        shown: object = pictures
        if pictures is None and not isinstance(spec.calibration, Calibration):
            shown = spec.calibration
        material = verification_pictures(network, shown)
        on_progress("running the model")
        judge, probabilities = "the Keras model", source.softmax and spec.output == "logits"
        expected = source.answers(spec, material.pixels, material.normalised)
        if expected is None:
            name, expected = reference(spec, material)
            judge, probabilities = f"the engine {name} in float32", False
        with written(target) as temporary:
            runtime, answers = produce(spec, temporary, material, on_progress)
            verdict = compare(spec, answers, expected, is_softmax=probabilities)
            if not verdict.good:
                raise ExportError(
                    f"The outputs of the {kind.name} file differ from the model's: {verdict}, on "
                    f"{material.description}. Nothing was kept. {_advice(spec)}"
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
        material.description,
        verdict,
        notice,
    )


def _checked_batch(batch: BatchSize, kind: Format) -> int | None:
    if batch == "dynamic":
        return None
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise ArgumentError(f"batch must be a number of pictures, or 'dynamic', not {batch!r}.")
    kind.check_option("batch", "fixed number of pictures")
    return batch


def _check_calibration(kind: Format, precision: str, calibration: object) -> None:
    if precision == "int8" and calibration is None:
        raise ArgumentError(
            "int8 needs calibration= (--calibration): a folder of pictures such as the model will "
            "see. One or two hundred are enough."
        )
    check_calibration(calibration, precision)
    if isinstance(calibration, Calibration) or names_calibration(calibration):
        kind.check_option("calibration file", "calibration file. Give it pictures")


def _read_calibration(network: Network, given: Any) -> Array | Calibration:
    if isinstance(given, Calibration):
        return given
    if names_calibration(given):
        return Calibration.load(Path(given))
    return read_pixels(network, given, CALIBRATION_PICTURES)


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


def _chosen(requested: bool | None, own: bool, option: Option, kind: Format) -> bool:
    """The requested option, or by default the model's own if the format supports it."""
    if requested is not None and not isinstance(requested, bool):
        raise ArgumentTypeError(f"{option} must be True, False or None, not {requested!r}.")
    return (own and option in kind.options) if requested is None else requested


def _checked_rate(rate: float) -> float:
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate < 1:
        raise ArgumentError(f"drop_path_rate is at least 0 and below 1, not {rate!r}.")
    return float(rate)


def _check_source(source: Path | None, beside: Path | None) -> None:
    """Refuse to overwrite the weights by a file beside the target."""
    if source and beside and beside.exists() and beside.samefile(source):
        raise ArgumentError(
            f"{beside} holds the weights, and the export writes a file of that name. Choose "
            "another target."
        )


def _checked_output(source: ExportSource, output: str | None) -> str:
    network = source.network
    output = network.default_output if output is None else output
    network.check_outputs((output,))
    return output


def _check_spec(spec: ExportSpec) -> None:
    if spec.softmax and spec.output != "logits":
        raise ArgumentError(f"softmax is for the output logits, not for {spec.output}.")
    if spec.softmax and spec.network.weights.info.thresholds is not None:
        raise ArgumentError(
            f"{spec.network.weights.source} is a multi-label model: a softmax would make its "
            "labels exclude one another. Export logits, and take the sigmoid of each; the "
            "thresholds are in the metadata of .onnx, .xml and .safetensors files."
        )
    if spec.pixels and spec.network.channels != 3:
        raise ArgumentError(
            f"{spec.network.weights.source} takes {spec.network.channels} channels, which have "
            "no known normalisation. Export it without preprocessing."
        )
    if max(spec.network.dilations, default=1) > 1:
        spec.kind.check_option("output stride", "output stride: weights are the same for each")
    if spec.network.sides is None:
        spec.kind.check_option("any size", "pictures of any size; give a resolution")


def _advice(spec: ExportSpec) -> str:
    if spec.precision == "float32":
        return "Report this with the versions of the runtimes."
    wider = ", ".join(name for name in spec.kind.precisions if name != spec.precision)
    return f"Other precisions of {spec.format}: {wider}."
