"""Choose the output stages of a backbone by name, by index, or by both if they agree."""

from __future__ import annotations

from collections.abc import Sequence

from convnext.errors import ArgumentError

__all__ = ["aligned"]


def aligned(
    stage_names: Sequence[str], features: Sequence[str] | None, indices: Sequence[int] | None
) -> tuple[list[str], list[int]]:
    """Names and indices of the chosen stages; by default the last stage.

    Args:
        stage_names: All stages, in order.
        features: Names of stages, each once and in order.
        indices: Indices of stages; negative ones count from the end.

    Raises:
        ArgumentError: A stage is unknown or out of order, or names and indices disagree.

    Example:
        >>> aligned(["stem", "stage1", "stage2"], None, [-1])
        (['stage2'], [-1])
    """
    names = list(stage_names)
    if features is None and indices is None:
        return [names[-1]], [len(names) - 1]
    if features is not None:
        _check_features(names, features)
    if indices is not None:
        _check_indices(names, indices)
    if features is None:
        assert indices is not None
        return [names[index] for index in indices], list(indices)
    if indices is None:
        return list(features), [names.index(name) for name in features]
    if list(features) != [names[index] for index in indices]:
        raise ArgumentError(
            f"out_features={list(features)} and out_indices={list(indices)} are different stages. "
            "Give one of them."
        )
    return list(features), list(indices)


def _check_features(names: list[str], features: Sequence[str]) -> None:
    if isinstance(features, str) or not isinstance(features, Sequence):
        raise ArgumentError(f"out_features is a list of stages, not {features!r}.")
    unknown = [name for name in features if name not in names]
    if unknown:
        raise ArgumentError(
            f"out_features holds {', '.join(map(repr, unknown))}. Allowed: {', '.join(names)}."
        )
    _check_order("out_features", list(features), [names.index(name) for name in features])


def _check_indices(names: list[str], indices: Sequence[int]) -> None:
    if isinstance(indices, str) or not isinstance(indices, Sequence):
        raise ArgumentError(f"out_indices is a list of numbers, not {indices!r}.")
    count = len(names)
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int) or not -count <= index < count:
            raise ArgumentError(
                f"out_indices holds {index!r}. Allowed: whole numbers from {-count} to {count - 1}."
            )
    _check_order("out_indices", list(indices), [index % count for index in indices])


def _check_order(what: str, given: Sequence[object], positions: list[int]) -> None:
    if not positions:
        raise ArgumentError(f"{what} is empty. Name one stage at least.")
    if positions != sorted(set(positions)):
        raise ArgumentError(
            f"{what}={given} is not in order. Name each stage once, from the first."
        )
