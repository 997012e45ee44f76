"""Every error this package raises on purpose, in one tree.

    ConvNeXtError
    ├── ArgumentError (ValueError)          a value that is not allowed, or a wrong combination
    │   └── UnknownNameError                a name that is not in a table; lists it and suggests
    ├── ArgumentTypeError (TypeError)       the wrong type of thing
    ├── DeviceError (RuntimeError)          something asked of a device that it cannot do
    ├── ExportError (ValueError)            an exported file that is not as good as its model
    ├── ImageError (ValueError)             a picture that cannot be read or must not be
    ├── MissingDependencyError (ImportError)  an extra that is not installed
    ├── TrainingError (RuntimeError)        a run that cannot go on; what it has is kept
    ├── WeightsError (ValueError)
    │   ├── UnstatedError                   weights that do not say how they are computed with
    │   ├── WeightsFileError                a file that is truncated, hostile or unknown
    │   └── WeightsMismatchError (RuntimeError)  a readable file that does not fit the model
    └── WeightsUnavailableError (OSError)   no source could deliver the file

All of them can be caught as `ConvNeXtError`; each is also the built-in error a caller would expect.
A message says what was given, what is allowed, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "ConvNeXtError",
    "DeviceError",
    "ExportError",
    "ImageError",
    "MissingDependencyError",
    "TrainingError",
    "UnknownNameError",
    "UnstatedError",
    "WeightsError",
    "WeightsFileError",
    "WeightsMismatchError",
    "WeightsUnavailableError",
]


class ConvNeXtError(Exception):
    """Base of every error raised on purpose by this package."""


class ArgumentError(ConvNeXtError, ValueError):
    """A value that is not allowed, or a combination of values that makes no sense."""


class UnknownNameError(ArgumentError):
    """A name that is in no table of ours.

    Args:
        kind: What the name should have named, such as `"V1 variant"`.
        given: The name that was asked for.
        allowed: Every name that would have worked.
    """

    def __init__(self, kind: str, given: object, allowed: Iterable[str]) -> None:
        names = list(allowed)
        close = difflib.get_close_matches(str(given).lower(), names, n=1, cutoff=0.6)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"Unknown {kind}: {given!r}.{hint} Allowed: {', '.join(names)}.")
        self.given = given
        self.suggestion = close[0] if close else None


class ArgumentTypeError(ConvNeXtError, TypeError):
    """An argument of the wrong type."""


class DeviceError(ConvNeXtError, RuntimeError):
    """Something asked of a device that it cannot do."""


class ExportError(ConvNeXtError, ValueError):
    """An exported file that cannot be written, or does not answer as its model."""


class ImageError(ConvNeXtError, ValueError):
    """A picture that cannot be read, or is larger than the stated limits."""


class MissingDependencyError(ConvNeXtError, ImportError):
    """Something that needs an extra which is not installed.

    Args:
        what: What is not installed.
        *extras: The extras that bring it; any of them will do.
    """

    def __init__(self, what: str, *extras: str) -> None:
        commands = " or ".join(f"pip install 'convnext[{extra}]'" for extra in extras)
        super().__init__(f"{what} is not installed. Install it with: {commands}")
        self.extras = extras


class TrainingError(ConvNeXtError, RuntimeError):
    """A training run that cannot go on; its last checkpoint is whole."""


class WeightsError(ConvNeXtError, ValueError):
    """Weights that cannot be used."""


class UnstatedError(WeightsError):
    """Weights whose names and shapes fit several networks; the message names them."""


class WeightsFileError(WeightsError):
    """A weights file that is truncated, hostile, or in a format we do not read."""


class WeightsMismatchError(WeightsError, RuntimeError):
    """Weights that do not fit the model they were meant for."""


class WeightsUnavailableError(ConvNeXtError, OSError):
    """Weights that no source could deliver."""
