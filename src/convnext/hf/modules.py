"""The models on PyTorch: `torch.nn.Module`s with transformers' names, axes and behaviour.

A module holds the parameters under the names and in the axes that transformers has, so optimizers,
checkpoints and everything else of PyTorch see what they would see there. The arithmetic is that of
`convnext.nn.model`: its layers are built without numbers, and each call lends them the parameters,
with their axes turned by views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, ClassVar, Self, cast

import keras
import ml_dtypes
import numpy as np
import torch

from convnext.hf.answers import Asked, answer, check_pixels
from convnext.hf.config import ConvNextConfig, ConvNextV2Config
from convnext.hf.network import Kind, build_network, named_rows, precision
from convnext.hf.pretrained import Pretrained, checked_config
from convnext.nn.model import Block
from convnext.weights.canonical import canonical_variables
from convnext.weights.files import LazyTensor
from convnext.weights.layouts.moves import CONV, DEPTHWISE, LINEAR, SAME, Array

__all__ = [
    "ConvNextBackbone",
    "ConvNextForImageClassification",
    "ConvNextModel",
    "ConvNextV2Backbone",
    "ConvNextV2ForImageClassification",
    "ConvNextV2Model",
]

Turn = Callable[[torch.Tensor], torch.Tensor]

# From transformers' axes to ours, as views: what `Move.read` does to arrays.
TURNS: dict[str, Turn] = {
    SAME.name: lambda p: p,
    CONV.name: lambda p: p.permute(2, 3, 1, 0),
    DEPTHWISE.name: lambda p: p.permute(2, 3, 0, 1),
    LINEAR.name: lambda p: p.t(),
}
SEED_BOUND = 2**31


def _flattened(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.flatten()


class _Part(torch.nn.Module):  # type: ignore[misc]
    """A name with parameters or other parts below it."""


class _Layers:
    """The layers of a network in one float type, and the variables that calls fill."""

    def __init__(self, config: ConvNextConfig, kind: Kind, dtype: str) -> None:
        # On the device "meta" variables have shapes and no numbers.
        with precision(dtype), keras.device("meta"):
            network = build_network(config, kind)
        self.variables = canonical_variables(network)
        self.rows = named_rows(network, config, kind)
        # By attributes, as PyTorch's own modules find theirs: replicas and functional calls work.
        self.borrowed = [
            (self.variables[name], attrgetter(row.foreign), TURNS.get(row.move.name, _flattened))
            for name, row in self.rows.items()
        ]
        self.seeds = [
            layer.drop_path.seed_generator.state
            for layer in network.layers
            if isinstance(layer, Block) and layer.drop_path_rate > 0
        ]
        taps = {"stem_norm": "stem", "head_norm": "pooled", "head": "logits"}
        taps |= {f"stage_{i}": name for i, name in enumerate(config.stage_names[1:])}
        norms = [layer for layer in network.layers if layer.name.startswith("feature_")]
        self.trunk = [
            (layer, taps.get(layer.name), isinstance(layer, Block))
            for layer in network.layers
            if layer not in norms and not isinstance(layer, keras.layers.InputLayer)
        ]
        self.norms = {
            "stem"
            if layer.name == "feature_stem_norm"
            else f"stage{int(layer.name.split('_')[1]) + 1}": layer
            for layer in norms
        }

    def run(self, x: torch.Tensor, training: bool) -> dict[str, torch.Tensor]:
        """Every output of the network by its name, from pictures with the channels last."""
        found = {}
        # Layers are entered by `call`: casting is PyTorch's business here.
        for layer, tap, may_drop in self.trunk:
            x = layer.call(x, training=training) if may_drop else layer.call(x)
            if tap is not None:
                found[tap] = x
        for stage, norm in self.norms.items():
            found[f"feature_{stage}"] = norm.call(found[stage])
        if "pooled" in found:
            found.setdefault("logits", found["pooled"])
        return found


class _Module(Pretrained, torch.nn.Module):  # type: ignore[misc]
    """What the six models have in common."""

    config_class: ClassVar[type[ConvNextConfig]] = ConvNextConfig
    kind: ClassVar[Kind]

    def __init__(self, config: ConvNextConfig) -> None:
        super().__init__()
        self.config = checked_config(config, self.config_class, type(self).__name__)
        # A dictionary, because PyTorch would make a layer of Keras a part of this module.
        self._layers: dict[str, _Layers] = {}
        layers = self._layers_for("float32")
        for canonical, row in layers.rows.items():
            variable = layers.variables[canonical]
            shape = row.move.written_shape(tuple(variable.shape))
            assert shape is not None
            self._add(row.foreign, shape, is_norm=canonical.endswith(("norm.gamma", "norm.beta")))
        self._initialise(layers)

    def _add(self, name: str, shape: tuple[int, ...], *, is_norm: bool) -> None:
        *path, leaf = name.split(".")
        part: torch.nn.Module = self
        for depth, step in enumerate(path):
            if step not in part._modules:
                last = depth == len(path) - 1
                # By their class, trainers keep weight decay off norms.
                part.add_module(step, torch.nn.LayerNorm(shape) if last and is_norm else _Part())
            part = part._modules[step]
        if not is_norm:
            part.register_parameter(leaf, torch.nn.Parameter(torch.zeros(shape)))

    def _initialise(self, layers: _Layers) -> None:
        """Draw from PyTorch's generator, so that `torch.manual_seed` decides."""
        parameters = dict(self.named_parameters())
        with torch.no_grad():
            for canonical, row in layers.rows.items():
                if canonical.endswith("kernel"):
                    parameters[row.foreign].normal_(0.0, self.config.initializer_range)
                elif canonical.endswith("layer_scale.gamma"):
                    parameters[row.foreign].fill_(self.config.layer_scale_init_value)

    def _layers_for(self, dtype: str) -> _Layers:
        if dtype not in self._layers:
            self._layers[dtype] = _Layers(self.config, self.kind, dtype)
        return self._layers[dtype]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_layers": {}}

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

    def _answer(self, pixel_values: Any, asked: Asked) -> Any:
        check_pixels(self.config, pixel_values)
        dtype = self.dtype
        layers = self._layers_for(str(dtype).removeprefix("torch."))
        with keras.device(str(pixel_values.device)):
            with self._lent(layers):
                found = layers.run(pixel_values.permute(0, 2, 3, 1), self.training)
            for name in ("pooled", "logits"):
                if name in found and dtype != torch.float32:
                    found[name] = found[name].to(dtype)
            return answer(self.config, self.kind, found, asked, _channels_first)

    @contextmanager
    def _lent(self, layers: _Layers) -> Iterator[None]:
        """Have the layers compute with this module's parameters."""
        with keras.StatelessScope() as scope:
            for variable, parameter_of, turn in layers.borrowed:
                scope.add_update((variable, turn(parameter_of(self))))
            if self.training:
                for seed in layers.seeds:
                    scope.add_update((seed, torch.randint(SEED_BOUND, (2,), device=self.device)))
            yield

    # ---- for `Pretrained`

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter."""
        return {name: tuple(p.shape) for name, p in self.named_parameters()}

    def parameter_values(self) -> dict[str, LazyTensor]:
        """Every parameter, read from its device when it is asked for."""
        return {name: _lazy(p) for name, p in self.named_parameters()}

    def assign_parameter(self, name: str, value: Array) -> None:
        """Copy values into a parameter."""
        with torch.no_grad():
            self.get_parameter(name).copy_(torch.from_numpy(value))

    @classmethod
    def _built(cls, config: ConvNextConfig, dtype: str | None) -> Self:
        model = cls(config)
        return model if dtype is None else model.to(getattr(torch, dtype))

    def _ready(self) -> None:
        self.eval()


def _channels_first(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 3, 1, 2).contiguous()


def _lazy(parameter: torch.Tensor) -> LazyTensor:
    name = str(parameter.dtype).removeprefix("torch.")
    dtype = np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)

    def read() -> Array:
        values = parameter.detach().cpu().contiguous()
        if name == "bfloat16":  # which NumPy's own types lack
            values = values.view(torch.int16)
        return cast("Array", values.numpy().view(dtype))

    return LazyTensor(tuple(parameter.shape), dtype, read)


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
        return self._answer(pixel_values, Asked(None, output_hidden_states, return_dict))


class ConvNextForImageClassification(_Module):
    """ConvNeXt with a classifier, and the loss if labels are given.

    Args:
        config: What to build; `num_labels=0` for no classifier: logits are the pooled vector.
    """

    kind = "classifier"

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
        return self._answer(pixel_values, Asked(labels, output_hidden_states, return_dict))


class ConvNextBackbone(_Module):
    """ConvNeXt as the backbone of a detector: normalised maps of the stages in `out_features`.

    Args:
        config: What to build.
    """

    kind = "backbone"

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
        return self._answer(pixel_values, Asked(None, output_hidden_states, return_dict))


class ConvNextV2Model(ConvNextModel):
    """`ConvNextModel` with global response normalisation: V2."""

    config_class = ConvNextV2Config


class ConvNextV2ForImageClassification(ConvNextForImageClassification):
    """`ConvNextForImageClassification` with global response normalisation: V2."""

    config_class = ConvNextV2Config


class ConvNextV2Backbone(ConvNextBackbone):
    """`ConvNextBackbone` with global response normalisation: V2."""

    config_class = ConvNextV2Config
