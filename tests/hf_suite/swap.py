"""pytest plugin: convnext.hf's classes where transformers' tests look for transformers' own.

With `DOOR=transformers` it leaves them, and the same tests show what passes with those. It writes
what became of each test to `OUTCOMES`, and stands in for the parts of transformers' repository
that its source archive lacks.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

FAMILIES = {"convnext": "ConvNext", "convnextv2": "ConvNextV2"}
KINDS = ("Model", "ForImageClassification", "Backbone")
WORSE = ("passed", "skipped", "failed")

found: dict[str, str] = {}


def swap() -> None:
    """Put our classes everywhere that transformers' tests and factories take them from."""
    import transformers

    import convnext.hf

    for module, family in FAMILIES.items():
        names = [f"{family}Config", *(f"{family}{kind}" for kind in KINDS)]
        place = f"transformers.models.{module}"
        for name in names:
            ours = getattr(convnext.hf, name, None)
            if ours is None:
                continue
            part = "configuration" if name.endswith("Config") else "modeling"
            for holder in (transformers, importlib.import_module(place)):
                setattr(holder, name, ours)
            for other in {part, "modeling"}:
                setattr(importlib.import_module(f"{place}.{other}_{module}"), name, ours)


def stand_ins(folder: Path) -> None:
    """Modules of transformers' repository that are not in its source archive, and tests import."""
    picture = folder / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)).save(picture)

    parts: dict[str, dict[str, Any]] = {
        "tests.exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
        "tests.generation.test_utils": {
            "GenerationTesterMixin": type("GenerationTesterMixin", (), {})
        },
        "tests.utils.test_configuration_utils": {"config_common_kwargs": COMMON},
        "fetch_hub_objects_for_ci": {"url_to_local_path": lambda _: str(picture)},
    }
    for name, values in parts.items():
        for whole in (name.rpartition(".")[0], name):
            if whole not in ("", "tests"):
                sys.modules.setdefault(whole, ModuleType(whole)).__dict__.update(
                    values if whole == name else {"__path__": []}
                )


# Of every configuration, each with another value than its default.
COMMON = {
    "return_dict": False,
    "output_hidden_states": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["BertModel"],
    "id2label": {0: "label"},
    "label2id": {"label": "0"},
    "problem_type": "regression",
}


def torchvision_stand_in() -> torch.library.Library:
    """Let torchvision import next to a PyTorch build that its compiled operators do not match."""
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("torchvision")
    return library


def pytest_configure(config: Any) -> None:
    config.torchvision_library = torchvision_stand_in()
    stand_ins(Path.cwd())
    if os.environ["DOOR"] == "convnext.hf":
        swap()


def pytest_runtest_logreport(report: Any) -> None:
    is_part = hasattr(report, "context")  # of a test with several; one that is skipped says little
    if not (is_part and report.skipped):
        before = found.get(report.nodeid, "passed")
        found[report.nodeid] = max(before, report.outcome, key=WORSE.index)


def pytest_sessionfinish() -> None:
    Path(os.environ["OUTCOMES"]).write_text(json.dumps(found))
