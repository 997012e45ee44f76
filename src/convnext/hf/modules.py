"""The models on PyTorch: `torch.nn.Module`s with transformers' names, axes and behaviour.

Their layers (`convnext.hf.layers`) are PyTorch's, and each is called, so that optimizers, hooks,
adapters and compilers work on them as on transformers' models. Maps have their channels first, and
last in memory. The costly operations are those of `convnext.nn.operations`, as in all models.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Any, ClassVar, Self, cast

import torch
from torch.utils._pytree import register_pytree_node
from torch.utils.hooks import RemovableHandle

from convnext.errors import ArgumentError, DeviceError
from convnext.hf import outputs
from convnext.hf.answers import check_pixels, given, wants_maps
from convnext.hf.config import ConvNextConfig, ConvNextV2Config, DINOv3ConvNextConfig
from convnext.hf.files import lazy
from convnext.hf.layers import (
    DINOV3,
    ConvNextEncoder,
    ConvNextLayer,
    MapNorm,
    Parts,
    PatchConv,
    Plan,
    checkpoint_with,
)
from convnext.hf.losses import classification_loss
from convnext.hf.network import Kind
from convnext.hf.pretrained import Pretrained, checked_config
from convnext.weights.files import LazyTensor
from convnext.weights.layouts.moves import Array

__all__ = [
    "ConvNextBackbone",
    "ConvNextForImageClassification",
    "ConvNextModel",
    "ConvNextV2Backbone",
    "ConvNextV2ForImageClassification",
    "ConvNextV2Model",
    "DINOv3ConvNextBackbone",
    "DINOv3ConvNextModel",
]


def _register(kind: type[outputs.ModelOutput]) -> None:
    """Register an output class as a pytree, for compilers, exporters and replicas."""

    def flatten(out: outputs.ModelOutput) -> tuple[list[Any], tuple[str, ...]]:
        return list(out.to_tuple()), tuple(out)

    def rebuild(values: Iterable[Any], names: tuple[str, ...]) -> outputs.ModelOutput:
        return kind(zip(names, values, strict=True))

    name = f"{kind.__module__}.{kind.__qualname__}"
    register_pytree_node(kind, flatten, rebuild, serialized_type_name=name)


for _kind in outputs.ModelOutput.__subclasses__():
    _register(_kind)


def _require_grad(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> None:
    output.requires_grad_(True)


class _Module(Pretrained, torch.nn.Module):  # type: ignore[misc]
    """Base class of the models."""

    config_class: ClassVar[type[ConvNextConfig]] = ConvNextConfig
    kind: ClassVar[Kind]
    base_model_prefix = "convnext"
    supports_gradient_checkpointing = True
    # Modules that accelerate may not split across devices.
    _no_split_modules: ClassVar[list[str]] = ["ConvNextLayer"]
    _require_grads_hook: RemovableHandle | None = None

    def __init__(self, config: ConvNextConfig) -> None:
        super().__init__()
        self.config = checked_config(config, self.config_class, type(self).__name__)
        self._build()
        own = [n for n, part in self.named_children() if not isinstance(part, _Module)]
        self.init_weights(n for n, _ in self.named_parameters() if n.partition(".")[0] in own)
        if getattr(config, "gradient_checkpointing", False):
            self.gradient_checkpointing_enable()

    @abstractmethod
    def _build(self) -> None:
        """Create the submodules."""

    # ---- initial values

    def init_weights(self, names: Iterable[str] | None = None) -> None:
        """Initialise parameters, with transformers' values for the same PyTorch seed.

        Args:
            names: The parameters; by default all.
        """
        wanted = {name for name, _ in self.named_parameters()} if names is None else set(names)
        # transformers initialises the stages first; the order decides the random numbers.
        parts = sorted(self.named_modules(), key=lambda part: ".stages." not in f".{part[0]}.")
        with torch.no_grad():
            for prefix, module in parts:
                for name, parameter in module.named_parameters(prefix, recurse=False):
                    if name in wanted:
                        self._draw(module, name.rpartition(".")[2], parameter)

    def _draw(self, module: torch.nn.Module, name: str, parameter: torch.Tensor) -> None:
        if isinstance(module, ConvNextLayer):
            parameter.fill_(self.config.layer_scale_init_value)
        elif isinstance(module, torch.nn.LayerNorm) and name == "weight":
            parameter.fill_(1)
        elif isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and name == "weight":
            parameter.normal_(0, self.config.initializer_range)
        else:
            parameter.zero_()

    # ---- PreTrainedModel's interface

    @property
    def base_model(self) -> torch.nn.Module:
        """The model without its classifier."""
        return getattr(self, self.base_model_prefix, self)

    @property
    def dtype(self) -> torch.dtype:
        """Float type of the parameters."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Number of parameters; `exclude_embeddings` has no effect: there are none of words."""
        del exclude_embeddings
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Recompute blocks in the backward pass, to save memory in training.

        Args:
            activation_checkpointing_kwargs: Arguments of `torch.utils.checkpoint.checkpoint`;
                `use_reentrant` is False by default.
            every_n_layers: 1 for every block, 2 for every other one, and so on.
            offload: Not supported.
        """
        if offload:
            raise ArgumentError(
                "offload=True is not supported. Pass offload=False, or train inside "
                "torch.autograd.graph.save_on_cpu()."
            )
        for number, block in enumerate(self._blocks()):
            block.gradient_checkpointing = number % every_n_layers == 0
            block._gradient_checkpointing_func = checkpoint_with(
                activation_checkpointing_kwargs or {}
            )

    def activation_checkpointing_disable(self) -> None:
        """Keep the activations of blocks in training."""
        for block in self._blocks():
            block.gradient_checkpointing = False

    @property
    def is_activation_checkpointing(self) -> bool:
        """Whether the backward pass recomputes a block."""
        return any(block.gradient_checkpointing for block in self._blocks())

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """The old name of `activation_checkpointing_enable`."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **options)

    def gradient_checkpointing_disable(self) -> None:
        """The old name of `activation_checkpointing_disable`."""
        self.activation_checkpointing_disable()

    @property
    def is_gradient_checkpointing(self) -> bool:
        """The old name of `is_activation_checkpointing`."""
        return self.is_activation_checkpointing

    def get_input_embeddings(self) -> torch.nn.Module:
        """The first convolution."""
        return next(module for module in self.modules() if isinstance(module, PatchConv))

    def enable_input_require_grads(self) -> None:
        """Give the stem's output a gradient: `use_reentrant=True` needs one where it is frozen."""
        self.disable_input_require_grads()
        stem = self.get_input_embeddings()
        self._require_grads_hook = stem.register_forward_hook(_require_grad)

    def disable_input_require_grads(self) -> None:
        """Undo `enable_input_require_grads`."""
        if self._require_grads_hook is not None:
            self._require_grads_hook.remove()
            self._require_grads_hook = None

    def _blocks(self) -> list[ConvNextLayer]:
        return [module for module in self.modules() if isinstance(module, ConvNextLayer)]

    # ---- for `Pretrained`

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter, by name."""
        return {name: tuple(p.shape) for name, p in self.named_parameters()}

    def parameter_values(self) -> dict[str, LazyTensor]:
        """Lazy tensor of every parameter, by name."""
        return {name: lazy(p) for name, p in self.named_parameters()}

    def assign_parameter(self, name: str, value: Array) -> None:
        """Copy values into the parameter of this name."""
        with torch.no_grad():
            self.get_parameter(name).copy_(torch.from_numpy(value))

    @classmethod
    def _built(cls, config: ConvNextConfig, dtype: str | None) -> Self:
        model = cls(config)
        return model if dtype is None else model.to(getattr(torch, dtype))

    @classmethod
    def _blank(cls, config: ConvNextConfig, dtype: str | None, stored: str) -> Self:
        if torch.empty(0).device.type == "meta":
            raise DeviceError(
                "from_pretrained cannot put weights into a model on the device 'meta', which holds "
                "no numbers. Call it outside `with torch.device('meta')`, or build the model from "
                f"its configuration: {cls.__name__}(config)."
            )
        with torch.device("meta"):
            model = cls(config)
        model = model.to(getattr(torch, dtype or stored))
        return cast("Self", model.to_empty(device=torch.empty(0).device))

    def _ready(self, fresh: Collection[str]) -> None:
        self.init_weights(fresh)
        self.config.dtype = self.dtype
        self.eval()


class ConvNextModel(_Module):
    """ConvNeXt without a classifier: returns the maps and the normalised pooled vector.

    Args:
        config: The configuration.

    Example:
        >>> config = ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32])
        >>> ConvNextModel(config)(torch.zeros(1, 3, 64, 64)).last_hidden_state.shape
        torch.Size([1, 32, 2, 2])
    """

    kind = "model"

    def _build(self) -> None:
        plan = Plan(self.config)
        conv, norm = plan.entry(0)
        stem: Parts = OrderedDict(patch_embeddings=conv, layernorm=norm)
        self.embeddings = torch.nn.Sequential(stem)
        self.encoder = ConvNextEncoder(plan.stages())
        self.layernorm = torch.nn.LayerNorm(
            self.config.hidden_sizes[-1], self.config.layer_norm_eps
        )

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Compute the outputs of a batch of pictures.

        Args:
            pixel_values: `(batch, channels, height, width)`.
            output_hidden_states: Whether to return every map.
            return_dict: Whether to return an output object; False for a tuple.

        Returns:
            `last_hidden_state`, `pooler_output`, and `hidden_states` on request.
        """
        check_pixels(self.config, pixel_values)
        wants_all = wants_maps(self.config, output_hidden_states)
        found = self.encoder(self.embeddings(pixel_values), wants_all)
        last = found.last_hidden_state
        out = outputs.BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=last,
            pooler_output=self.layernorm(last.mean((2, 3))),
            hidden_states=found.hidden_states,
        )
        return given(self.config, out, return_dict)


