"""The layers of the models on PyTorch, with transformers' names and axes."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, cast

import keras
import numpy as np
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from convnext.hf import outputs
from convnext.hf.config import ConvNextConfig
from convnext.hf.network import activation_of, architecture_of, geometry_of
from convnext.nn.operations import depthwise_conv, grn, patch_conv
from convnext.steps import GRN_EPSILON, Conv, Norm, Step

__all__ = [
    "ACTIVATIONS",
    "DINOV3",
    "GRN",
    "ConvNextEncoder",
    "ConvNextLayer",
    "DropPath",
    "MapNorm",
    "Names",
    "Parts",
    "PatchConv",
    "Plan",
    "checkpoint_with",
]

Parts = OrderedDict[str, torch.nn.Module]


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


def checkpoint_with(options: dict[str, Any]) -> Callable[..., Any]:
    """PyTorch's checkpointing with its present options, or others."""
    return functools.partial(checkpoint, **{"use_reentrant": False, **options})


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
        self._gradient_checkpointing_func = checkpoint_with({})
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
