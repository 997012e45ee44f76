"""`ConvNextImageProcessor`: pictures to `pixel_values`, bit for bit as transformers' on Pillow.

Arguments, defaults and files are those of transformers, with two differences: `resample` defaults
to BILINEAR, as transformers documents and most published files need, not to BICUBIC; and a picture
in 0..1 that would be rescaled again is an error, where transformers silently rescales it twice.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypedDict

import numpy as np
from PIL import Image

from convnext.errors import ArgumentError, UnknownNameError
from convnext.hf.hub import (
    Hub,
    built_from,
    file_of,
    is_repository,
    read_json,
    refuse_unsupported,
    staged,
)
from convnext.hf.pixels import (
    Array,
    DataFormat,
    check_not_rescaled,
    eight_bits,
    flat,
    normalize,
    pixels,
    tensors,
)
from convnext.hf.published import published_processor
from convnext.images.transform import center_crop, check_proportions, resized_size

__all__ = [
    "IMAGENET_STANDARD_MEAN",
    "IMAGENET_STANDARD_STD",
    "PREPROCESSOR_FILE",
    "BatchFeature",
    "ConvNextFeatureExtractor",
    "ConvNextImageProcessor",
]

PREPROCESSOR_FILE = "preprocessor_config.json"
IMAGENET_STANDARD_MEAN = (0.5, 0.5, 0.5)
IMAGENET_STANDARD_STD = (0.5, 0.5, 0.5)
CROPPED_BELOW = 384  # from this side on, pictures are resized to the square without cropping
DEFAULT_CROP_PCT = 224 / 256
SWITCHES = ("do_resize", "do_rescale", "do_normalize")
# What transformers' files and Auto classes say besides.
NO_ATTRIBUTES = (
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "_from_auto",
)


class ConvNextImageProcessorKwargs(TypedDict, total=False):
    """Options of a call; see `ConvNextImageProcessor`."""

    do_convert_rgb: bool | None
    do_resize: bool
    size: Mapping[str, int] | int
    crop_pct: float | None
    resample: int
    do_rescale: bool
    rescale_factor: float
    do_normalize: bool
    image_mean: float | Sequence[float] | None
    image_std: float | Sequence[float] | None
    data_format: DataFormat
    input_data_format: DataFormat | None
    return_tensors: str | None


OPTIONS = tuple(ConvNextImageProcessorKwargs.__annotations__)[:-3]  # those that are attributes


class BatchFeature(dict[str, Any]):
    """The output of the processor: a dictionary whose keys are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, *args: Any, **kwargs: Any) -> BatchFeature:
        """A copy with PyTorch tensors converted by `torch.Tensor.to`."""
        moved = {
            name: value.to(*args, **kwargs) if hasattr(value, "to") else value
            for name, value in self.items()
        }
        return BatchFeature(moved)


