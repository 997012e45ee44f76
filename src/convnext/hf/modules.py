"""The models on PyTorch: `torch.nn.Module`s with transformers' names, axes and behaviour.

They are made of PyTorch's own layers under the names that transformers has, and each of them is
called where its part of the network is computed, so that optimizers, hooks, adapters, compilers and
whatever else works on modules find what they would find there. Maps have their channels first, and
last in memory; what costs time is computed by `convnext.nn.operations`, as in all other models.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, ClassVar, NamedTuple, Self, cast

import keras
import numpy as np
import torch
from torch.nn import functional
from torch.utils._pytree import register_pytree_node
from torch.utils.checkpoint import checkpoint

from convnext.architecture import GRN_EPSILON, Conv, Norm, Step
from convnext.errors import ArgumentError, DeviceError
from convnext.hf import outputs
from convnext.hf.answers import check_pixels, given, wants_maps
from convnext.hf.config import ConvNextConfig, ConvNextV2Config, DINOv3ConvNextConfig
from convnext.hf.files import lazy
from convnext.hf.losses import classification_loss
from convnext.hf.network import Kind, activation_of, architecture_of, geometry_of
from convnext.hf.pretrained import Pretrained, checked_config
from convnext.nn.operations import depthwise_conv, grn, patch_conv
from convnext.weights.files import LazyTensor
from convnext.weights.layouts.moves import Array

__all__ = [
    "ACTIVATIONS",
    "ConvNextBackbone",
    "ConvNextForImageClassification",
    "ConvNextModel",
    "ConvNextV2Backbone",
    "ConvNextV2ForImageClassification",
    "ConvNextV2Model",
    "DINOv3ConvNextBackbone",
    "DINOv3ConvNextModel",
]

Parts = OrderedDict[str, torch.nn.Module]


def _register(kind: type[outputs.ModelOutput]) -> None:
    """Let compilers, exporters and replicas look into answers."""

    def flatten(out: outputs.ModelOutput) -> tuple[list[Any], tuple[str, ...]]:
        return list(out.to_tuple()), tuple(out)

    def rebuild(values: Iterable[Any], names: tuple[str, ...]) -> outputs.ModelOutput:
        return kind(zip(names, values, strict=True))

    name = f"{kind.__module__}.{kind.__qualname__}"
    register_pytree_node(kind, flatten, rebuild, serialized_type_name=name)


for _kind in outputs.ModelOutput.__subclasses__():
    _register(_kind)


def _quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


def _unchanged(x: torch.Tensor) -> torch.Tensor:
    return x


_gelu_tanh = functools.partial(functional.gelu, approximate="tanh")

# Those of `network`, as functions of PyTorch.
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_python_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "leaky_relu": functional.leaky_relu,
    "selu": functional.selu,
    "elu": functional.elu,
    "silu": functional.silu,
    "swish": functional.silu,
    "mish": functional.mish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "linear": _unchanged,
}


# ---- layers


class PatchConv(torch.nn.Conv2d):  # type: ignore[misc]
    """The convolution of the stem and the downsamplings: cuts into patches, projects each.

    Args:
        step: What it is in the architecture.
    """

    def __init__(self, step: Step) -> None:
        assert isinstance(step, Conv)
        super().__init__(
            step.inputs, step.outputs, step.kernel, step.stride, dilation=step.dilation
        )
        self.cuts = step.pads == "none"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(batch, channels, height, width)` to patches of another width."""
        if self.cuts:
            return super().forward(x)
        with keras.device(str(x.device)):
            x, kernel = x.permute(0, 2, 3, 1), self.weight.permute(2, 3, 1, 0)
            y = patch_conv(x, kernel, self.bias, self.stride[0], self.dilation[0])
        return cast("torch.Tensor", y).permute(0, 3, 1, 2)


