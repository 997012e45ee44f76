"""`from_pretrained`, `save_pretrained` and `push_to_hub`, the same for every backend.

A model of either backend says what its parameters are called, gives their values and takes others;
the rest is here. It knows neither PyTorch nor Keras.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import numpy as np

from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.hf.card import model_card
from convnext.hf.config import CONFIG_FILE, ConvNextConfig, ConvNextV2Config
from convnext.hf.files import LoadingReport, compare, open_tensors, weights_path, write_shards
from convnext.hf.hub import Hub, is_repository, refuse_unsupported, staged
from convnext.hf.network import Kind
from convnext.hf.published import published_config
from convnext.weights.files import LazyTensor
from convnext.weights.layouts.moves import Array

__all__ = ["DTYPES", "Pretrained", "checked_config"]

DTYPES = ("float32", "float16", "bfloat16")
# What save_pretrained writes, here and in transformers, and nothing that a user may lay beside it.
WEIGHTS = (
    "model.safetensors",
    "model-?????-of-?????.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model-?????-of-?????.bin",
    "pytorch_model.bin.index.json",
)


class Pretrained:
    """What every model of this door can do.

    Attributes:
        config: What the model was built from.
        loading_report: What `from_pretrained` loaded; None for a model that was built.
    """

    config_class: ClassVar[type[ConvNextConfig]]
    kind: ClassVar[Kind]
    main_input_name = "pixel_values"
    # transformers' Trainer asks: whether the loss takes the number of items in all batches.
    accepts_loss_kwargs = False

    config: ConvNextConfig
    loading_report: LoadingReport | None = None

    @abstractmethod
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter, by transformers' name and in its axes."""

    @abstractmethod
    def parameter_values(self) -> dict[str, LazyTensor]:
        """Every parameter, by transformers' name and in its axes."""

    @abstractmethod
    def assign_parameter(self, name: str, value: Array) -> None:
        """Give a parameter another value."""

    @classmethod
    @abstractmethod
    def _built(cls, config: ConvNextConfig, dtype: str | None) -> Self:
        """A model with initial values, in this float type."""

    @classmethod
    def from_pretrained(  # noqa: PLR0913
        cls,
        source: str | Path,
        *,
        config: ConvNextConfig | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        ignore_mismatched_sizes: bool = False,
        dtype: Any = None,
        torch_dtype: Any = None,
        output_loading_info: bool = False,
        **overrides: Any,
    ) -> Any:
        """A saved or published model, ready to answer.

        Args:
            source: A folder, the id of a repository, or a name of `convnext list`.
            config: The configuration; by default that of the source.
            revision: Branch, tag or commit of a repository.
            cache_dir: Where files of repositories are kept.
            local_files_only: Whether to do without the network.
            token: Access token for repositories.
            ignore_mismatched_sizes: Whether parameters of another shape are left at new values, as
                for a classifier of other classes, instead of being an error.
            dtype: Float type of the model: `"float32"`, `"float16"` or `"bfloat16"`, or PyTorch's.
            torch_dtype: Another name of `dtype`.
            output_loading_info: Whether to return what was loaded as well.
            **overrides: Attributes of the configuration that are to have another value, such as
                `num_labels=10`.

        Returns:
            The model; with `output_loading_info`, the model and a dictionary of names.

        Raises:
            WeightsMismatchError: The weights are of another model, or have other shapes.
            WeightsUnavailableError: There is no such folder or repository.
        """
        refuse_unsupported(overrides)
        hub = Hub(revision, cache_dir, local_files_only, token)
        published = _is_published(source)
        if config is not None:
            config = cls.config_class.from_dict(config.to_dict(), **overrides)
        elif published:
            config = cls.config_class.from_dict(published_config(str(source)), **overrides)
        else:
            config = cls.config_class.from_pretrained(
                source,
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                token=token,
                **overrides,
            )
        config.name_or_path = str(source)
        place = source if published else weights_path(_folder(source), hub)
        model = cls._built(config, _float_type(dtype if dtype is not None else torch_dtype))
        report = model._load(place, str(source), ignore_mismatched_sizes)
        if report.fresh:
            logging.getLogger("convnext").warning("%s: %s", cls.__name__, report)
        model.loading_report = report
        model._ready()
        if not output_loading_info:
            return model
        names = ("missing", "unexpected", "mismatched")
        return model, {f"{name}_keys": list(getattr(report, name)) for name in names}

    def _ready(self) -> None:
        """Make a loaded model ready to answer."""

    def _load(self, place: str | Path, source: str, ignore_mismatched: bool) -> LoadingReport:
        with open_tensors(place) as tensors:
            shapes = {name: tensor.shape for name, tensor in tensors.items()}
            report = compare(self.parameter_shapes(), shapes, source, ignore_mismatched)
            for name, short in report.places.items():
                values = tensors[short].read()
                self.assign_parameter(name, np.array(values, np.float32, order="C"))
        return report

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        **options: Any,
    ) -> None:
        """Write config.json and the weights as transformers reads them.

        Args:
            folder: Where to; made if need be. Weights that lie there already are replaced.
            max_shard_size: Largest file; a larger model becomes several files and an index.
            safe_serialization: False for PyTorch's pickled form instead of safetensors.
            push_to_hub: Whether to upload the model as well.
            repo_id: Repository to upload to; by default the folder's name.
            **options: Those of `push_to_hub`.
        """
        if options and not push_to_hub:
            raise ArgumentTypeError(f"save_pretrained has no argument {next(iter(options))!r}.")
        config = self.saved_config()
        text = config.to_json_string()
        with staged(folder, replaces=WEIGHTS) as temporary:
            (temporary / CONFIG_FILE).write_text(text, "utf-8")
            write_shards(temporary, self.parameter_values(), max_shard_size, safe_serialization)
        if push_to_hub:
            self.push_to_hub(repo_id or Path(folder).name, **options)

    def saved_config(self) -> ConvNextConfig:
        """The configuration with what a file says of the model besides."""
        config = type(self.config).from_dict(self.config.to_dict())
        config.architectures = [type(self).__name__]
        config.dtype = str(next(iter(self.parameter_values().values())).dtype)
        return config

    def push_to_hub(  # noqa: PLR0913
        self,
        repo_id: str,
        *,
        processor: Any = None,
        licence: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        create_pr: bool = False,
        max_shard_size: int | str = "5GB",
    ) -> Any:
        """Upload the model with a card that says what it is and how to use it.

        Args:
            repo_id: Repository, `owner/name`; made if need be.
            processor: A `ConvNextImageProcessor` to upload beside the model.
            licence: Identifier of the weights' licence; by default that of the published weights
                that the model began with.
            private: Whether a repository that is made is private.
            token: Access token; by default the stored one.
            revision: Branch to upload to.
            commit_message: What the commit is called.
            create_pr: Whether to open a pull request instead.
            max_shard_size: Largest file.

        Returns:
            What `huggingface_hub` says of the commit.
        """
        from huggingface_hub import HfApi  # slow to import

        with TemporaryDirectory(prefix="convnext-") as folder:
            self.save_pretrained(folder, max_shard_size=max_shard_size)
            if processor is not None:
                processor.save_pretrained(folder)
            card = model_card(self.saved_config(), repo_id, licence=licence)
            (Path(folder) / "README.md").write_text(card, "utf-8")
            api = HfApi(token=token)
            repository = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            return api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                revision=revision,
                commit_message=commit_message or f"Upload {type(self).__name__}",
                create_pr=create_pr,
            )

    # ---- what backbones are asked

    @property
    def stage_names(self) -> list[str]:
        """All stages, the stem first."""
        return self.config.stage_names

    @property
    def out_features(self) -> list[str]:
        """Stages whose maps a backbone gives."""
        return self.config.out_features

    @property
    def out_indices(self) -> list[int]:
        """The same by number."""
        return self.config.out_indices

    @property
    def num_features(self) -> list[int]:
        """Channels of every stage, the stem first."""
        return [self.config.hidden_sizes[0], *self.config.hidden_sizes]

    @property
    def out_feature_channels(self) -> Mapping[str, int]:
        """Channels of every stage by name."""
        return dict(zip(self.stage_names, self.num_features, strict=True))

    @property
    def channels(self) -> list[int]:
        """Channels of the maps that a backbone gives."""
        return [self.out_feature_channels[name] for name in self.out_features]

    @property
    def num_labels(self) -> int:
        """Width of the classifier."""
        return self.config.num_labels


def checked_config(given: Any, wanted: type[ConvNextConfig], model: str) -> ConvNextConfig:
    """The configuration of a model that is to be built.

    Raises:
        ArgumentTypeError: It is none, or that of the other family.
    """
    is_v2 = wanted is ConvNextV2Config
    if not isinstance(given, wanted) or isinstance(given, ConvNextV2Config) != is_v2:
        raise ArgumentTypeError(
            f"{model} is built from a {wanted.__name__}, not {type(given).__name__}. To load a "
            f"model, call {model}.from_pretrained."
        )
    return given


def _is_published(source: str | Path) -> bool:
    return isinstance(source, str) and not is_repository(source) and not Path(source).exists()


def _folder(source: str | Path) -> str | Path:
    if Path(source).is_file():
        raise ArgumentError(
            f"{source} is a file. Give the folder that holds it and its config.json, or load it "
            "with convnext.load_weights."
        )
    return source


def _float_type(dtype: Any) -> str | None:
    if dtype is None or dtype == "auto":
        return None
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise UnknownNameError("dtype", dtype, (*DTYPES, "auto"))
    return name