class ConvNextForImageClassification(_Module):
    """ConvNeXt with a classifier; returns the loss too if labels are given.

    Args:
        config: The configuration; with `num_labels=0`, logits are the pooled vector.
    """

    kind = "classifier"
    base_class: ClassVar[type[ConvNextModel]] = ConvNextModel

    def _build(self) -> None:
        self.add_module(self.base_model_prefix, self.base_class(self.config))
        width, labels = self.config.hidden_sizes[-1], self.config.num_labels
        self.classifier = torch.nn.Linear(width, labels) if labels else torch.nn.Identity()

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Compute the outputs of a batch of pictures.

        Args:
            pixel_values: `(batch, channels, height, width)`.
            labels: Labels for the loss, see `config.problem_type`.
            output_hidden_states: Whether to return every map.
            return_dict: Whether to return an output object; False for a tuple.

        Returns:
            `loss` if there are labels, `logits`, and `hidden_states` on request.
        """
        found = self.base_model(pixel_values, output_hidden_states, return_dict=True)
        logits = self.classifier(found.pooler_output)
        loss = None if labels is None else classification_loss(self.config, logits, labels)
        out = outputs.ImageClassifierOutputWithNoAttention(
            loss=loss, logits=logits, hidden_states=found.hidden_states
        )
        return given(self.config, out, return_dict)


class ConvNextBackbone(_Module):
    """ConvNeXt as a backbone: returns normalised maps of the stages in `out_features`.

    Args:
        config: The configuration.
    """

    kind = "backbone"

    def _build(self) -> None:
        plan = Plan(self.config)
        conv, norm = plan.entry(0)
        stem: Parts = OrderedDict(patch_embeddings=conv, layernorm=norm)
        self.embeddings = torch.nn.Sequential(stem)
        self.encoder = ConvNextEncoder(plan.stages())
        widths = zip(self.out_features, self.channels, strict=True)
        epsilon = plan.architecture.epsilon
        self.hidden_states_norms = torch.nn.ModuleDict(
            {name: MapNorm(width, epsilon) for name, width in widths}
        )

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Compute the outputs of a batch of pictures.

        Args:
            pixel_values: `(batch, channels, height, width)`.
            output_hidden_states: Whether to return every map.
            return_dict: Whether to return an output object; False for a tuple.

        Returns:
            `feature_maps`, and `hidden_states` on request.
        """
        check_pixels(self.config, pixel_values)
        maps = self.encoder(self.embeddings(pixel_values), True).hidden_states
        named = dict(zip(self.stage_names, maps, strict=True))
        wanted = [self.hidden_states_norms[name](named[name]) for name in self.out_features]
        out = outputs.BackboneOutput(
            feature_maps=tuple(wanted),
            hidden_states=maps if wants_maps(self.config, output_hidden_states) else None,
        )
        return given(self.config, out, return_dict)


