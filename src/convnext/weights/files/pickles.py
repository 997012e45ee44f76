"""Reads a pickle as inert data: a small stack machine that can build values and call nothing.

Why it exists: a .pth file is a pickle, and a pickle is a program that may import and call anything.
`pickle.Unpickler` with a strict `find_class` stops the imports, but it still allocates any memory,
and hashes any key: 200,000 nested tuples as a key crash the interpreter. This
machine is simpler to reason about. `pickletools` decodes an opcode, a handler of one or two lines
carries it out, and
    - a global is a name looked up in a table of our own functions; nothing is ever imported,
    - BUILD, the opcode behind `__setstate__`, drops the state,
    - a key is kept if it is a string or a machine-sized integer, so no hash is deep or crafted,
    - nothing recurses, and the pickle's length, the number of its opcodes and what its calls copy
      are bounded.
It knows pickles as torch writes them (protocol 2 and later) and nothing of tensors.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from convnext.errors import WeightsFileError

__all__ = ["INERT", "MAX_PICKLE", "PLAIN_GLOBALS", "Global", "Maker", "evaluate"]

Maker = Callable[[tuple[Any, ...]], object]

# The largest ConvNeXt with its optimizer state takes 0.3 MB and 70,000 opcodes.
MAX_PICKLE = 2 << 20
MAX_OPCODES = 250_000
MAX_HANDED = 1_000_000  # values given to functions, which copy them

BUILTINS = (
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int"),
    *("list", "object", "range", "set", "slice", "str", "tuple"),
    *("long", "unicode", "xrange"),  # Python 2's names, which protocol 2 uses
)

INERT: Final = object()
"""Stands for values that are valid and not needed."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle refers to, and our function for calls of it."""

    name: str
    make: Maker


def _inert(_: tuple[Any, ...]) -> object:
    return INERT


def _mapping(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    pairs = arguments[0] if arguments and isinstance(arguments[0], (list, tuple)) else ()
    made: dict[Any, Any] = {}
    for key, value in pairs:
        _set_item(made, key, value)
    return made


PLAIN_GLOBALS: Mapping[str, Maker] = {
    **dict.fromkeys(
        ("collections.OrderedDict", "collections.defaultdict", "collections.Counter"), _mapping
    ),
    **dict.fromkeys(
        (
            "_codecs.encode",
            "argparse.Namespace",
            "types.SimpleNamespace",
            "copy_reg._reconstructor",
            "copyreg._reconstructor",
            *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in BUILTINS),
            *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta")),
            *(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath")),
            "numpy.dtype",
            "numpy.ndarray",
            *(
                f"numpy.{core}.multiarray.{name}"
                for core in ("core", "_core")
                for name in ("_reconstruct", "scalar")
            ),
            *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
        ),
        _inert,
    ),
}
"""Harmless globals of the standard library and NumPy: mappings are kept, the rest is inert."""


def evaluate(
    pickle: bytes,
    known: Mapping[str, Maker],
    persistent: Callable[[object], object],
    start: int = 0,
) -> tuple[object, int]:
    """Evaluate a pickle; returns its value and the offset of its end.

    Args:
        pickle: Bytes that contain the pickle.
        known: Functions for the allowed globals, by name.
        persistent: Makes the value of a persistent id.
        start: Offset of the pickle.
    """
    machine = _Machine(known, persistent)
    file = io.BytesIO(pickle)
    file.seek(start)
    try:
        for _ in range(MAX_OPCODES):
            code = file.read(1).decode("latin-1")
            if code == ".":
                return machine.stack.pop(), file.tell()
            if code in _WITH_ARGUMENT:
                read, carry_out = _WITH_ARGUMENT[code]
                carry_out(machine, read(file))
            elif code in _WITHOUT_ARGUMENT:
                _WITHOUT_ARGUMENT[code](machine)
            else:
                raise ValueError(f"unexpected opcode {code!a}")
    except WeightsFileError:
        raise
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise WeightsFileError(f"Its pickle is truncated or damaged: {error}.") from error
    except MemoryError as error:
        raise WeightsFileError("Its pickle takes more memory than there is.") from error
    raise WeightsFileError(
        f"Its pickle runs on for more than {MAX_OPCODES:,} steps, which no weights need."
    )


class _Machine:
    """The pickle machine's state: a stack, the stacks below open marks, and the memo."""

    def __init__(self, known: Mapping[str, Maker], persistent: Callable[[object], object]) -> None:
        self.known = known
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.handed = 0

    def push(self, value: object) -> None:
        self.stack.append(value)

    def push_inert(self, _: object = None) -> None:
        self.stack.append(INERT)

    def ignore(self, _: object) -> None:
        """Opcodes that state the protocol or help to read ahead."""

    def keep(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def take(self, count: int) -> tuple[Any, ...]:
        """Pops the topmost values, deepest first."""
        if count > len(self.stack):
            raise IndexError("a value is missing")
        taken = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return taken

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def take_marked(self) -> list[Any]:
        """Pops everything above the topmost mark, and the mark."""
        taken, self.stack = self.stack, self.below.pop()
        return taken

    def refer(self, module: object, name: object) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a global has a name that is no string")
        full = f"{module}.{name}"
        if full not in self.known:
            raise WeightsFileError(
                f"Its pickle asks for {full[:100]!r}, which is code and not weights. Nothing of it "
                "was run. If you trust the file, open it where it was made and save the plain "
                "state dict, best as .safetensors."
            )
        return Global(full, self.known[full])

    def call(self, function: object, arguments: object) -> None:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise TypeError("something that is no function is called")
        self._count(arguments)
        for argument in arguments:
            if isinstance(argument, (list, tuple)):
                self._count(argument)
        self.push(function.make(arguments))

    def _count(self, values: list[Any] | tuple[Any, ...]) -> None:
        """Limit the values given to functions: copying a list is one step, however long it is."""
        self.handed += len(values)
        if self.handed > MAX_HANDED:
            raise WeightsFileError(
                f"Its pickle hands more than {MAX_HANDED:,} values to functions, which no weights "
                "need."
            )

    def fill(self, values: list[Any] | tuple[Any, ...]) -> None:
        """Adds values to the list or set on top of the stack."""
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)
        elif self.stack[-1] is not INERT:
            raise TypeError("values are added to something that is no list")

    def set_items(self, flat: list[Any] | tuple[Any, ...]) -> None:
        """Adds keys and values, in turn, to the dictionary on top of the stack."""
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            _set_item(self.stack[-1], key, value)


def _set_item(target: object, key: object, value: object) -> None:
    if isinstance(target, dict):
        if isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**63):
            target[key] = value
    elif target is not INERT:
        raise TypeError("an item is set on something that is no dictionary")


