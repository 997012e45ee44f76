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


def test_a_contender_that_fails_leaves_the_others(monkeypatch, tmp_path):
    class Made(gpu.Contender):
        def __init__(self, name, seconds):
            self.name, self.turns, self.report, self.length = name, [], {"pictures": 8}, seconds

        def call(self, _order):
            if self.name == "convnext on jax" and len(self.turns) == 3:
                raise gpu.FailedError("No memory.")
            return {"seconds": self.length}

    def opened(_stack, _task, libraries, *_, **__):
        yield libraries[0], gpu.FailedError("Its time was over.")
        yield from ((name, Made(name, number)) for number, name in enumerate(libraries[1:], 1))

    monkeypatch.setattr(gpu, "opened", opened)
    torch, jax, tensorflow, timm = gpu.speed("call", tmp_path, 0, cpu=True)
    assert torch["result"] == "failed: Its time was over."
    assert jax["result"] == "failed: No memory."
    assert (tensorflow["pictures_per_s"], tensorflow["timm_over_this"]) == (4, 1.5)
    assert (timm["pictures_per_s"], "result" in timm) == (2.7, False)
