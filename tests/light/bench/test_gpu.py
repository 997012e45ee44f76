"""`benchmarks/gpu.py` where there is no GPU."""

import gpu
import pytest


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch):
    monkeypatch.setattr(gpu, "opened", lambda *_, **__: pytest.fail("it starts processes"))


@pytest.mark.parametrize("torch", [None, "torch"])
def test_without_a_gpu_it_says_so(torch, monkeypatch, capsys):
    if torch is None:
        monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda _name: None)
    else:
        cuda = pytest.importorskip("torch").cuda
        monkeypatch.setattr(cuda, "is_available", lambda: False)
    assert gpu.main([]) is None
    assert capsys.readouterr().out == (
        "There is no GPU with CUDA here that PyTorch can use: nothing was measured.\n"
    )


def test_the_table(capsys):
    rows = [
        {"task": "call", "contender": "timm", "precision": "bfloat16", "pictures_per_s": 9.5},
        {"task": "step", "contender": "x", "precision": "bfloat16", "result": "failed: No."},
    ]
    gpu.show(rows)
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| call | timm | bfloat16 | 9.5 |  |",
        "| step | x | bfloat16 |  | failed: No. |",
    ]