class ConvNextV2Model(ConvNextModel):
    """`ConvNextModel` with global response normalisation: V2."""

    config_class = ConvNextV2Config
    base_model_prefix = "convnextv2"


class ConvNextV2ForImageClassification(ConvNextForImageClassification):
    """`ConvNextForImageClassification` with global response normalisation: V2."""

    config_class = ConvNextV2Config
    base_model_prefix = "convnextv2"
    base_class = ConvNextV2Model


class ConvNextV2Backbone(ConvNextBackbone):
    """`ConvNextBackbone` with global response normalisation: V2."""

    config_class = ConvNextV2Config
    base_model_prefix = "convnextv2"


class DINOv3ConvNextModel(_Module):
    """DINOv3: returns a normalised vector of the picture and of each position of the last map.

    Args:
        config: The configuration.

    Example:
        >>> config = DINOv3ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32])
        >>> DINOv3ConvNextModel(config)(torch.zeros(1, 3, 64, 64)).last_hidden_state.shape
        torch.Size([1, 5, 32])
    """

    config_class = DINOv3ConvNextConfig
    base_model_prefix = "model"
    kind = "model"

    def _build(self) -> None:
        config = self.config
        plan = Plan(config, DINOV3)
        self.model = ConvNextEncoder(plan.stages(plan.entry(0)))
        self.layer_norm = torch.nn.LayerNorm(config.hidden_sizes[-1], config.layer_norm_eps)

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Compute the outputs of a batch of pictures.

        Args:
            pixel_values: `(batch, channels, height, width)`.
            output_hidden_states: Whether to return the pictures and every map.
            return_dict: Whether to return an output object; False for a tuple.

        Returns:
            `last_hidden_state` of shape `(batch, 1 + positions, channels)`, the picture's vector
            first; that vector as `pooler_output`; and `hidden_states` on request.
        """
        check_pixels(self.config, pixel_values)
        wants_all = wants_maps(self.config, output_hidden_states)
        found = self.model(pixel_values, wants_all)
        positions = found.last_hidden_state.flatten(2).transpose(1, 2)  # (B, H W, C)
        tokens = self.layer_norm(torch.cat([positions.mean(1, keepdim=True), positions], 1))
        out = outputs.BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=tokens,
            pooler_output=tokens[:, 0],
            hidden_states=found.hidden_states,
        )
        return given(self.config, out, return_dict)


class DINOv3ConvNextBackbone(_Module):
    """DINOv3 as a backbone: returns the maps of the stages in `out_features`, without norms.

    Args:
        config: The configuration.
    """

    config_class = DINOv3ConvNextConfig
    base_model_prefix = "model"
    kind = "backbone"

    def _build(self) -> None:
        plan = Plan(self.config, DINOV3)
        self.model = ConvNextEncoder(plan.stages(plan.entry(0)))

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Compute the outputs of a batch of pictures.

        Args:
            pixel_values: `(batch, channels, height, width)`.
            output_hidden_states: Whether to return the pictures and every map.
            return_dict: Whether to return an output object; False for a tuple.

        Returns:
            `feature_maps`, and `hidden_states` on request.
        """
        check_pixels(self.config, pixel_values)
        maps = self.model(pixel_values, True).hidden_states
        named = dict(zip(self.stage_names, maps, strict=True))
        out = outputs.BackboneOutput(
            feature_maps=tuple(named[name] for name in self.out_features),
            hidden_states=maps if wants_maps(self.config, output_hidden_states) else None,
        )
        return given(self.config, out, return_dict)
