"""`from_pretrained`, `save_pretrained` and `push_to_hub`, the same for every backend.

Subclasses, in `modules` for PyTorch and `keras_models` for Keras, name, read and assign parameters.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import numpy as np

from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.hf.card import model_card
from convnext.hf.config import CONFIG_FILE, ConvNextConfig
from convnext.hf.files import (
    LoadingReport,
    bare,
    compare,
    given_tensors,
    open_tensors,
    weights_path,
    write_shards,
)
from convnext.hf.hub import Hub, file_of, is_repository, read_json, refuse_unsupported, staged
from convnext.hf.network import Kind
from convnext.hf.published import published_config
from convnext.weights.files import LazyTensor
from convnext.weights.layouts.moves import Array

__all__ = ["DTYPES", "Pretrained", "checked_config"]

DTYPES = ("float32", "float16", "bfloat16")
# Arguments of transformers that do not change the model: accepted and ignored.
NO_EFFECT = frozenset(
    {
        "_commit_hash",
        "_fast_init",
        "_from_auto",
        "adapter_kwargs",
        "attn_implementation",
        "device_map",
        "disable_mmap",
        "experts_implementation",
        "low_cpu_mem_usage",
        "trust_remote_code",
        "use_safetensors",
        "variant",
        "weights_only",
    }
)
# Files that save_pretrained writes, here and in transformers; replaced when saving again.
WEIGHTS = (
    "model.safetensors",
    "model-?????-of-?????.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model-?????-of-?????.bin",
    "pytorch_model.bin.index.json",
)


class Pretrained:
    """Base class of the models: loading and saving.

    Attributes:
        config: The configuration.
        loading_report: The parameters that `from_pretrained` loaded; None for a new model.
    """

    config_class: ClassVar[type[ConvNextConfig]]
    kind: ClassVar[Kind]
    main_input_name = "pixel_values"
    # Read by transformers' Trainer: whether the loss takes the number of items in all batches.
    accepts_loss_kwargs = False

    config: ConvNextConfig
    loading_report: LoadingReport | None = None

    @abstractmethod
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter, with transformers' names and axes."""

    @abstractmethod
    def parameter_values(self) -> dict[str, LazyTensor]:
        """Lazy tensor of every parameter, with transformers' names and axes."""

    @abstractmethod
    def assign_parameter(self, name: str, value: Array) -> None:
        """Set a parameter."""

    @classmethod
    @abstractmethod
    def _built(cls, config: ConvNextConfig, dtype: str | None) -> Self:
        """Build a model with initial values, in this float type."""

    @classmethod
    def _blank(cls, config: ConvNextConfig, dtype: str | None, stored: str) -> Self:
        """Build a model whose parameters will be loaded.

        Args:
            config: The configuration.
            dtype: The model's float type; None for the default.
            stored: The float type of the weights file.
        """
        del stored
        return cls._built(config, dtype)

    def _ready(self, fresh: Collection[str]) -> None:
        """Finish a loaded model: initialise the parameters that were not loaded.

        Args:
            fresh: The names of these parameters.
        """

    @classmethod
    def _from_config(
        cls, config: ConvNextConfig, *, dtype: Any = None, torch_dtype: Any = None, **options: Any
    ) -> Self:
        """Build a model with initial values; called by transformers' Auto classes."""
        unknown = options.keys() - NO_EFFECT
        if unknown:
            raise ArgumentTypeError(f"_from_config has no argument {sorted(unknown)[0]!r}.")
        chosen = next((one for one in (dtype, torch_dtype, config.dtype) if one is not None), None)
        return cls._built(config, _float_type(chosen))

    @classmethod
    def from_pretrained(  # noqa: PLR0913
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *,
        config: ConvNextConfig | str | Path | None = None,
        state_dict: Mapping[str, Any] | None = None,
        revision: str | None = None,
        subfolder: str = "",
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        ignore_mismatched_sizes: bool = False,
        dtype: Any = None,
        torch_dtype: Any = None,
        output_loading_info: bool = False,
        **overrides: Any,
    ) -> Any:
        """Load a saved or published model, in inference mode.

        Args:
            pretrained_model_name_or_path: A folder, the id of a repository, or a name of
                `convnext list`; None with `config` and `state_dict`.
            config: The configuration, or its file; by default that of the model.
            state_dict: Values by name, instead of the weights file.
            revision: Branch, tag or commit of a repository.
            subfolder: Folder inside the folder or repository.
            cache_dir: Folder for downloaded files.
            force_download: Whether to download cached files again.
            local_files_only: Whether to use cached files only.
            token: Access token for repositories.
            ignore_mismatched_sizes: Whether to initialise parameters of another shape, such as a
                classifier of other classes, instead of raising.
            dtype: Float type of the model: `"float32"`, `"float16"` or `"bfloat16"`, or PyTorch's;
                by default, and with `"auto"`, on PyTorch that of the weights.
            torch_dtype: Another name of `dtype`.
            output_loading_info: Whether to return the names of parameters not loaded as well.
            **overrides: Attributes of the configuration to replace, such as `num_labels=10`.

        Returns:
            The model; with `output_loading_info`, the model and a dictionary of sets of names.

        Raises:
            WeightsMismatchError: The weights are of another model, or have other shapes.
            WeightsUnavailableError: There is no such folder or repository.
        """
        refuse_unsupported(overrides)
        source = pretrained_model_name_or_path
        hub = Hub(revision, cache_dir, local_files_only, token, subfolder, force_download)
        config = cls._configured(source, config, hub, overrides)
        float_type = _float_type(dtype if dtype is not None else torch_dtype)
        with cls._tensors(source, state_dict, hub) as tensors:
            stored = config.dtype or next(
                (str(t.dtype) for t in tensors.values() if str(t.dtype) in DTYPES), "float32"
            )
            model = cls._blank(config, float_type, str(stored).removeprefix("torch."))
            shapes = {name: tensor.shape for name, tensor in tensors.items()}
            report = compare(
                model.parameter_shapes(),
                shapes,
                "the given values" if source is None else str(source),
                ignore_mismatched_sizes,
                may_be_empty=state_dict is not None,
            )
            for name, short in report.names_in_file.items():
                values = tensors[short].read()
                model.assign_parameter(name, np.array(values, np.float32, order="C"))
        model._ready(report.fresh)
        if report.fresh:
            logging.getLogger("convnext").warning("%s: %s", cls.__name__, report)
        model.loading_report = report
        if not output_loading_info:
            return model
        names = ("missing", "unexpected", "mismatched")
        found = {f"{name}_keys": set(getattr(report, name)) for name in names}
        return model, {**found, "error_msgs": []}

    @classmethod
    def _configured(
        cls,
        source: str | Path | None,
        config: ConvNextConfig | str | Path | None,
        hub: Hub,
        overrides: dict[str, Any],
    ) -> ConvNextConfig:
        """The configuration of a model to load, with overrides applied."""
        kind = cls.config_class
        if isinstance(config, str | Path):
            content = read_json(file_of(config, CONFIG_FILE, hub))
        elif config is not None:
            content = config.to_dict()
        elif source is None:
            raise ArgumentError(
                "Without a name or path there is no configuration. Pass config as well."
            )
        elif _is_published(source):
            content = published_config(str(source))
        else:
            content = read_json(file_of(source, CONFIG_FILE, hub))
        plain = kind.from_dict(content)
        overrides = {n: value for n, value in overrides.items() if n not in NO_EFFECT}
        unknown = [name for name in overrides if not hasattr(plain, name)]
        if unknown:
            raise ArgumentTypeError(
                f"{cls.__name__}.from_pretrained has no argument {unknown[0]!r}, and its "
                "configuration no such attribute."
            )
        loaded = kind.from_dict(content, **overrides)
        loaded.name_or_path = "" if source is None else str(source)
        return loaded

    @classmethod
    @contextmanager
    def _tensors(
        cls, source: str | Path | None, given: Mapping[str, Any] | None, hub: Hub
    ) -> Iterator[dict[str, LazyTensor]]:
        """The tensors to load, by `bare` name."""
        if given is not None:
            yield {bare(name): tensor for name, tensor in given_tensors(given).items()}
            return
        if source is None:
            raise ArgumentError(
                "Without a name or path there are no weights. Pass state_dict as well."
            )
        if not _is_published(source):
            if Path(source).is_file():
                raise ArgumentError(
                    f"{source} is a file. Give the folder that holds it and its config.json, or "
                    "load it with convnext.load_weights."
                )
            source = weights_path(source, hub)
        layout = "dinov3" if cls.config_class.model_type == "dinov3_convnext" else "huggingface"
        with open_tensors(source, layout) as tensors:
            yield tensors

    def save_pretrained(  # noqa: PLR0913
        self,
        save_directory: str | Path,
        *,
        is_main_process: bool = True,
        state_dict: Mapping[str, Any] | None = None,
        save_function: Any = None,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        **options: Any,
    ) -> None:
        """Write config.json and the weights as transformers reads them.

        Args:
            save_directory: The folder; created if missing. Weights in it are replaced.
            is_main_process: False to write nothing, in processes other than the main one.
            state_dict: Values by name, such as a trainer gathers; by default the model's.
            save_function: Ignored; for compatibility with transformers.
            max_shard_size: Size limit of a file; a larger model becomes shards with an index.
            safe_serialization: False for PyTorch's pickled form instead of safetensors.
            push_to_hub: Whether to upload the model as well.
            repo_id: Repository to upload to; by default the folder's name.
            **options: Options of `push_to_hub`.
        """
        del save_function
        if options and not push_to_hub:
            raise ArgumentTypeError(f"save_pretrained has no argument {next(iter(options))!r}.")
        if not is_main_process:
            return
        values = self.parameter_values() if state_dict is None else given_tensors(state_dict)
        text = self.saved_config(values).to_json_string()
        with staged(save_directory, replaces=WEIGHTS) as temporary:
            (temporary / CONFIG_FILE).write_text(text, "utf-8")
            write_shards(temporary, values, max_shard_size, safe_serialization)
        if push_to_hub:
            self.push_to_hub(repo_id or Path(save_directory).name, **options)

    def saved_config(self, values: Mapping[str, LazyTensor] | None = None) -> ConvNextConfig:
        """A copy of the configuration with the class and the float type of the model."""
        config = type(self.config).from_dict(self.config.to_dict())
        config.architectures = [type(self).__name__]
        config.dtype = str(next(iter((values or self.parameter_values()).values())).dtype)
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
        """Upload the model with a model card.

        Args:
            repo_id: Repository, `owner/name`; created if missing.
            processor: A `ConvNextImageProcessor` to upload beside the model.
            licence: Identifier of the weights' licence; by default that of the published checkpoint
                that the model was loaded from.
            private: Whether a new repository is private.
            token: Access token; by default the stored one.
            revision: Branch to upload to.
            commit_message: Title of the commit.
            create_pr: Whether to open a pull request instead.
            max_shard_size: Size limit of a file.

        Returns:
            The commit, as `huggingface_hub` describes it.
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

    @classmethod
    def can_generate(cls) -> bool:
        """Whether the model generates text; read by pipelines and trainers of transformers."""
        return False

    # ---- interface of backbones

    @property
    def stage_names(self) -> list[str]:
        """All stages, the stem first."""
        return self.config.stage_names

    @property
    def out_features(self) -> list[str]:
        """Stages whose maps a backbone returns."""
        return self.config.out_features

    @property
    def out_indices(self) -> list[int]:
        """Indices of `out_features` in `stage_names`."""
        return self.config.out_indices

    @property
    def num_features(self) -> list[int]:
        """Channels of every stage, the stem first; the stem of DINOv3 is the input picture."""
        config = self.config
        is_picture = config.model_type == "dinov3_convnext"
        stem = config.num_channels if is_picture else config.hidden_sizes[0]
        return [stem, *config.hidden_sizes]

    @property
    def out_feature_channels(self) -> Mapping[str, int]:
        """Channels of every stage by name."""
        return dict(zip(self.stage_names, self.num_features, strict=True))

    @property
    def channels(self) -> list[int]:
        """Channels of the maps of `out_features`."""
        return [self.out_feature_channels[name] for name in self.out_features]

    @property
    def num_labels(self) -> int:
        """Width of the classifier."""
        return self.config.num_labels


def checked_config(given: Any, wanted: type[ConvNextConfig], model: str) -> ConvNextConfig:
    """`given`, checked to be a configuration of the wanted class.

    Raises:
        ArgumentTypeError: It is of another class or family.
    """
    if not isinstance(given, wanted) or given.model_type != wanted.model_type:
        raise ArgumentTypeError(
            f"{model} is built from a {wanted.__name__}, not {type(given).__name__}. To load a "
            f"model, call {model}.from_pretrained."
        )
    return given


def _is_published(source: str | Path) -> bool:
    return isinstance(source, str) and not is_repository(source) and not Path(source).exists()


def _float_type(dtype: Any) -> str | None:
    if dtype is None or dtype == "auto":
        return None
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise UnknownNameError("dtype", dtype, (*DTYPES, "auto"))
    return name
