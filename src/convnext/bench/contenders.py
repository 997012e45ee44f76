"""Names of the contenders of a race: engines in their precisions, and other libraries (peers).

`peers` runs other libraries; it is imported in the process of such a contender only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from convnext.engines.base import PRECISIONS
from convnext.engines.opening import ENGINES
from convnext.errors import UnknownNameError

__all__ = ["ALL", "PEERS", "Contender", "Peer", "choose", "peers_named"]

ALL = "all"  # every installed peer that loads in seconds


@dataclass(frozen=True)
class Peer:
    """Another library that can run the same weights.

    Attributes:
        about: A short description.
        packages: Packages that must be installed.
        precisions: Precisions it supports.
        layout: Layout of the weights that it reads, a key of `convnext.weights.layouts.LAYOUTS`.
        backend: Keras's backend, if it needs one.
        in_all: Whether `ALL` includes it.
    """

    about: str
    packages: tuple[str, ...]
    precisions: tuple[str, ...] = ("float32",)
    layout: str = "timm"
    backend: str | None = None
    in_all: bool = True

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed, checked without importing them."""
        return [package for package in self.packages if find_spec(package) is None]


def _keras_applications(backend: str) -> Peer:
    about = f"predict of the Keras model, on {backend}"
    return Peer(about, ("keras", backend), layout="keras_applications", backend=backend)


HALF = ("float32", "bfloat16")
ROUNDED = (*HALF, "int8")

PEERS: Mapping[str, Peer] = {
    "keras.applications:tensorflow": _keras_applications("tensorflow"),
    "keras.applications:jax": _keras_applications("jax"),
    "keras.applications:torch": _keras_applications("torch"),
    "timm": Peer("PyTorch, eager", ("timm", "torch"), HALF),
    "timm-compile": Peer(
        "torch.compile, frozen; it compiles for minutes and is not in all",
        ("timm", "torch"),
        HALF,
        in_all=False,
    ),
    "transformers": Peer("PyTorch, eager", ("transformers", "torch"), HALF, layout="huggingface"),
    "openvino-export:latency": Peer(
        "timm's model in OpenVINO, a batch at a time", ("timm", "torch", "openvino"), ROUNDED
    ),
    "openvino-export:throughput": Peer(
        "the same, pictures one by one in parallel; int8 by NNCF",
        ("timm", "torch", "openvino"),
        ROUNDED,
    ),
    "onnxruntime-export": Peer(
        "timm's model with 1x1 convolutions in ONNX Runtime",
        ("timm", "torch", "onnx", "onnxruntime"),
    ),
}
"""Every peer by its name. The part before a colon names all peers that share it."""


@dataclass(frozen=True)
class Contender:
    """A contender of a race.

    Attributes:
        name: An engine of the package, or a key of `PEERS`.
        precision: The requested precision.
    """

    name: str
    precision: str

    @property
    def peer(self) -> Peer | None:
        """The peer; None for an engine of the package."""
        return PEERS.get(self.name)

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


def peers_named(names: Iterable[str]) -> list[str]:
    """Expand names of peers, in the order of the table.

    Args:
        names: Keys of `PEERS`, their parts before a colon, or `ALL`.

    Raises:
        UnknownNameError: There is no such peer.

    Example:
        >>> peers_named(["keras.applications"])[0]
        'keras.applications:tensorflow'
    """
    wanted = set()
    for name in names:
        matching = [peer for peer in PEERS if name in (peer, peer.partition(":")[0])]
        if name == ALL:
            matching = [peer for peer, facts in PEERS.items() if facts.in_all and not facts.missing]
        elif not matching:
            groups = dict.fromkeys(peer.partition(":")[0] for peer in PEERS)
            raise UnknownNameError("peer", name, [ALL, *groups, *(p for p in PEERS if ":" in p)])
        wanted.update(matching)
    return [peer for peer in PEERS if peer in wanted]


def choose(
    engines: Sequence[str] = (),
    precisions: Sequence[str] = ("auto",),
    against: Iterable[str] = (),
) -> list[Contender]:
    """Choose the contenders, the package's engines first.

    Args:
        engines: Names of engines; by default all that are installed.
        precisions: Each engine runs once in each. A peer runs in those that it supports, or in
            float32 if it supports none of them.
        against: Peers, see `peers_named`.

    Raises:
        UnknownNameError: There is no such engine, precision or peer.
    """
    for engine in engines:
        if engine not in ENGINES:
            raise UnknownNameError("engine", engine, ENGINES)
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UnknownNameError("precision", precision, PRECISIONS)
    ours = engines or [name for name, runtime in ENGINES.items() if runtime.installed()]
    pairs = [(name, precision) for name in ours for precision in precisions]
    for name in peers_named(against):
        able = [precision for precision in precisions if precision in PEERS[name].precisions]
        pairs += [(name, precision) for precision in able or ["float32"]]
    return [Contender(*pair) for pair in dict.fromkeys(pairs)]
