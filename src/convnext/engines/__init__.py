"""Engines run a network on a runtime such as OpenVINO: `engine.predict(batch)`."""

from convnext.engines.base import Engine, InputSpec
from convnext.engines.opening import open_engine, quantize

__all__ = ["Engine", "InputSpec", "open_engine", "quantize"]
