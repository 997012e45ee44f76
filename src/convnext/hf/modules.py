"""The models on PyTorch: `torch.nn.Module`s with transformers' names, axes and behaviour.

Their layers are PyTorch's, with transformers' names, and each is called, so that optimizers, hooks,
adapters and compilers work on them as on transformers' models. Maps have their channels first, and
last in memory. The costly operations are those of `convnext.nn.operations`, as in all models.
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
from torch.utils.hooks import RemovableHandle

from convnext.errors import ArgumentError, DeviceError
from convnext.hf import outputs
from convnext.hf.answers import check_pixels, given, wants_maps
from convnext.hf.config import ConvNextConfig, ConvNextV2Config, DINOv3ConvNextConfig
from convnext.hf.files import lazy
from convnext.hf.losses import classification_loss
from convnext.hf.network import Kind, activation_of, architecture_of, geometry_of
from convnext.hf.pretrained import Pretrained, checked_config
from convnext.nn.operations import depthwise_conv, grn, patch_conv
from convnext.steps import GRN_EPSILON, Conv, Norm, Step
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
    """Register an output class as a pytree, for compilers, exporters and replicas."""

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

# The activations of `convnext.hf.network`, as PyTorch functions.
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
    """The convolution of the stem and the downsamplings.

    Args:
        step: Its step in the architecture.
    """

    def __init__(self, step: Step) -> None:
        assert isinstance(step, Conv)
        super().__init__(
            step.inputs, step.outputs, step.kernel, step.stride, dilation=step.dilation
        )
        self.cuts = step.pads == "none"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve `(batch, channels, height, width)`."""
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
        if torch.is_autocast_enabled(device):  # autocast does not cast inside custom gradients
            x, weight, bias = (t.to(torch.get_autocast_dtype(device)) for t in (x, weight, bias))
        x, kernel = x.permute(0, 2, 3, 1), weight.permute(2, 3, 0, 1)
        y = depthwise_conv(x, kernel, bias, self.dilation[0])
        return cast("torch.Tensor", y).permute(0, 3, 1, 2)


class MapNorm(torch.nn.LayerNorm):  # type: ignore[misc]
    """A norm over the channels of a map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise each position of `(batch, channels, height, width)`."""
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
    """Stochastic depth; draws the same random numbers as transformers for a seed."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """In training, set random pictures of the batch to zero and scale up the others."""
        if not self.training or not self.rate:
            return x
        keep = 1 - self.rate
        drawn = torch.rand((len(x), *(1,) * (x.ndim - 1)), dtype=x.dtype, device=x.device)
        return x.div(keep) * torch.floor(drawn + keep)


class Names(NamedTuple):
    """transformers' names for the parts of a stage and of its blocks."""

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
    """Builds the parts of a model.

    Args:
        config: The configuration.
        names: Names of the parts.
    """

    def __init__(self, config: ConvNextConfig, names: Names = Names()) -> None:  # noqa: B008
        activation_of(config)  # raises if the name is unknown
        self.activation = ACTIVATIONS.get(config.hidden_act, config.hidden_act)
        self.architecture = architecture_of(config)
        self.strides, dilations = geometry_of(config)
        self.dilations = dilations or (1,) * len(self.architecture.depths)
        self.drop_path_rate = config.drop_path_rate
        self.channels = config.num_channels
        self.names = names

    def entry(self, stage: int) -> tuple[torch.nn.Module, ...]:
        """The layers before the blocks of a stage: the stem, or a downsampling."""
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
        """The stages; the layers `first` come before the blocks of the first one."""
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


def _checkpoint_with(options: dict[str, Any]) -> Callable[..., Any]:
    return functools.partial(checkpoint, **{"use_reentrant": False, **options})


def _require_grad(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> None:
    output.requires_grad_(True)


class ConvNextLayer(torch.nn.Module):  # type: ignore[misc]
    """A block.

    Attributes:
        gradient_checkpointing: Whether the backward pass recomputes the block, to save memory.
    """

    def __init__(self, plan: Plan, stage: int, drop_path: float) -> None:
        super().__init__()
        architecture, names = plan.architecture, plan.names
        dim = architecture.dims[stage]
        hidden = architecture.expansion * dim
        self.names = names
        self.gradient_checkpointing = False
        # transformers' name: its tools replace the function to change how blocks are recomputed.
        self._gradient_checkpointing_func = _checkpoint_with({})
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
        return cast("torch.Tensor", self._gradient_checkpointing_func(self._computed, x))

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
        """Compute the stages; `output_hidden_states` returns the input and every stage's map."""
        maps = [x]
        for stage in self.stages:
            maps = [*(maps if output_hidden_states else ()), stage(maps[-1])]
        return outputs.BaseModelOutputWithNoAttention(
            last_hidden_state=maps[-1], hidden_states=tuple(maps) if output_hidden_states else None
        )


# ---- models


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
            block._gradient_checkpointing_func = _checkpoint_with(
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
