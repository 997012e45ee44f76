"""CLIP's text tower as a functional Keras model; `convnext.text.tower` describes it."""

from __future__ import annotations

from typing import Any, Protocol

import keras

__all__ = ["TextBlock", "TextEmbedding", "build_text_model"]

EPSILON = 1e-5


class Numbers(Protocol):
    """The sizes of a text tower, see `convnext.text.tower.TextTower`."""

    @property
    def width(self) -> int:
        """Channels."""

    @property
    def heads(self) -> int:
        """Of the attention."""

    @property
    def layers(self) -> int:
        """Blocks."""

    @property
    def length(self) -> int:
        """Positions."""

    @property
    def vocabulary(self) -> int:
        """Tokens."""

    @property
    def outputs(self) -> int:
        """Width of the vectors."""

    @property
    def expansion(self) -> int:
        """Ratio of the width of the hidden layers to the width."""


@keras.saving.register_keras_serializable("convnext")
class TextEmbedding(keras.layers.Layer):  # type: ignore[misc]
    """Embeddings of tokens plus those of their positions: `[n, length]` to `[n, length, width]`.

    Args:
        vocabulary: Tokens.
        length: Most positions.
        width: Channels.
        **options: Of a Keras layer.
    """

    def __init__(self, vocabulary: int, length: int, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.vocabulary = vocabulary
        self.length = length
        self.width = width

    def build(self, input_shape: Any) -> None:
        """Create the two tables."""
        del input_shape
        normal = keras.initializers.RandomNormal
        self.tokens = self.add_weight(
            shape=(self.vocabulary, self.width), initializer=normal(stddev=0.02), name="tokens"
        )
        self.positions = self.add_weight(
            shape=(self.length, self.width), initializer=normal(stddev=0.01), name="positions"
        )

    def call(self, tokens: Any) -> Any:
        """Look up tokens and positions."""
        length = keras.ops.shape(tokens)[1]
        return keras.ops.take(self.tokens, tokens, axis=0) + self.positions[:length]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """With the channels."""
        return (*input_shape, self.width)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        numbers = {"vocabulary": self.vocabulary, "length": self.length, "width": self.width}
        return {**super().get_config(), **numbers}


@keras.saving.register_keras_serializable("convnext")
class TextBlock(keras.layers.Layer):  # type: ignore[misc]
    """A pre-norm block with causal attention and a hidden layer.

    Args:
        heads: Of the attention.
        expansion: Ratio of the width of the hidden layer to the width.
        **options: Of a Keras layer.
    """

    def __init__(self, heads: int, expansion: int = 4, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads
        self.expansion = expansion

    def build(self, input_shape: Any) -> None:
        """Create the layers inside."""
        width = input_shape[-1]
        hidden = self.expansion * width

        def dense(units: int, inputs: int, name: str) -> Any:
            deviation = keras.initializers.RandomNormal(stddev=inputs**-0.5)
            layer = keras.layers.Dense(units, kernel_initializer=deviation, name=name)
            layer.build((None, None, inputs))
            return layer

        self.norm_1, self.norm_2 = (_norm(name) for name in ("norm_1", "norm_2"))
        self.norm_1.build(input_shape)
        self.norm_2.build(input_shape)
        self.query_key_value = dense(3 * width, width, "query_key_value")
        self.attention_out = dense(width, width, "attention_out")
        self.hidden = dense(hidden, width, "hidden")
        self.hidden_out = dense(width, hidden, "hidden_out")

    def call(self, x: Any) -> Any:
        """Apply the block to `[n, length, width]`."""
        ops = keras.ops
        length, width = ops.shape(x)[1], x.shape[-1]
        y = self.query_key_value(self.norm_1(x))
        y = ops.reshape(y, (-1, length, 3, self.heads, width // self.heads))
        y = ops.dot_product_attention(y[:, :, 0], y[:, :, 1], y[:, :, 2], is_causal=True)
        x = x + self.attention_out(ops.reshape(y, (-1, length, width)))
        y = keras.activations.gelu(self.hidden(self.norm_2(x)), approximate=False)
        return x + self.hidden_out(y)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The same."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "heads": self.heads, "expansion": self.expansion}


def _norm(name: str) -> Any:
    return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)


@keras.saving.register_keras_serializable("convnext")
class AtEnd(keras.layers.Layer):  # type: ignore[misc]
    """The value at one position of each text: `[n, length, width]` and `[n]` to `[n, width]`."""

    def call(self, x: Any, ends: Any) -> Any:
        """Select the positions."""
        chosen = keras.ops.expand_dims(keras.ops.expand_dims(ends, -1), -1)
        return keras.ops.squeeze(keras.ops.take_along_axis(x, chosen, axis=1), 1)

    def compute_output_shape(self, x_shape: Any, ends_shape: Any) -> Any:
        """Without the positions."""
        del ends_shape
        return (x_shape[0], x_shape[2])


def build_text_model(tower: Numbers) -> keras.Model:
    """Build a model from tokens `[n, length]` and positions of their ends `[n]` to vectors."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    ends = keras.Input((), dtype="int32", name="ends")
    sizes = (tower.vocabulary, tower.length, tower.width)
    x = TextEmbedding(*sizes, name="text_embedding")(tokens)
    for block in range(tower.layers):
        x = TextBlock(tower.heads, tower.expansion, name=f"text_block_{block}")(x)
    x = AtEnd(name="text_end")(x, ends)
    x = _norm("text_norm")(x)
    x = keras.layers.Dense(tower.outputs, use_bias=False, name="text_projection")(x)
    x = keras.layers.UnitNormalization(name="text_unit")(x)
    return keras.Model([tokens, ends], x, name="text_tower")
