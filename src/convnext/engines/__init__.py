"""What runs a network: one method, `predict(batch)`, whatever the runtime behind it."""

from convnext.engines.base import Engine, InputSpec
from convnext.engines.opening import open_engine, quantize

__all__ = ["Engine", "InputSpec", "open_engine", "quantize"]