class ConvNextImageProcessor:
    """Resizes, crops, rescales and normalises pictures, as transformers does for ConvNeXt.

    Below 384, the short side is resized to `int(shortest_edge / crop_pct)` and the centre cropped;
    from 384 on, the picture is resized to the square.

    Args:
        do_resize: Whether to resize.
        size: Side of the square, as `{"shortest_edge": 224}` or as a number.
        crop_pct: Side of the crop as a fraction of the resized short side.
        resample: Filter, one of `PIL.Image.Resampling`. BILINEAR by default, where transformers 5
            has BICUBIC.
        do_rescale: Whether to multiply by `rescale_factor`.
        rescale_factor: The factor.
        do_normalize: Whether to subtract `image_mean` and divide by `image_std`.
        image_mean: One number, or one for each channel.
        image_std: One number, or one for each channel.
        do_convert_rgb: Whether to convert to RGB, transparency blended over white. By default
            Pillow images and files are converted, and arrays are not.
        **kwargs: Other attributes.

    Example:
        >>> processor = ConvNextImageProcessor(size={"shortest_edge": 224})
        >>> processor(Image.new("RGB", (500, 375)), return_tensors="np").pixel_values.shape
        (1, 3, 224, 224)
    """

    model_input_names = ("pixel_values",)
    valid_kwargs = ConvNextImageProcessorKwargs

    def __init__(  # noqa: PLR0913
        self,
        do_resize: bool = True,
        size: Mapping[str, int] | int | None = None,
        crop_pct: float | None = None,
        resample: int = Image.Resampling.BILINEAR,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool = True,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        do_convert_rgb: bool | None = None,
        **kwargs: Any,
    ) -> None:
        self.do_resize = do_resize
        self.size = {"shortest_edge": _edge(CROPPED_BELOW if size is None else size)}
        self.crop_pct = DEFAULT_CROP_PCT if crop_pct is None else crop_pct
        if not self.crop_pct > 0:
            raise ArgumentError(f"crop_pct={crop_pct!r} keeps nothing. Give a part such as 0.875.")
        self.resample = _filter(resample)
        self.do_rescale = do_rescale
        self.rescale_factor = rescale_factor
        self.do_normalize = do_normalize
        self.image_mean = _channels(IMAGENET_STANDARD_MEAN if image_mean is None else image_mean)
        self.image_std = _channels(IMAGENET_STANDARD_STD if image_std is None else image_std)
        self.do_convert_rgb = do_convert_rgb
        for name in NO_ATTRIBUTES:
            kwargs.pop(name, None)
        for name, value in kwargs.items():
            setattr(self, name, value)
        if kwargs.get("do_center_crop"):
            raise ArgumentError(
                "do_center_crop=True is not supported: size and crop_pct define the crop. Leave it "
                "out."
            )

    def __call__(self, images: Any, **options: Any) -> BatchFeature:
        """See `preprocess`."""
        return self.preprocess(images, **options)

    def preprocess(
        self,
        images: Any,
        *,
        return_tensors: str | None = None,
        data_format: DataFormat = "channels_first",
        input_data_format: DataFormat | None = None,
        **options: Any,
    ) -> BatchFeature:
        """Convert pictures to `pixel_values`.

        Args:
            images: A picture, a list of pictures, or an array with a batch of them. A picture is a
                PIL image, a path, a URL, the encoded bytes, or an array or tensor of any framework,
                with the channels first or last.
            return_tensors: `"np"`, `"pt"`, `"tf"` or `"jax"`; None for a list of arrays.
            data_format: Axis of the channels in the result.
            input_data_format: Axis of the channels of arrays; by default found by its length.
            **options: Arguments of the class, to replace for this call.

        Raises:
            ArgumentError: An option is invalid, or a picture was rescaled already.
            ImageError: A picture cannot be read.
        """
        unknown = [name for name in options if name not in OPTIONS]
        if unknown:
            raise UnknownNameError("option", unknown[0], OPTIONS)
        given = {name: value for name, value in options.items() if value is not None}
        if given:
            kept = {name: getattr(self, name) for name in OPTIONS}
            return type(self)(**kept | given).preprocess(
                images,
                return_tensors=return_tensors,
                data_format=data_format,
                input_data_format=input_data_format,
            )
        for layout in (data_format, input_data_format):
            if layout not in ("channels_first", "channels_last", None):
                raise UnknownNameError("data format", layout, ("channels_first", "channels_last"))
        rgb = self.do_convert_rgb
        done = [self._one(pixels(image, input_data_format, rgb)) for image in flat(images)]
        if data_format == "channels_last":
            done = [image.transpose(1, 2, 0) for image in done]
        return BatchFeature(pixel_values=tensors(done, return_tensors))

    def _one(self, image: Array) -> Array:
        if self.do_rescale:
            check_not_rescaled(image)
        if self.do_resize:
            image = self._resize(image)
        if self.do_rescale:
            image = (image.astype(np.float64) * self.rescale_factor).astype(np.float32)
        return normalize(image, self.image_mean, self.image_std) if self.do_normalize else image

    def _resize(self, image: Array) -> Array:
        fraction = image.dtype != np.uint8 and not np.array_equal(image, np.trunc(image))
        picture = Image.fromarray(eight_bits(image, fraction))
        side = self.size["shortest_edge"]
        if side < CROPPED_BELOW:
            check_proportions(picture)
            short = int(side / self.crop_pct)
            width, height = resized_size(picture.width, picture.height, short)
            picture = picture.resize((width, height), self.resample)
            picture = center_crop(picture, side, side, "down")
        else:
            picture = picture.resize((side, side), self.resample)
        resized = np.array(picture)
        resized = resized[None] if resized.ndim == 2 else resized.transpose(2, 0, 1)
        if fraction:
            return (resized.astype(np.float64) * (1 / 255)).astype(np.float32)
        return resized

    # ---- dictionaries and files

    def to_dict(self) -> dict[str, Any]:
        """Every attribute, as transformers writes them: None only where it is not the default."""
        values = {n: value for n, value in vars(self).items() if value is not None or n in SWITCHES}
        return {**copy.deepcopy(values), "image_processor_type": type(self).__name__}

    def to_json_string(self) -> str:
        """The content of preprocessor_config.json."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, path: str | Path) -> None:
        """Write the content of preprocessor_config.json into a file."""
        Path(path).write_text(self.to_json_string(), "utf-8")

    def save_pretrained(self, save_directory: str | Path) -> list[str]:
        """Write preprocessor_config.json into a folder, created if missing; return its path."""
        text = self.to_json_string()
        with staged(save_directory) as temporary:
            (temporary / PREPROCESSOR_FILE).write_text(text, "utf-8")
        return [str(Path(save_directory) / PREPROCESSOR_FILE)]

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], **overrides: Any) -> Self:
        """A processor from a dictionary, the inverse of `to_dict`.

        Args:
            content: The dictionary.
            **overrides: Attributes to replace.
        """
        return built_from(cls, {**copy.deepcopy(dict(content)), **overrides})

    @classmethod
    def from_json_file(cls, path: str | Path) -> Self:
        """A processor from a file."""
        return cls.from_dict(read_json(Path(path)))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        subfolder: str = "",
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **overrides: Any,
    ) -> Self:
        """The processor of a saved or published model.

        Args:
            pretrained_model_name_or_path: A folder, a preprocessor_config.json, the id of a
                repository, or a name of `convnext list`.
            revision: Branch, tag or commit of a repository.
            subfolder: Folder inside the folder or repository.
            cache_dir: Folder for downloaded files.
            force_download: Whether to download cached files again.
            local_files_only: Whether to use cached files only.
            token: Access token for repositories.
            **overrides: Attributes to replace.
        """
        refuse_unsupported(overrides)
        source = pretrained_model_name_or_path
        if not Path(source).exists() and not is_repository(source):
            return cls.from_dict(published_processor(str(source)), **overrides)
        hub = Hub(revision, cache_dir, local_files_only, token, subfolder, force_download)
        return cls.from_dict(read_json(file_of(source, PREPROCESSOR_FILE, hub)), **overrides)

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


class ConvNextFeatureExtractor(ConvNextImageProcessor):
    """The deprecated name of `ConvNextImageProcessor`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn(
            "ConvNextFeatureExtractor is the old name of ConvNextImageProcessor. Use the new one.",
            FutureWarning,
            stacklevel=2,
        )
        super().__init__(*args, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Every attribute, with the class name `ConvNextImageProcessor`."""
        return {**super().to_dict(), "image_processor_type": "ConvNextImageProcessor"}


def _edge(size: Mapping[str, int] | int) -> int:
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else size
    if isinstance(edge, bool) or not isinstance(edge, int) or edge < 1:
        raise ArgumentError(
            f"size={size!r} is invalid. Allowed: {{'shortest_edge': 224}}, or a whole number."
        )
    return edge


def _filter(resample: int) -> int:
    try:
        return int(Image.Resampling(resample))
    except ValueError as error:
        allowed = ", ".join(f"{one.name} ({one.value})" for one in Image.Resampling)
        raise ArgumentError(f"Unknown resample: {resample!r}. Allowed: {allowed}.") from error


def _channels(value: float | Sequence[float]) -> float | list[float]:
    return value if isinstance(value, int | float) else [float(one) for one in value]
