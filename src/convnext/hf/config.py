"""Configurations of ConvNeXt V1, V2 and DINOv3, as transformers writes them in config.json.

Arguments, defaults, attributes and files are those of transformers 5; unknown keys of a file are
kept. Sequences are lists everywhere, where transformers has tuples in memory; arguments may be
either.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.hf.hub import Hub, built_from, file_of, read_json, refuse_unsupported, staged
from convnext.hf.stages import aligned

__all__ = [
    "CONFIG_FILE",
    "ConvNextConfig",
    "ConvNextV2Config",
    "DINOv3ConvNextConfig",
    "ProblemType",
]

CONFIG_FILE = "config.json"
DEFAULT_LABELS = 2

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]

# Attributes of every transformers configuration, with their defaults.
COMMON: Mapping[str, Any] = {
    "output_hidden_states": False,
    "return_dict": True,
    "dtype": None,
    "chunk_size_feed_forward": 0,
    "is_encoder_decoder": False,
    "architectures": None,
}


class ConvNextConfig:
    """The configuration of a ConvNeXt V1, with the arguments of transformers.

    Args:
        num_channels: Channels of the pictures.
        patch_size: Side of the stem's patches.
        num_stages: Number of stages; `hidden_sizes` and `depths` have one number for each.
        hidden_sizes: Channels in each stage; by default those of tiny.
        depths: Blocks in each stage; by default those of tiny.
        hidden_act: Activation inside the blocks: its name, such as `"gelu"`, `"relu"`, `"selu"` or
            `"gelu_new"`, or a function (which cannot be saved).
        initializer_range: Standard deviation of the initial weights.
        layer_norm_eps: Epsilon of the norm after pooling; all other norms have 1e-6.
        layer_scale_init_value: Initial layer scale; 0 for no layer scale.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 at the first.
        image_size: Side of the pictures; for information only, models take any size.
        out_features: Stages whose maps a backbone returns, of `stage_names`.
        out_indices: The same by number; negative numbers count from the end.
        **kwargs: `num_labels`, `id2label`, `label2id`, `problem_type`, `output_hidden_states`,
            `return_dict`, and any other attribute; `output_stride`, which transformers lacks, is
            8 or 16 for larger maps by dilation.

    Example:
        >>> config = ConvNextConfig(depths=(2, 2, 6, 2), hidden_sizes=(40, 80, 160, 320))
        >>> config.stage_names[0], config.out_features, config.num_labels
        ('stem', ['stage4'], 2)
    """

    model_type = "convnext"
    attribute_map: Mapping[str, str] = {"num_hidden_layers": "num_stages"}

    unsaved: ClassVar[tuple[str, ...]] = (
        "_out_features",
        "_out_indices",
        "_dtype",
        "_attn_implementation",
    )
    # Configurations of a composite model's parts; Auto classes of transformers read it.
    sub_configs: ClassVar[Mapping[str, Any]] = {}

    output_hidden_states: bool
    return_dict: bool
    architectures: list[str] | None
    output_stride: int | None = None  # in files only where it is given

    def __init__(  # noqa: PLR0913
        self,
        num_channels: int = 3,
        patch_size: int | Sequence[int] = 4,
        num_stages: int = 4,
        hidden_sizes: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
        hidden_act: Any = "gelu",
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-12,
        layer_scale_init_value: float = 1e-6,
        drop_path_rate: float = 0.0,
        image_size: int | Sequence[int] = 224,
        out_features: Sequence[str] | None = None,
        out_indices: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        num_stages = kwargs.pop("num_hidden_layers", num_stages)
        self.num_channels = num_channels
        self.patch_size = _as_list(patch_size)
        self.num_stages = num_stages
        self.hidden_sizes = _integers("hidden_sizes", hidden_sizes, (96, 192, 384, 768))
        self.depths = _integers("depths", depths, (3, 3, 9, 3))
        self.hidden_act = hidden_act
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        if self.model_type != "convnextv2":
            self.layer_scale_init_value = layer_scale_init_value
        self.drop_path_rate = drop_path_rate
        self.image_size = _as_list(image_size)
        self.stage_names = ["stem", *(f"stage{i + 1}" for i in range(len(self.depths)))]
        kwargs.pop("stage_names", None)
        self._out_features, self._out_indices = aligned(self.stage_names, out_features, out_indices)
        self._set_common(kwargs)

    def _set_common(self, kwargs: dict[str, Any]) -> None:
        old_name = kwargs.pop("_name_or_path", None)
        self.name_or_path = kwargs.pop("name_or_path", None) or old_name or ""
        kwargs.setdefault("dtype", kwargs.pop("torch_dtype", None))
        # Without effect, as there is no attention; transformers does not save it either.
        self._attn_implementation = kwargs.pop("attn_implementation", None)
        for name, default in COMMON.items():
            setattr(self, name, kwargs.pop(name, default))
        self.problem_type: ProblemType | None = kwargs.pop("problem_type", None)
        if self.problem_type not in (None, *get_args(ProblemType)):
            raise UnknownNameError("problem_type", self.problem_type, get_args(ProblemType))
        self._set_labels(
            kwargs.pop("num_labels", None),
            kwargs.pop("id2label", None),
            kwargs.pop("label2id", None),
        )
        if self.problem_type == "single_label_classification" and self.num_labels == 1:
            raise ArgumentError(
                "problem_type='single_label_classification' needs more than one label: with one, "
                "every answer is certain. Give num_labels=2, or problem_type='regression'."
            )
        for name, value in kwargs.items():
            if name != "model_type":
                setattr(self, name, value)

    def _set_labels(
        self,
        count: int | None,
        id2label: Mapping[Any, str] | None,
        label2id: Mapping[str, int] | None,
    ) -> None:
        if id2label is not None:
            named = {int(index): str(name) for index, name in id2label.items()}
            if count is not None and count != len(named):
                raise ArgumentError(
                    f"num_labels={count} and an id2label of {len(named)} names contradict each "
                    "other. Give one of them, or as many names as labels."
                )
            self.id2label = named
        else:
            if isinstance(count, bool) or not isinstance(count, int | None):
                raise ArgumentTypeError(f"num_labels is a whole number, not {count!r}.")
            self.id2label = _numbered(DEFAULT_LABELS if count is None else count)
        if label2id is None:
            label2id = {name: index for index, name in self.id2label.items()}
        self.label2id = {str(name): int(index) for name, index in label2id.items()}

    @property
    def num_labels(self) -> int:
        """Number of labels; setting another number replaces their names by `LABEL_0` and so on."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        if count != len(self.id2label):
            self.id2label = _numbered(count)
            self.label2id = {name: index for index, name in self.id2label.items()}

    @property
    def name_or_path(self) -> str:
        """Folder, repository or checkpoint that the model was loaded from; empty if none."""
        return self._name_or_path

    @name_or_path.setter
    def name_or_path(self, name: str | Path) -> None:
        self._name_or_path = str(name)

    @property
    def dtype(self) -> Any:
        """Float type of the weights: PyTorch's if PyTorch is imported, else its name."""
        return getattr(sys.modules.get("torch"), str(self._dtype), self._dtype)

    @dtype.setter
    def dtype(self, dtype: Any) -> None:
        self._dtype = None if dtype is None else str(dtype).removeprefix("torch.")

    @property
    def num_hidden_layers(self) -> int:
        """Another name of `num_stages`."""
        return self.num_stages

    @num_hidden_layers.setter
    def num_hidden_layers(self, count: int) -> None:
        self.num_stages = count

    @property
    def out_features(self) -> list[str]:
        """Stages whose maps a backbone returns; setting them sets `out_indices`."""
        return self._out_features

    @out_features.setter
    def out_features(self, names: Sequence[str] | None) -> None:
        self._out_features, self._out_indices = aligned(self.stage_names, names, None)

    @property
    def out_indices(self) -> list[int]:
        """Indices of `out_features` in `stage_names`; setting them sets `out_features`."""
        return self._out_indices

    @out_indices.setter
    def out_indices(self, indices: Sequence[int] | None) -> None:
        self._out_features, self._out_indices = aligned(self.stage_names, None, indices)

    @property
    def use_return_dict(self) -> bool:
        """Whether models return their output classes, not tuples."""
        return bool(self.return_dict)

    # ---- dictionaries and files

    def to_dict(self) -> dict[str, Any]:
        """Every attribute, as transformers writes them."""
        content = copy.deepcopy(
            {name: value for name, value in vars(self).items() if name not in self.unsaved}
        )
        content["model_type"] = self.model_type
        content["dtype"] = self._dtype
        content["out_features"] = list(self.out_features)
        content["out_indices"] = list(self.out_indices)
        return content

    def to_diff_dict(self) -> dict[str, Any]:
        """The attributes, without those that have the default of every transformers model."""
        content = self.to_dict()
        del content["_name_or_path"]
        if content["id2label"] == _numbered(DEFAULT_LABELS):
            del content["id2label"], content["label2id"]
        defaults = {**COMMON, "problem_type": None}
        return {
            n: value for n, value in content.items() if n not in defaults or value != defaults[n]
        }

    def update(self, values: Mapping[str, Any]) -> None:
        """Set attributes."""
        for name, value in values.items():
            setattr(self, name, value)

    def get_text_config(self, **_: Any) -> Self:
        """This configuration; composite models of transformers return that of their text part."""
        return self

    def __iter__(self) -> Iterator[str]:
        """The names of the attributes."""
        return iter(vars(self))

    def to_json_string(self, use_diff: bool = True) -> str:
        """The content of config.json.

        Args:
            use_diff: Whether to omit defaults, as `to_diff_dict`.

        Raises:
            ArgumentError: A value cannot be written as JSON, such as a function as `hidden_act`.
        """
        content = self.to_diff_dict() if use_diff else self.to_dict()
        content.pop("_name_or_path", None)
        try:
            return json.dumps(content, indent=2, sort_keys=True) + "\n"
        except TypeError as error:
            raise ArgumentError(
                f"This configuration cannot be written as JSON: {error}. Name the activation "
                "('gelu', 'relu', ...) instead of giving a function."
            ) from error

    def to_json_file(self, path: str | Path, use_diff: bool = True) -> None:
        """Write the content of config.json into a file."""
        text = self.to_json_string(use_diff)
        Path(path).write_text(text, "utf-8")

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write config.json into a folder, which is created if missing."""
        text = self.to_json_string()
        with staged(save_directory) as temporary:
            (temporary / CONFIG_FILE).write_text(text, "utf-8")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], **overrides: Any) -> Self:
        """A configuration from a dictionary, the inverse of `to_dict`.

        Args:
            content: The dictionary.
            **overrides: Attributes to replace.

        Raises:
            ArgumentError: The dictionary is of another kind of model, or has an invalid value.
        """
        given = content.get("model_type", cls.model_type)
        if given != cls.model_type:
            raise ArgumentError(
                f"This is the configuration of a {given!r}; {cls.__name__} reads "
                f"{cls.model_type!r}. For 'convnext' use the ConvNext classes, for 'convnextv2' "
                "the ConvNextV2 classes, for 'dinov3_convnext' the DINOv3ConvNext classes."
            )
        values = {name: copy.deepcopy(value) for name, value in content.items()}
        if overrides.get("out_features") is not None or overrides.get("out_indices") is not None:
            values.pop("out_features", None)
            values.pop("out_indices", None)
        if overrides.get("id2label") is not None:
            values.pop("label2id", None)
        elif overrides.get("num_labels") not in (None, len(values.get("id2label") or ())):
            values.pop("id2label", None)
            values.pop("label2id", None)
        return built_from(cls, values | overrides)

    @classmethod
    def from_json_file(cls, path: str | Path) -> Self:
        """A configuration from a file."""
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
        """The configuration of a saved or published model.

        Args:
            pretrained_model_name_or_path: A folder, a config.json, or the id of a repository.
            revision: Branch, tag or commit of a repository.
            subfolder: Folder inside the folder or repository.
            cache_dir: Folder for downloaded files.
            force_download: Whether to download cached files again.
            local_files_only: Whether to use cached files only.
            token: Access token for repositories.
            **overrides: Attributes to replace.
        """
        refuse_unsupported(overrides)
        hub = Hub(revision, cache_dir, local_files_only, token, subfolder, force_download)
        path = file_of(pretrained_model_name_or_path, CONFIG_FILE, hub)
        return cls.from_dict(read_json(path), **overrides)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        content = self.to_dict()
        return (
            f"{type(self).__name__} {json.dumps(content, indent=2, sort_keys=True, default=repr)}"
        )


class ConvNextV2Config(ConvNextConfig):
    """The configuration of a ConvNeXt V2: as V1, without `layer_scale_init_value`.

    Example:
        >>> ConvNextV2Config().model_type
        'convnextv2'
    """

    model_type = "convnextv2"


class DINOv3ConvNextConfig(ConvNextConfig):
    """The configuration of Meta's DINOv3 ConvNeXt: as V1, without `patch_size`.

    `layer_norm_eps` is that of every norm; the map of stage `"stem"` is the input picture.

    Example:
        >>> DINOv3ConvNextConfig(depths=[3, 3, 27, 3]).num_stages
        4
    """

    model_type = "dinov3_convnext"
    unsaved = (*ConvNextConfig.unsaved, "patch_size", "num_stages")

    def __init__(
        self,
        num_channels: int = 3,
        hidden_sizes: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
        layer_norm_eps: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_channels,
            hidden_sizes=hidden_sizes,
            depths=depths,
            layer_norm_eps=layer_norm_eps,
            **{"num_stages": len(hidden_sizes or range(4)), **kwargs},
        )


def _as_list(value: int | Sequence[int]) -> int | list[int]:
    return value if isinstance(value, int) else list(value)


def _integers(name: str, given: Sequence[int] | None, default: Sequence[int]) -> list[int]:
    values = default if given is None else given
    if not isinstance(values, list | tuple) or not values:
        raise ArgumentTypeError(f"{name} is a list with one number for each stage, not {values!r}.")
    if any(isinstance(value, bool) or not isinstance(value, int) for value in values):
        raise ArgumentTypeError(f"{name} holds whole numbers, not {list(values)!r}.")
    if min(values) < 1:
        raise ArgumentError(f"{name} holds numbers of at least 1, not {list(values)!r}.")
    return list(values)


def _numbered(count: int) -> dict[int, str]:
    if count < 0:
        raise ArgumentError(f"num_labels is at least 0, not {count}.")
    return {index: f"LABEL_{index}" for index in range(count)}
