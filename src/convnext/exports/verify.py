"""Compare the outputs of an exported file with those of its model, on the same pictures.

The model runs on another runtime than the file if one is installed, to not share its bugs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convnext.engines.base import EngineOptions
from convnext.engines.opening import ENGINES
from convnext.errors import ArgumentError, ExportError
from convnext.exports.formats import DECIBELS, Format
from convnext.exports.spec import Array, ExportSpec, Predict
from convnext.graphs.agreement import Agreement, agreement
from convnext.graphs.network import Network
from convnext.images.batches import batches
from convnext.images.generated import generated_pictures
from convnext.images.transform import normalise

__all__ = [
    "Material",
    "Verdict",
    "answers_of",
    "compare",
    "read_pixels",
    "reference",
    "verification_pictures",
]

GENERATED = 4
MOST = 32
MOST_PIXELS = 2**16  # of class maps that are compared
ANY_SIDE = 96  # of pictures for a network that takes any size


@dataclass(frozen=True, eq=False)
class Material:
    """Pictures for the comparison.

    Attributes:
        pixels: `(n, height, width, channels)`; uint8 for three channels.
        normalised: The same, normalised, float32.
        description: Their number and kind, for reports.
    """

    pixels: Array
    normalised: Array
    description: str


@dataclass(frozen=True)
class Verdict:
    """The agreement of an exported file with its model.

    Attributes:
        agreement: The comparison.
        allowed: The largest allowed difference; None to judge by the signal-to-noise ratio.
    """

    agreement: Agreement
    allowed: float | None

    @property
    def good(self) -> bool:
        """Whether the file agrees well enough to be kept."""
        if self.allowed is None:
            return self.agreement.decibels >= DECIBELS
        return self.agreement.max_difference <= self.allowed

    def __str__(self) -> str:
        found = self.agreement
        if self.allowed is None:
            return (
                f"noise is {found.decibels:.1f} dB below the signal (allowed {DECIBELS:g}), the "
                f"strongest output is the same for {found.top1:.0%}"
            )
        return (
            f"the largest difference is {found.max_difference:.2g} (allowed {self.allowed:.2g}), "
            f"the strongest output is the same for {found.top1:.0%}"
        )


def verification_pictures(network: Network, pictures: object = None) -> Material:
    """Read the pictures for the comparison, or generate some.

    Args:
        network: The network, for its preprocessing.
        pictures: Sources for `convnext.images.sources.iterate`, or a batch of pixels; None to
            generate them.

    Raises:
        ArgumentError: No picture can be read.
    """
    height, width = network.sides or (ANY_SIDE, ANY_SIDE)
    if network.channels != 3:
        if pictures is not None:
            raise ArgumentError(
                f"{network.weights.source} takes {network.channels} channels, and pictures have 3. "
                "Leave out pictures: the comparison uses random numbers."
            )
        shape = (GENERATED, height, width, network.channels)
        values = np.random.default_rng(0).standard_normal(shape, np.float32)
        return Material(values, values, f"{GENERATED} inputs of random numbers")
    if pictures is None:
        pixels = generated_pictures(GENERATED, max(height, width))[:, :height, :width]
        description = f"{GENERATED} generated pictures"
    else:
        pixels = read_pixels(network, pictures, MOST)
        description = f"{len(pixels)} pictures"
    pixels = np.ascontiguousarray(pixels)
    return Material(pixels, normalise(pixels, network.preprocess), description)


def read_pixels(network: Network, pictures: object, most: int) -> Array:
    """Read the first pictures, resized and cropped for the network.

    Raises:
        ArgumentError: No picture can be read, or an array has another size than the network's.
    """
    if isinstance(pictures, np.ndarray) and pictures.ndim == 4:
        pixels = pictures[:most]
    else:
        found: list[Array] = []
        for batch in batches(pictures, network.preprocess):  # type: ignore[arg-type]
            found.extend(batch.pixels)
            if len(found) >= most:
                break
        pixels = np.stack(found[:most]) if found else np.empty((0, 0, 0, 3), np.uint8)
    if not len(pixels):
        raise ArgumentError(
            f"No picture can be read from {pictures!r}. Give pictures such as the model "
            "will see, for example a folder."
        )
    if network.sides not in (None, pixels.shape[1:3]):
        raise ArgumentError(
            f"The pictures are {pixels.shape[1]} x {pixels.shape[2]}, and the network takes "
            f"{network.sides}. Resize them."
        )
    return pixels


def reference(spec: ExportSpec, material: Material) -> tuple[str, Array]:
    """Choose an engine to compare with; its name, and its outputs in float32."""
    name = _judge(spec.kind)
    options = EngineOptions((spec.output,), "float32", "float32")
    return name, ENGINES[name].open(spec.network, options).predict(material.normalised)


def _judge(kind: Format) -> str:
    installed = [name for name, runtime in ENGINES.items() if runtime.installed()]
    others = [name for name in installed if name != kind.runtime]
    if not installed:
        raise ArgumentError(
            "No engine is installed to compare the result with. Install one: "
            "pip install 'convnext[openvino]'"
        )
    return (others or installed)[0]


def answers_of(answer: Predict, spec: ExportSpec, material: Material) -> Array:
    """Run the file; one with dynamic batch size on a batch of one picture and one of the rest."""
    pictures = (material.pixels if spec.pixels else material.normalised).astype(spec.dtype)
    size = spec.batch or len(pictures) - 1 or 1
    starts = range(0, len(pictures), size) if spec.batch else (0, *range(1, len(pictures), size))
    answers = []
    for index, start in enumerate(starts):
        count = 1 if not spec.batch and index == 0 else size
        part = pictures[start : start + count]
        missing = spec.batch - len(part) if spec.batch else 0
        padded = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
        answers.append(answer(padded)[: len(part)])
    return np.concatenate(answers).astype(np.float32, copy=False)


def compare(
    spec: ExportSpec, answers: Array, expected: Array, *, is_softmax: bool = False
) -> Verdict:
    """Compare the outputs of a file with those of the model.

    Args:
        spec: The specification of the export.
        answers: The file's outputs.
        expected: The model's outputs.
        is_softmax: Whether the model's outputs are probabilities.
    """
    if spec.softmax and not is_softmax:
        expected = _softmax(expected)
    elif is_softmax and not spec.softmax:
        answers = _softmax(answers)
    if answers.shape != expected.shape:
        raise ExportError(
            f"The {spec.format} file gives {answers.shape} where the model gives {expected.shape}. "
            "Nothing was kept."
        )
    share = spec.kind.precisions[spec.precision]
    allowed = None if share is None else share * float(np.abs(expected).max())
    if spec.output in ("scores", "segmentation"):  # the strongest output is that of a pixel
        step = -(-expected[..., 0].size // MOST_PIXELS) | 1  # odd, so as to meet every column
        rows = [maps.reshape(-1, maps.shape[-1])[::step] for maps in (answers, expected)]
    else:
        rows = [each.reshape(len(expected), -1) for each in (answers, expected)]
    return Verdict(agreement(*rows), allowed)


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares
