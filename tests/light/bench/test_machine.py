import re

import numpy as np

from convnext.bench.machine import Machine


def at(root, text):
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(text)
    return Machine.this(root)


def test_an_x86_processor(tmp_path):
    first = "model name\t: Abacus 9000\nflags\t\t: fpu avx2 sse avx512f avx512_bf16\n"
    found = at(tmp_path, f"{first}\nmodel name: another\nflags: amx_int8\n")
    assert found.processor == "Abacus 9000"
    assert found.flags == "avx2 avx512f avx512_bf16"


def test_an_arm_processor(tmp_path):
    found = at(tmp_path, "processor\t: 0\nFeatures\t: fp asimd sve i8mm bf16\n")
    assert found.flags == "asimd i8mm bf16 sve"
    assert found.processor


def test_another_system(tmp_path):
    found = Machine.this(tmp_path)
    assert found.flags == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found.date)
    assert found.versions.startswith("python 3.")
    assert f"numpy {np.__version__}" in found.versions