class DepthwiseConv(torch.nn.Conv2d):  # type: ignore[misc]
    """The depthwise convolution of a block."""

    def __init__(self, dim: int, kernel: int, dilation: int) -> None:
        around = dilation * (kernel // 2)
        super().__init__(dim, dim, kernel, padding=around, dilation=dilation, groups=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve `(batch, dim, height, width)`."""
        weight, bias = self.weight, self.bias
        device = x.device.type
        if torch.is_autocast_enabled(device):  # which does not reach into gradients of our own
            x, weight, bias = (t.to(torch.get_autocast_dtype(device)) for t in (x, weight, bias))
        x, kernel = x.permute(0, 2, 3, 1), weight.permute(2, 3, 0, 1)
        y = depthwise_conv(x, kernel, bias, self.dilation[0])
        return cast("torch.Tensor", y).permute(0, 3, 1, 2)


class MapNorm(torch.nn.LayerNorm):  # type: ignore[misc]
    """A norm over the channels of a map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise each place of `(batch, channels, height, width)`."""
        return cast("torch.Tensor", super().forward(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class GRN(torch.nn.Module):  # type: ignore[misc]
    """Global response normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, 1, 1, width))
        self.bias = torch.nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `(batch, height, width, channels)`."""
        return cast("torch.Tensor", grn(x, self.weight.flatten(), self.bias.flatten(), GRN_EPSILON))


class DropPath(torch.nn.Module):  # type: ignore[misc]
    """Stochastic depth, with the numbers that transformers draws from the same seed."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop whole pictures while training."""
        if not self.training or not self.rate:
            return x
        keep = 1 - self.rate
        drawn = torch.rand((len(x), *(1,) * (x.ndim - 1)), dtype=x.dtype, device=x.device)
        return x.div(keep) * torch.floor(drawn + keep)


class Names(NamedTuple):
    """What transformers calls the parts of a stage and of its blocks."""

    downsampling: str = "downsampling_layer"
    depthwise: str = "dwconv"
    norm: str = "layernorm"
    hidden: str = "pwconv1"
    output: str = "pwconv2"
    scale: str = "layer_scale_parameter"


DINOV3 = Names(
    "downsample_layers",
    "depthwise_conv",
    "layer_norm",
    "pointwise_conv1",
    "pointwise_conv2",
    "gamma",
)


class Plan:
    """What a model's parts are built from.

    Args:
        config: The configuration.
        names: What the parts are called.
    """

    def __init__(self, config: ConvNextConfig, names: Names = Names()) -> None:  # noqa: B008
        activation_of(config)  # refuses what is none
        self.activation = ACTIVATIONS.get(config.hidden_act, config.hidden_act)
        self.architecture = architecture_of(config)
        self.strides, dilations = geometry_of(config)
        self.dilations = dilations or (1,) * len(self.architecture.depths)
        self.drop_path_rate = config.drop_path_rate
        self.channels = config.num_channels
        self.names = names

    def entry(self, stage: int) -> tuple[torch.nn.Module, ...]:
        """What comes before the blocks of a stage: the stem, or a downsampling."""
        if stage == 0:
            steps = self.architecture.stem_steps(self.channels, self.strides[0])
        else:
            step, dilation = self.strides[stage], self.dilations[stage - 1]
            steps = self.architecture.downsample_steps(stage, step, dilation)
        return tuple(
            MapNorm(step.width, step.epsilon) if isinstance(step, Norm) else PatchConv(step)
            for step in steps
        )

    def stages(self, first: Iterable[torch.nn.Module] = ()) -> Iterator[torch.nn.Module]:
        """The stages; `first` comes before the blocks of the first one."""
        depths = self.architecture.depths
        rates = iter(np.linspace(0, self.drop_path_rate, sum(depths)).tolist())
        for stage, depth in enumerate(depths):
            blocks = [ConvNextLayer(self, stage, next(rates)) for _ in range(depth)]
            parts: Parts = OrderedDict()
            parts[self.names.downsampling] = torch.nn.Sequential(
                *(self.entry(stage) if stage else first)
            )
            parts["layers"] = torch.nn.Sequential(*blocks)
            yield torch.nn.Sequential(parts)