def _pop(machine: _Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.take_marked()


def _dictionary(machine: _Machine) -> None:
    flat = machine.take_marked()
    machine.push({})
    machine.set_items(flat)


def _call_marked(machine: _Machine) -> None:
    function, *arguments = machine.take_marked()
    machine.call(function, tuple(arguments))


def _read_names(file: io.BytesIO) -> tuple[str, str]:
    module, name = file.readline(), file.readline()
    if not name.endswith(b"\n"):
        raise ValueError("a name is cut off")
    return module[:-1].decode(), name[:-1].decode()


def _inst(machine: _Machine, names: tuple[str, str]) -> None:
    function = machine.refer(*names)
    machine.call(function, tuple(machine.take_marked()))


def _new_object_ex(machine: _Machine) -> None:
    function, arguments, _ = machine.take(3)
    machine.call(function, arguments)


_WITH_VALUE: dict[str, Callable[[_Machine, Any], object]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _Machine.ignore),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"), _Machine.push),
    **dict.fromkeys(("SHORT_BINSTRING", "BINSTRING"), _Machine.push),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), _Machine.push_inert),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.keep),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, index: m.push(m.memo[index])),
    "GLOBAL": lambda m, names: m.push(m.refer(*names)),
    "INST": _inst,
}
_BARE: dict[str, Callable[[_Machine], object]] = {
    "NONE": lambda m: m.push(None),
    "NEWTRUE": lambda m: m.push(True),
    "NEWFALSE": lambda m: m.push(False),
    "EMPTY_TUPLE": lambda m: m.push(()),
    "EMPTY_LIST": lambda m: m.push([]),
    "EMPTY_DICT": lambda m: m.push({}),
    "EMPTY_SET": _Machine.push_inert,
    "MARK": _Machine.mark,
    "TUPLE1": lambda m: m.push(m.take(1)),
    "TUPLE2": lambda m: m.push(m.take(2)),
    "TUPLE3": lambda m: m.push(m.take(3)),
    "TUPLE": lambda m: m.push(tuple(m.take_marked())),
    "LIST": lambda m: m.push(m.take_marked()),
    "DICT": _dictionary,
    "FROZENSET": lambda m: m.push_inert(m.take_marked()),
    "APPEND": lambda m: m.fill(m.take(1)),
    "APPENDS": lambda m: m.fill(m.take_marked()),
    "ADDITEMS": lambda m: m.fill(m.take_marked()),
    "SETITEM": lambda m: m.set_items(m.take(2)),
    "SETITEMS": lambda m: m.set_items(m.take_marked()),
    "POP": _pop,
    "POP_MARK": _Machine.take_marked,
    "DUP": lambda m: m.push(m.stack[-1]),
    "MEMOIZE": lambda m: m.keep(len(m.memo)),
    "STACK_GLOBAL": lambda m: m.push(m.refer(*m.take(2))),
    "OBJ": _call_marked,
    "REDUCE": lambda m: m.call(*m.take(2)),
    "NEWOBJ": lambda m: m.call(*m.take(2)),
    "NEWOBJ_EX": _new_object_ex,
    "BUILD": lambda m: m.take(1),
    "BINPERSID": lambda m: m.push(m.persistent(*m.take(1))),
}
_READERS = {"GLOBAL": _read_names, "INST": _read_names}  # pickletools would unescape them

_WITH_ARGUMENT = {
    opcode.code: (_READERS.get(opcode.name) or opcode.arg.reader, _WITH_VALUE[opcode.name])
    for opcode in pickletools.opcodes
    if opcode.name in _WITH_VALUE and opcode.arg
}
_WITHOUT_ARGUMENT = {
    opcode.code: _BARE[opcode.name] for opcode in pickletools.opcodes if opcode.name in _BARE
}
