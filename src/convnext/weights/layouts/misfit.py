"""One error that lists all differences between the tensors of a file and those wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from convnext.errors import WeightsMismatchError
from convnext.steps import Shape

__all__ = ["Misfit"]

SHOWN = 10


@dataclass(frozen=True)
class Misfit:
    """Differences between the tensors of a file and those wanted.

    Attributes:
        missing: Wanted names that the file lacks.
        left_over: Names in the file that are not wanted.
        mismatched: Name, shape in the file, wanted shape.
    """

    missing: Sequence[str] = ()
    left_over: Sequence[str] = ()
    mismatched: Sequence[tuple[str, Shape, Shape | None]] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.left_over or self.mismatched)

    def error(self, headline: str, causes: Iterable[str] = ()) -> WeightsMismatchError:
        """The error to raise: the headline, likely causes, and the three lists."""
        lines = [headline, *causes]
        lines += _listed("missing", self.missing)
        lines += _listed("left over", self.left_over)
        lines += _listed(
            "wrong shape",
            [f"{name}: {there}, wanted {wanted}" for name, there, wanted in self.mismatched],
        )
        return WeightsMismatchError("\n".join(lines))


def _listed(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    rest = [f"    ... and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return [f"  {title} ({len(items)}):", *(f"    {item}" for item in items[:SHOWN]), *rest]
