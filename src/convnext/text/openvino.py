"""Build the OpenVINO graph of a text tower directly from weights, for texts of any length."""

from __future__ import annotations

from typing import Any

import numpy as np

from convnext.graphs.untracked_openvino import op, ov
from convnext.text.tower import EPSILON, TextWeights

__all__ = ["build"]

Node = Any
SHORTEST = 1e-12  # minimum of the length that a vector is divided by, as in PyTorch


def build(weights: TextWeights) -> ov.Model:
    """Build an OpenVINO model from `tokens` `[n, length]` and `ends` `[n]` to `vectors`."""
    tower = weights.tower
    tokens = op.parameter([-1, -1], np.int64, name="tokens")
    ends = op.parameter([-1], np.int64, name="ends")
    size = op.gather(op.shape_of(tokens), _ints(1), _int(0))
    positions = op.slice(
        _constant(weights, "text_embedding.positions"), _ints(0), size, _ints(1), _ints(0)
    )
    x = op.gather(_constant(weights, "text_embedding.tokens"), tokens, _int(0))
    x = op.add(x, positions)  # (n, length, width)
    for block in range(tower.layers):
        name = f"text_block_{block}"
        y = _linear(weights, f"{name}.query_key_value", _norm(weights, f"{name}.norm_1", x))
        y = op.reshape(y, _ints(0, 0, 3, tower.heads, tower.width // tower.heads), True)
        y = op.transpose(y, _ints(2, 0, 3, 1, 4))  # (3, n, heads, length, width / heads)
        query, key, value = (op.gather(y, _int(i), _int(0)) for i in range(3))
        y = op.scaled_dot_product_attention(query, key, value, causal=True)
        y = op.reshape(op.transpose(y, _ints(0, 2, 1, 3)), _ints(0, 0, tower.width), True)
        x = op.add(x, _linear(weights, f"{name}.attention_out", y))
        y = _linear(weights, f"{name}.hidden", _norm(weights, f"{name}.norm_2", x))
        x = op.add(x, _linear(weights, f"{name}.hidden_out", op.gelu(y, "erf")))
    x = op.gather(x, op.unsqueeze(ends, _int(1)), _int(1), 1)  # (n, 1, width)
    x = _norm(weights, "text_norm", op.squeeze(x, _int(1)))
    x = op.matmul(x, _constant(weights, "text_projection.kernel"), False, False)
    result = op.result(op.normalize_l2(x, _ints(1), SHORTEST**2, "max"), name="vectors")
    return ov.Model([result], [tokens, ends], "text_tower")


def _norm(weights: TextWeights, name: str, x: Node) -> Node:
    x = op.mvn(x, _ints(-1), True, EPSILON, "inside_sqrt")
    x = op.multiply(x, _constant(weights, f"{name}.gamma"))
    return op.add(x, _constant(weights, f"{name}.beta"))


def _linear(weights: TextWeights, name: str, x: Node) -> Node:
    x = op.matmul(x, _constant(weights, f"{name}.kernel"), False, False)
    return op.add(x, _constant(weights, f"{name}.bias"))


def _constant(weights: TextWeights, name: str) -> Node:
    return ov.op.Constant(weights.values(name), shared_memory=True)


def _ints(*values: int) -> Node:
    return op.constant(np.array(values, np.int64))


def _int(value: int) -> Node:
    return op.constant(np.int64(value))