class ConvNextLayer(torch.nn.Module):  # type: ignore[misc]
    """A block.

    Attributes:
        gradient_checkpointing: Whether training computes the block a second time for its gradient
            instead of keeping what it computed.
    """

    def __init__(self, plan: Plan, stage: int, drop_path: float) -> None:
        super().__init__()
        architecture, names = plan.architecture, plan.names
        dim = architecture.dims[stage]
        hidden = architecture.expansion * dim
        self.names = names
        self.gradient_checkpointing = False
        self.checkpoint_options: dict[str, Any] = {}
        scale = torch.nn.Parameter(torch.empty(dim)) if architecture.layer_scale else None
        self.register_parameter(names.scale, scale)
        kernel, dilation = architecture.kernel(stage), plan.dilations[stage]
        self.add_module(names.depthwise, DepthwiseConv(dim, kernel, dilation))
        self.add_module(names.norm, torch.nn.LayerNorm(dim, architecture.epsilon))
        self.add_module(names.hidden, torch.nn.Linear(dim, hidden))
        self.act = plan.activation
        self.grn = GRN(hidden) if architecture.grn else torch.nn.Identity()
        self.add_module(names.output, torch.nn.Linear(hidden, dim))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(batch, dim, height, width)` to the same shape."""
        if not (self.gradient_checkpointing and self.training):
            return self._computed(x)
        return cast("torch.Tensor", checkpoint(self._computed, x, **self.checkpoint_options))

    def _computed(self, x: torch.Tensor) -> torch.Tensor:
        part = functools.partial(getattr, self)
        names = self.names
        branch = part(names.depthwise)(x).permute(0, 2, 3, 1)  # (B, H, W, dim)
        branch = part(names.hidden)(part(names.norm)(branch))  # (B, H, W, 4 dim)
        branch = part(names.output)(self.grn(self.act(branch)))
        scale = part(names.scale)
        if scale is not None:
            branch = branch * scale
        return x + self.drop_path(branch.permute(0, 3, 1, 2))


class ConvNextEncoder(torch.nn.Module):  # type: ignore[misc]
    """The stages."""

    def __init__(self, stages: Iterable[torch.nn.Module]) -> None:
        super().__init__()
        self.stages = torch.nn.ModuleList(stages)

    def forward(self, x: torch.Tensor, output_hidden_states: bool = False) -> Any:
        """Answer with the last map, and with that before and after each stage if asked for."""
        maps = [x]
        for stage in self.stages:
            maps = [*(maps if output_hidden_states else ()), stage(maps[-1])]
        return outputs.BaseModelOutputWithNoAttention(
            last_hidden_state=maps[-1], hidden_states=tuple(maps) if output_hidden_states else None
        )


# ---- models


class _Module(Pretrained, torch.nn.Module):  # type: ignore[misc]
    """What all models have in common."""

    config_class: ClassVar[type[ConvNextConfig]] = ConvNextConfig
    kind: ClassVar[Kind]
    base_model_prefix = "convnext"
    supports_gradient_checkpointing = True
    # What a model is not split within, for whoever puts its parts on several devices.
    _no_split_modules: ClassVar[list[str]] = ["ConvNextLayer"]

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
        """Make the parts."""

    # ---- initial values

    def init_weights(self, names: Iterable[str] | None = None) -> None:
        """Give parameters new initial values; a seed of PyTorch's decides, as in transformers.

        Args:
            names: Which; by default all of them.
        """
        wanted = {name for name, _ in self.named_parameters()} if names is None else set(names)
        # In the order in which transformers draws: the stages come first.
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

    # ---- what PyTorch's users ask

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
        """Where the parameters are."""
        return next(self.parameters()).device

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """How many numbers the parameters hold; there are no embeddings of words among them."""
        del exclude_embeddings
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Have training compute blocks a second time instead of keeping what they computed.

        Args:
            activation_checkpointing_kwargs: Those of `torch.utils.checkpoint.checkpoint`.
            every_n_layers: 2 for every other block, and so on.
            offload: Not available here.
        """
        if offload:
            raise ArgumentError(
                "Kept maps cannot be moved to the host here. Pass offload=False, or train inside "
                "torch.autograd.graph.save_on_cpu()."
            )
        for number, block in enumerate(self._blocks()):
            block.gradient_checkpointing = number % every_n_layers == 0
            block.checkpoint_options = activation_checkpointing_kwargs or {"use_reentrant": False}

    def activation_checkpointing_disable(self) -> None:
        """Have training keep what blocks compute."""
        for block in self._blocks():
            block.gradient_checkpointing = False

    @property
    def is_activation_checkpointing(self) -> bool:
        """Whether training computes blocks a second time."""
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

    def _blocks(self) -> list[ConvNextLayer]:
        return [module for module in self.modules() if isinstance(module, ConvNextLayer)]

    # ---- for `Pretrained`

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter."""
        return {name: tuple(p.shape) for name, p in self.named_parameters()}

    def parameter_values(self) -> dict[str, LazyTensor]:
        """Every parameter, read from its device when it is asked for."""
        return {name: lazy(p) for name, p in self.named_parameters()}

    def assign_parameter(self, name: str, value: Array) -> None:
        """Copy values into a parameter."""
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
    """ConvNeXt without a classifier: every map, and the pooled vector after its norm.

    Args:
        config: What to build.

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
        """Answer a batch of pictures.

        Args:
            pixel_values: `(batch, channels, height, width)`.
            output_hidden_states: Whether every map is wanted.
            return_dict: False for a plain tuple.

        Returns:
            `last_hidden_state`, `pooler_output`, and `hidden_states` if asked for.
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
    """ConvNeXt with a classifier, and the loss if labels are given.

    Args:
        config: What to build; `num_labels=0` for no classifier: logits are the pooled vector.
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
        """Answer a batch of pictures.

        Args:
            pixel_values: `(batch, channels, height, width)`.
            labels: What the loss is taken against, see `config.problem_type`.
            output_hidden_states: Whether every map is wanted.
            return_dict: False for a plain tuple.

        Returns:
            `loss` if there are labels, `logits`, and `hidden_states` if asked for.
        """
        found = self.base_model(pixel_values, output_hidden_states, return_dict=True)
        logits = self.classifier(found.pooler_output)
        loss = None if labels is None else classification_loss(self.config, logits, labels)
        out = outputs.ImageClassifierOutputWithNoAttention(
            loss=loss, logits=logits, hidden_states=found.hidden_states
        )
        return given(self.config, out, return_dict)


class ConvNextBackbone(_Module):
    """ConvNeXt as the backbone of a detector: normalised maps of the stages in `out_features`.

    Args:
        config: What to build.
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
        """Answer a batch of pictures.

        Args:
            pixel_values: `(batch, channels, height, width)`.
            output_hidden_states: Whether every map is wanted.
            return_dict: False for a plain tuple.

        Returns:
            `feature_maps`, and `hidden_states` if asked for.
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
    """DINOv3: one vector for the picture and one for each place of the last map, after their norm.

    Args:
        config: What to build.

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
        """Answer a batch of pictures.

        Args:
            pixel_values: `(batch, channels, height, width)`.
            output_hidden_states: Whether the pictures and every map are wanted.
            return_dict: False for a plain tuple.

        Returns:
            `last_hidden_state` of shape `(batch, 1 + places, channels)`, the picture's vector
            first; that vector as `pooler_output`; and `hidden_states` if asked for.
        """
        check_pixels(self.config, pixel_values)
        wants_all = wants_maps(self.config, output_hidden_states)
        found = self.model(pixel_values, wants_all)
        places = found.last_hidden_state.flatten(2).transpose(1, 2)  # (B, H W, C)
        tokens = self.layer_norm(torch.cat([places.mean(1, keepdim=True), places], 1))
        out = outputs.BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=tokens,
            pooler_output=tokens[:, 0],
            hidden_states=found.hidden_states,
        )
        return given(self.config, out, return_dict)


class DINOv3ConvNextBackbone(_Module):
    """DINOv3 as the backbone of a detector: maps of the stages in `out_features`, as they are.

    Args:
        config: What to build.
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
        """Answer a batch of pictures.

        Args:
            pixel_values: `(batch, channels, height, width)`.
            output_hidden_states: Whether the pictures and every map are wanted.
            return_dict: False for a plain tuple.

        Returns:
            `feature_maps`, and `hidden_states` if asked for.
        """
        check_pixels(self.config, pixel_values)
        maps = self.model(pixel_values, True).hidden_states
        named = dict(zip(self.stage_names, maps, strict=True))
        out = outputs.BackboneOutput(
            feature_maps=tuple(named[name] for name in self.out_features),
            hidden_states=maps if wants_maps(self.config, output_hidden_states) else None,
        )
        return given(self.config, out, return_dict)
