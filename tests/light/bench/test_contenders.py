import pytest

from convnext.bench import contenders, peers
from convnext.bench.contenders import PEERS, Contender, choose, peers_named
from convnext.engines.opening import ENGINES
from convnext.errors import UnknownNameError
from convnext.weights.layouts import LAYOUTS


@pytest.fixture
def installed(monkeypatch):
    """Pretend that only these packages are installed."""

    def install(*packages):
        monkeypatch.setattr(contenders, "find_spec", lambda name: name in packages or None)

    return install


def test_every_peer_can_be_opened():
    assert PEERS.keys() == peers.ADAPTERS.keys()
    assert {peer.layout for peer in PEERS.values()} <= LAYOUTS.keys()


def test_each_engine_takes_part_in_each_precision():
    assert choose(["openvino", "keras"], ["auto", "int8"]) == [
        Contender("openvino", "auto"),
        Contender("openvino", "int8"),
        Contender("keras", "auto"),
        Contender("keras", "int8"),
    ]


def test_every_installed_engine_by_default():
    assert {c.name for c in choose()} == {n for n, r in ENGINES.items() if r.installed()}


def test_a_peer_takes_part_in_what_it_can():
    wanted = ["float32", "bfloat16", "int8"]
    chosen = choose(["openvino"], wanted, ["timm", "onnxruntime-export"])[3:]
    assert chosen == [
        Contender("timm", "float32"),
        Contender("timm", "bfloat16"),
        Contender("onnxruntime-export", "float32"),
    ]


def test_a_peer_that_cannot_takes_part_in_float32():
    assert choose(["openvino"], ["int8"], ["timm"])[1:] == [Contender("timm", "float32")]


def test_repeated_contenders_are_measured_once():
    chosen = choose(["openvino"] * 2, ["float32"] * 2, ["timm", "timm"])
    assert [c.name for c in chosen] == ["openvino", "timm"]


def test_a_peers_name_without_a_mode_chooses_all_its_modes():
    names = peers_named(["openvino-export", "keras.applications:jax", "timm"])
    latency, throughput = "openvino-export:latency", "openvino-export:throughput"
    assert names == ["keras.applications:jax", "timm", latency, throughput]


def test_all_chooses_the_installed_peers(installed):
    installed("timm", "torch")
    assert peers_named(["all"]) == ["timm"]
    assert peers_named(["all", "timm-compile", "transformers"]) == [
        *("timm", "timm-compile", "transformers"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["openvno"],), "Unknown engine: 'openvno'. Did you mean 'openvino'?"),
        ((["openvino"], ["fp32"]), "Unknown precision: 'fp32'"),
        (([], ["auto"], ["tim"]), "Unknown peer: 'tim'. Did you mean 'timm'?"),
        (([], ["auto"], ["keras"]), "keras.applications, timm"),
    ],
)
def test_unknown_names(arguments, message):
    with pytest.raises(UnknownNameError) as error:
        choose(*arguments)
    assert message in str(error.value)
