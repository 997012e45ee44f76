"""Find one model's tensors in a file that may hold more: prefixes, copies, training state.

Prefixes of names (`model.`, `module.`, `backbone.`, a Keras model's name) are removed. If a file
holds the model twice, such as `model` and `model_ema`, the copy that is not a moving average is
read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from convnext.errors import WeightsMismatchError
from convnext.steps import Shape
from convnext.weights.layouts.table import BLOCK, Layout, spell

__all__ = ["TRAINING_STATE", "Located", "locate"]

# Names of training state, which a file may hold besides a model's tensors.
TRAINING_STATE = re.compile(
    r"(amp_scaler|arch|args|best_\w+|callbacks|config|epoch|global_step|hyper_parameters|loops|"
    r"lr_scheduler\w*|max_accuracy|message_hub|meta|metric|model_ema|optimizer\w*|"
    r"param_schedulers|save_counter|scaler|scheduler|state_dict_ema|step|version|"
    r"_CHECKPOINTABLE_OBJECT_GRAPH)([./].*)?|.*\.num_batches_tracked|.*\bseed_generator(_\d+)?\b.*"
)
# Heads of detectors and of unknown segmenters, of which only the backbone is read.
TASK_HEADS = re.compile(r"((auxiliary|bbox|decode|mask|roi|rpn)_head|data_preprocessor|neck)\..*")
AVERAGE = re.compile(r"(^|[._])ema[._]")


@dataclass(frozen=True)
class Located:
    """A layout whose stem and first block are in the file.

    Attributes:
        layout: The layout.
        names: `{name to look up: name in the file}` for every tensor that is not ignored.
        ignored: Names in the file that do not belong to this model.
    """

    layout: Layout
    names: Mapping[str, str]
    ignored: tuple[str, ...]


def locate(shapes: Mapping[str, Shape], layout: Layout) -> Located | None:
    """Find the model's tensors in a layout; None if its stem or first block is missing."""
    first = {row.canonical: layout.short(spell(row.foreign)) for row in layout.rows}
    stem, block = first["stem_conv.kernel"], first[f"{BLOCK}.dwconv.kernel"]
    pairs = layout.tidy(shapes)
    there = {name for name, _ in pairs}
    prefixes = [
        prefix
        for name in there
        if name.endswith(stem)
        and ((prefix := name.removesuffix(stem)) == "" or prefix.endswith(layout.boundary))
        and prefix + block in there
    ]
    prefixes = [prefix for prefix in prefixes if not layout.mark or prefix + layout.mark in there]
    if not prefixes:
        return None
    prefix = _choose(prefixes)
    copies = tuple(other for other in prefixes if other and other != prefix)
    starts = _ancestors(prefix, layout.boundary)
    known = {row.foreign for row in layout.rows}
    names: dict[str, str] = {}
    ignored = []
    for name, original in pairs:
        relative = next(name.removeprefix(start) for start in starts if name.startswith(start))
        extra = relative not in known and _is_known_extra(relative, prefix, layout.extras)
        if name.startswith(copies) or extra:
            ignored.append(original)
        elif relative in names:
            raise WeightsMismatchError(
                f"This file holds {relative!r} twice, as {names[relative]!r} and {original!r}. "
                "Save one model on its own."
            )
        else:
            names[relative] = original
    return Located(layout, names, tuple(ignored))


def _choose(prefixes: list[str]) -> str:
    """The prefix of the copy of the model to read."""
    own = [prefix for prefix in prefixes if not AVERAGE.search(prefix)] or prefixes
    if len(own) > 1:
        raise WeightsMismatchError(
            f"This file holds {len(own)} models, under {', '.join(map(repr, sorted(own)))}. "
            "Save the one you want on its own."
        )
    return own[0]


def _ancestors(prefix: str, boundary: str) -> list[str]:
    """The prefix and all that lead to it, longest first: `"a.b."`, `"a."`, `""`."""
    starts = [prefix]
    while boundary == "." and starts[-1]:
        parent, dot, _ = starts[-1].removesuffix(".").rpartition(".")
        starts.append(parent + dot)
    return starts if starts[-1] == "" else [*starts, ""]


def _is_known_extra(relative: str, prefix: str, extras: re.Pattern[str] | None) -> bool:
    if TRAINING_STATE.fullmatch(relative) or (extras and extras.fullmatch(relative)):
        return True
    return prefix.endswith("backbone.") and TASK_HEADS.fullmatch(relative) is not None
