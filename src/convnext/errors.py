"""The errors of this package.

    ConvNeXtError
    ├── ArgumentError (ValueError)          a value or combination that is not allowed
    │   └── UnknownNameError                a name that does not exist; suggests a similar one
    ├── ArgumentTypeError (TypeError)       an argument of the wrong type
    ├── DeviceError (RuntimeError)          an operation that a device cannot do
    ├── ExportError (ValueError)            an export that failed, or answers unlike its model
    ├── ImageError (ValueError)             a picture that cannot be read, or is over a limit
    ├── MissingDependencyError (ImportError)  an extra that is not installed
    ├── TrainingError (RuntimeError)        a training run that cannot continue
    ├── WeightsError (ValueError)
    │   ├── UnstatedError                   weights that fit several networks
    │   ├── WeightsFileError                a file that is damaged, hostile or of unknown format
    │   └── WeightsMismatchError (RuntimeError)  weights that do not fit the model
    └── WeightsUnavailableError (OSError)   weights that could not be downloaded

All can be caught as `ConvNeXtError`, and each as the built-in error in brackets. A message says
what is wrong, what is allowed and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

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


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list, and the number of others, for a message.

    Example:
        >>> listed(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class ConvNeXtError(Exception):
    """Base class of the errors of this package."""


class ArgumentError(ConvNeXtError, ValueError):
    """A value that is not allowed, or a combination of values that is not."""


class UnknownNameError(ArgumentError):
    """A name that does not exist.

    Args:
        kind: The kind of thing named, such as `"V1 variant"`.
        given: The unknown name.
        allowed: All existing names.
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
    """An operation that a device cannot do."""


class ExportError(ConvNeXtError, ValueError):
    """An exported file that cannot be written, or whose outputs differ from its model's."""


class ImageError(ConvNeXtError, ValueError):
    """A picture that cannot be read, or is over a limit."""


class MissingDependencyError(ConvNeXtError, ImportError):
    """A package that is not installed.

    Args:
        what: The missing package, the beginning of the message.
        *extras: The extras that install it; any one suffices.
    """

    def __init__(self, what: str, *extras: str) -> None:
        commands = " or ".join(f"pip install 'convnext[{extra}]'" for extra in extras)
        super().__init__(f"{what} is not installed. Install it with: {commands}")
        self.extras = extras


class TrainingError(ConvNeXtError, RuntimeError):
    """A training run that cannot continue; its last saved state is intact."""


class WeightsError(ConvNeXtError, ValueError):
    """Weights that cannot be used."""


class UnstatedError(WeightsError):
    """Weights that fit several networks; the message lists them."""


class WeightsFileError(WeightsError):
    """A weights file that is damaged, hostile, or of unknown format."""


class WeightsMismatchError(WeightsError, RuntimeError):
    """Weights that do not fit the model."""


class WeightsUnavailableError(ConvNeXtError, OSError):
    """Weights that could not be downloaded from any source."""
