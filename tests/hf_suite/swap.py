"""pytest plugin: convnext.hf's classes where transformers' tests look for transformers' own.

With `DOOR=transformers` it leaves those, and the same tests show what passes with them. It writes
what became of each test to the file `OUTCOMES`, and stands in for the parts of transformers'
repository that its source archive lacks.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

KINDS = ("Config", "Model", "ForImageClassification", "Backbone")
PLACES = {"convnext": "ConvNext", "convnextv2": "ConvNextV2", "dinov3_convnext": "DINOv3ConvNext"}
WORSE = ("passed", "skipped", "failed")

# What transformers' base classes have for other kinds of models, private to it, and tests look at
# before they look at anything else: no attention, no experts, no words, no plan for many devices.
NONE_OF_CONFIGS = {
    "base_model_tp_plan": None,
    "base_model_pp_plan": None,
    "base_model_ep_plan": None,
    "_experts_implementation": None,
}
NONE_OF_MODELS = {
    "_can_set_attn_implementation": classmethod(lambda _: False),
    "_can_set_experts_implementation": classmethod(lambda _: False),
    "_keep_in_fp32_modules": frozenset(),
    "_keep_in_fp32_modules_strict": frozenset(),
    "_keys_to_ignore_on_load_missing": None,
    "_tied_weights_keys": None,
    "all_tied_weights_keys": {},
}
# Of every configuration, each with another value than its default.
COMMON = {
    "return_dict": False,
    "output_hidden_states": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["BertModel"],
    "id2label": {0: "label"},
    "label2id": {"label": 0},
    "problem_type": "regression",
}

found: dict[str, str] = {}


def swap() -> None:
    """Put our classes everywhere that transformers' tests and factories take them from."""
    import transformers

    import convnext.hf
    from convnext.hf.layers import ConvNextLayer

    # Tests find by this class the layers that gradient checkpointing computes again.
    common = importlib.import_module("tests.test_modeling_common")
    common.GradientCheckpointingLayer = ConvNextLayer
    for holder in (transformers, importlib.import_module("transformers.models.convnext")):
        holder.ConvNextImageProcessorPil = convnext.hf.ConvNextImageProcessor
    for place, family in PLACES.items():
        package = f"transformers.models.{place}"
        parts = [f"{package}.{part}_{place}" for part in ("configuration", "modeling")]
        holders = [transformers, *map(importlib.import_module, (package, *parts))]
        for kind in KINDS:
            ours = getattr(convnext.hf, family + kind, None)
            for holder in holders if ours else ():
                setattr(holder, family + kind, ours)
            private = NONE_OF_CONFIGS if kind == "Config" else NONE_OF_MODELS
            for name, value in private.items() if ours else ():
                setattr(ours, name, value)


def stand_ins(folder: Path) -> None:
    """Modules of transformers' repository that its source archive lacks, and tests import."""
    picture = folder / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)).save(picture)
    parts: dict[str, dict[str, Any]] = {
        "tests.exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
        "tests.generation.test_utils": {"GenerationTesterMixin": type("NoTests", (), {})},
        "tests.utils.test_configuration_utils": {"config_common_kwargs": COMMON},
        "fetch_hub_objects_for_ci": {"url_to_local_path": lambda _: str(picture)},
    }
    for name, values in parts.items():
        for whole in (name.rpartition(".")[0], name):
            if whole not in ("", "tests"):
                module = sys.modules.setdefault(whole, ModuleType(whole))
                module.__dict__.update(values if whole == name else {"__path__": []})


def pytest_configure() -> None:
    """Prepare what the tests import."""
    importlib.import_module("importable_torchvision")
    stand_ins(Path.cwd())
    if os.environ["DOOR"] == "convnext.hf":
        swap()


def pytest_runtest_logreport(report: Any) -> None:
    """Keep the worst that became of a test; a skipped part of several says little."""
    if not (hasattr(report, "context") and report.skipped):
        before = found.get(report.nodeid, "passed")
        found[report.nodeid] = max(before, report.outcome, key=WORSE.index)


def pytest_sessionfinish() -> None:
    """Write what became of all."""
    Path(os.environ["OUTCOMES"]).write_text(json.dumps(found))
