"""One error that says everything that does not fit, instead of one error after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from convnext.architecture import Shape
from convnext.errors import WeightsMismatchError

__all__ = ["Misfit"]

SHOWN = 10


@dataclass(frozen=True)
class Misfit:
    """What does not fit between the tensors that are there and those that are wanted.

    Attributes:
        missing: Wanted and not there.
        left_over: There and not wanted.
        mismatched: Name, the shape that is there, the shape that is wanted.
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
