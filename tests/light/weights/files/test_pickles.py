"""A pickle is data here, whatever it says: nothing runs, nothing hangs, nothing grows."""

from __future__ import annotations

import argparse
import os
import pickle
import time
from collections import Counter, defaultdict
from pathlib import PurePosixPath

import numpy as np
import pytest

from convnext.errors import WeightsFileError
from convnext.weights.files import open_weights
from convnext.weights.files.pickles import evaluate
from crafted_files import STORAGE, contents, dictionary, named, plain, tensor, write_pth

SYSTEM = os.system.__module__  # posix or nt, where os.system really lives
COMMAND = plain("touch ran")


class Payload:
    """An object whose pickle asks for a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def program(*opcodes: bytes) -> bytes:
    return b"\x80\x04" + b"".join(opcodes) + b"."


CODE = {
    "REDUCE": (f"{SYSTEM}.system", pickle.dumps(Payload(os.system, "touch ran"), 2)),
    "REDUCE in protocol 5": (f"{SYSTEM}.system", pickle.dumps(Payload(os.system, "touch ran"), 5)),
    "eval": ("eval", pickle.dumps(Payload(eval, "open('ran', 'w')"), 2)),
    "exec": ("exec", pickle.dumps(Payload(exec, "open('ran', 'w')"), 4)),
    "getattr": ("builtins.getattr", program(named("builtins", "getattr"))),
    "import": ("__import__", program(named("builtins", "__import__"), plain(("os",)), b"R")),
    "INST": ("os.system", program(b"(", COMMAND, b"ios\nsystem\n")),
    "OBJ": ("os.system", program(b"(", named("os", "system"), COMMAND, b"o")),
    "NEWOBJ": ("subprocess.Popen", program(named("subprocess", "Popen"), plain(("ls",)), b"\x81")),
    "STACK_GLOBAL": (
        "os.system",
        program(plain("os"), plain("system"), b"\x93", COMMAND, b"\x85R"),
    ),
    "an attribute of a known name": (
        "collections.OrderedDict.__class__",
        program(plain("collections"), plain("OrderedDict.__class__"), b"\x93"),
    ),
    "torch's loader": ("_load_from_bytes", program(named("torch.storage", "_load_from_bytes"))),
    "a module": ("torch.nn", program(named("torch.nn.modules.linear", "Linear"), b")\x81")),
    "a state that sets __setstate__": (
        "os.system",
        program(
            named("builtins", "object"),
            b")\x81}",
            plain("__setstate__"),
            named("os", "system"),
            b"sb",
            COMMAND,
            b"b",
        ),
    ),
}


@pytest.mark.parametrize(("name", "code"), CODE.values(), ids=CODE)
def test_code_is_refused_by_its_name_and_never_runs(name, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsFileError, match=f"{name}.*Nothing of it was run"):
        open_weights(write_pth(tmp_path / "a.pth", code))
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_a_state_for_an_object_is_dropped(tmp_path):
    stateful = named("collections", "OrderedDict") + b")R" + plain({"__setstate__": 1}) + b"b"
    code = dictionary(a=tensor(), b=stateful)
    with open_weights(write_pth(tmp_path / "a.pth", code)) as file:
        assert list(file.tensors) == ["a"]


def test_plain_containers_are_flattened(tmp_path):
    stages = plain([1]) + tensor() + b"a"
    model = dictionary(stages=stages, **{"a.b": tensor()})[2:-1]
    steps = b"}(" + plain(3) + tensor(shape=(), strides=(), offset=5) + b"u"
    code = dictionary(model=model, steps=steps, epoch=plain(300))
    with open_weights(write_pth(tmp_path / "a.pth", code)) as file:
        assert list(file.tensors) == ["model.stages.1", "model.a.b", "steps.3"]
        assert file.tensors["steps.3"].read() == 5
        np.testing.assert_array_equal(file.tensors["model.a.b"].read(), STORAGE.reshape(2, 3))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_harmless_objects_in_a_pickle_are_skipped(protocol, tmp_path):
    harmless = {
        "args": argparse.Namespace(lr=1e-3, names=["a"], folder=PurePosixPath("x")),
        "counts": [Counter("abc"), defaultdict(int, a=1), {1, 2}, frozenset("a"), range(3)],
        "numbers": [1, -1, 300, 2**31, 2**70, 0.5, 1j, True, None, b"bytes", bytearray(b"b")],
        "texts": ["a", "\u00e9", "n" * 300],
        "numpy": [np.float64(1), np.arange(3), np.dtype("f4"), np.array(["a"])],
        (1, 2): "a key that is no name",
    }
    with open_weights(write_pth(tmp_path / "a.pth", pickle.dumps(harmless, protocol))) as file:
        assert not file.tensors


def doubled(first: bytes, double: bytes, times: int = 100) -> bytes:
    """A value that holds itself twice, a hundred times over."""
    return first + (b"2" + double) * times


def shared(width: int) -> bytes:
    """A list that holds one list so many times, which holds another so many times."""
    innermost = b"](" + b"N" * width + b"e"
    middle = b"](" + innermost + b"2" * (width - 1) + b"e"
    return b"](" + middle + b"2" * (width - 1) + b"e"


def repeated(call: bytes, arguments: bytes, times: int = 40_000) -> bytes:
    """A list of what one function makes of the same arguments, over and over."""
    again = b"h\x08h\x09R"
    return program(call, b"q\x080", arguments, b"q\x090](", again * times, b"e")


LONG = b"](" + b"N" * 30_000 + b"e"
PAIRS = b"](" + (plain("k") + b"N\x86") * 30_000 + b"e"
SIZES = b"(" + b"K\1" * 30_000 + b"t"
VIEW = b"(" + plain("storage") + named("torch", "FloatStorage") + plain("0") + b"NK\6tQK\0"
DEPTH = 10_000
FAR = (2**62).to_bytes(8, "little")
REBUILD = named("torch._utils", "_rebuild_tensor_v2")
HOSTILE = {
    "nested lists": (program(b"]" * DEPTH, b"a" * (DEPTH - 1)), "nested"),
    "nested tuples": (program(b")", b"\x85" * DEPTH), "nested"),
    "nested dictionaries": (program((b"}" + plain("k")) * DEPTH, b"}", b"s" * DEPTH), "nested"),
    "nested tuples as a name": (program(b")", b"\x85" * DEPTH, plain("x"), b"\x93"), "no string"),
    "nested tuples as a storage": (program(b")", b"\x85" * DEPTH, b"Q"), "no storage"),
    "nested marks": (program(b"(" * DEPTH, b"t" * DEPTH), "nested"),
    "doubled tuples": (program(doubled(b")", b"\x86")), "nested"),
    "doubled tuples of tensors": (program(doubled(tensor(), b"\x86", 50)), "more than 8,192"),
    "lists shared and shared": (program(shared(1000)), "without end"),
    "a dictionary in itself": (program(b"}q\x09", plain("k"), b"h\x09s"), "nested"),
    "a list in itself": (program(b"]q\x09h\x09a"), "nested"),
    "a text of 2**62 bytes": (program(b"\x8d", FAR), "only"),
    "bytes of 2**62 bytes": (program(b"\x8e", FAR), "only"),
    "a number of 2**31 bytes": (program(b"\x8b\xff\xff\xff\x7f"), "not enough"),
    "a number of negative length": (program(b"\x8b\xff\xff\xff\xff"), "< 0"),
    "a frame of 2**62 bytes": (program(b"\x95", FAR), "damaged"),
    "a million steps": (program(b"N0" * 500_000), "more than 250,000 steps"),
    "a million lists": (program(b"](" + b"]" * 1_000_000, b"e"), "more than 250,000 steps"),
    "too many bytes": (program(b"N0" * 3_000_000), "at most 2,097,152 bytes"),
    "no end": (program(b"}")[:-1], "unexpected opcode ''"),
    "nothing": (b"", "unexpected opcode ''"),
    "an empty stack": (b".", "damaged"),
    "a mark that is missing": (program(b"t"), "damaged"),
    "a value that is missing": (program(b"K\1\x87"), "value is missing"),
    "a memo that is missing": (program(b"h\7"), "damaged: 7"),
    "a name that is cut off": (b"\x80\2ccollections\nOrderedDict", "cut off"),
    "text opcodes": (b"(dS'a'\nI1\ns.", "unexpected opcode 'S'"),
    "an extension": (program(b"\x82\x01"), "unexpected opcode"),
    "a buffer from outside": (program(b"\x97"), "unexpected opcode"),
    "an item of a number": (program(b"K\1K\1K\1s"), "no dictionary"),
    "a value for a number": (program(b"K\1K\1a"), "no list"),
    "a call of a number": (program(b"K\1)R"), "no function"),
    "half an item": (program(b"}(K\1u"), "damaged"),
    "pairs that are none": (
        program(named("collections", "OrderedDict"), plain(([1, 2],)), b"R"),
        "damaged",
    ),
    "a storage of no kind": (program(plain(("storage", 1, 2)), b"Q"), "no storage"),
    "a tensor of nothing": (program(REBUILD, b")R"), "not made of"),
    "a parameter of nothing": (
        program(named("torch._utils", "_rebuild_parameter"), b")R"),
        "damaged",
    ),
    "an endless name": (dictionary(**{"n" * 100_000: tensor()}), "impossible name"),
    "half a character": (program(b"}\x8c\x03\xed\xa0\x80", tensor(), b"s"), "impossible name"),
    "one name twice": (
        dictionary(**{"a.b": tensor(), "a": dictionary(b=tensor())[2:-1]}),
        "'a.b' twice",
    ),
    "one long list, copied over and over": (
        repeated(named("torch", "Size"), LONG + b"\x85"),
        "1,000,000 values",
    ),
    "one long list of pairs": (
        repeated(named("collections", "OrderedDict"), PAIRS + b"\x85"),
        "1,000,000 values",
    ),
    "one long shape": (repeated(REBUILD, b"(" + VIEW + SIZES + b"2t"), "1,000,000 values"),
    "a text as a shape": (program(named("torch", "Size"), plain(("n" * 99,)), b"R"), "damaged"),
    "too many tensors": (program(b"](", tensor(), b"2" * 20_000, b"e"), "more than 8,192"),
}


@pytest.mark.parametrize(("code", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_pickle_is_refused_soon(code, reason, tmp_path):
    path = write_pth(tmp_path / "a.pth", code)
    started = time.process_time()
    with pytest.raises(WeightsFileError, match=reason):
        open_weights(path)
    assert time.process_time() - started < 5


def test_a_pickle_that_needs_too_much_memory_is_refused():
    def greedy(_):
        raise MemoryError

    with pytest.raises(WeightsFileError, match="more memory"):
        evaluate(program(named("a", "b"), b")R"), {"a.b": greedy}, greedy)


HARMLESS = {
    "nested tuples as a key": program(b"})", b"\x85" * 200_000, b"Ns"),
    "a number of many digits as a key": program(b"}", plain(2**80_000), tensor(), b"s"),
    "a long text, passed over 100,000 times": program(
        b"](}", plain("n" * 1_000_000), b"Ns", b"2" * 100_000, b"e"
    ),
}


@pytest.mark.parametrize("code", HARMLESS.values(), ids=HARMLESS)
def test_expensive_objects_in_a_pickle_are_skipped_quickly(code, tmp_path):
    started = time.process_time()
    assert not contents(write_pth(tmp_path / "a.pth", code))
    assert time.process_time() - started < 5
