"""The command, end to end, with a small model and real engines; peers are in tests/heavy."""

import csv
import math

import pytest

from convnext.architecture import VARIANTS
from convnext.bench import race
from convnext.bench.contenders import PEERS, Contender
from convnext.bench.machine import Machine
from convnext.bench.material import Model
from convnext.bench.results import rows_of
from convnext.cli.bench import _table as table
from convnext.cli.main import main
from convnext.images.recipe import Preprocess

pytest.importorskip("openvino")

SMALL = ("bench", "--model", "test_v2", "--random-weights", "--size", "64", "--rounds", "1")


@pytest.fixture(autouse=True)
def _whole_tables(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)  # xdist sets it


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("matplotlib")
    speed, chart, markdown = (tmp_path / f"speed.{suffix}" for suffix in ("csv", "png", "md"))
    files = ("--csv", str(speed), "--chart", str(chart), "--markdown", str(markdown))
    engines = ("--engines", "onnxruntime", "--precisions", "float32,bfloat16")
    assert main([*SMALL, *engines, "--batches", "1,3", "--threads", "1", *files]) == 0
    out, err = capsys.readouterr()
    assert "test_v2 (random weights), 32 generated pictures (--pictures DIR" in err
    for batch in (1, 3):
        title = f"\ntest_v2 (random weights), 64 px, batch {batch}, 1 threads\nCONTENDER"
        _, _, table = out.partition(title)
        row = table.splitlines()[1].split()
        assert row[:2] == ["onnxruntime", "float32"]
        assert row[4] == "1.00"
        assert row[-1] == "100.0%"
    assert out.count("\nonnxruntime bfloat16: The ONNX Runtime engine does not compute in") == 2
    rows = read(speed)
    assert [(row["batch"], row["precision"]) for row in rows] == [
        *(("1", "float32"), ("1", "bfloat16"), ("3", "float32"), ("3", "bfloat16")),
    ]
    assert rows[2]["top1_agreement"] == "1.0"
    assert float(rows[2]["decibels"]) > 80, "the reference is another engine"
    assert chart.read_bytes().startswith(b"\x89PNG")
    assert "batch 3: ms | ratio |\n" in markdown.read_text()


def test_benchmark_of_a_file_on_given_pictures(named_weights, pictures, capsys):
    line = [
        "bench",
        "--model",
        str(named_weights),
        "--pictures",
        str(pictures),
        "--engines",
        "openvino",
    ]
    assert main([*line, "--batches", "2", "--rounds", "1"]) == 0
    out, err = capsys.readouterr()
    assert f"shades, 9 pictures of {pictures} (1 cannot be read)." in err
    assert "shades, 32 px, batch 2," in out


def test_benchmark_of_the_bundled_model(capsys):
    line = [
        "bench",
        "--model",
        "bundled",
        "--engines",
        "openvino",
        "--batches",
        "1",
        "--rounds",
        "1",
    ]
    assert main(line) == 0
    assert "32 px, batch 1," in capsys.readouterr().out


def test_exit_code_1_if_all_contenders_fail(capsys):
    assert main([*SMALL, "--engines", "onnxruntime", "--precisions", "int8"]) == 1
    assert "onnxruntime int8: The ONNX Runtime engine does not compute in int8" in (
        capsys.readouterr().out
    )


def test_an_interruption_keeps_the_races_before(tmp_path, capsys, monkeypatch):
    path = tmp_path / "speed.csv"
    whole = race.race

    def interrupted(material, contenders, batch, *args, **options):
        if batch == 2:
            raise KeyboardInterrupt
        return whole(material, contenders, batch, *args, **options)

    monkeypatch.setattr(race, "race", interrupted)
    line = [*SMALL, "--engines", "openvino", "--batches", "1,2", "--csv", str(path)]
    assert main(line) == 130
    assert [row["batch"] for row in read(path)] == ["1"]
    assert capsys.readouterr().err.endswith("convnext: interrupted\n")


@pytest.fixture
def ran(monkeypatch):
    """Replaces races by failing ones, and records the contenders."""
    raced = []

    def nobody(material, contenders, batch, *_, **__):
        raced.append((material.model.name, batch, contenders))
        return [race.Result(c, batch, error="No.") for c in contenders]

    monkeypatch.setattr(race, "race", nobody)
    monkeypatch.setattr(race, "logits_of", lambda *_: None)
    return raced


def test_peers_that_are_not_installed_are_named(ran, monkeypatch, capsys):
    monkeypatch.setattr(
        "convnext.bench.contenders.find_spec", lambda name: name in ("timm", "torch") or None
    )
    assert main([*SMALL, "--engines", "openvino", "--against", "all"]) == 1
    assert ran[0][2] == [Contender("openvino", "auto"), Contender("timm", "float32")]
    left_out = [line for line in capsys.readouterr().err.splitlines() if "not installed" in line]
    assert left_out[0].startswith("Left out, not installed: keras.applications:tensorflow, ")
    assert "timm," not in left_out[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engines", "abacus"], "Unknown engine: 'abacus'"),
        (["--precisions", "int9"], "Unknown precision: 'int9'. Did you mean 'int8'?"),
        (["--against", "tim"], "Unknown peer: 'tim'. Did you mean 'timm'?"),
        (["--batches", "1,0"], "--batches must be numbers of 1 or more, such as 1,16."),
        (["--batches", ","], "--batches must be numbers of 1 or more"),
        (["--rounds", "0"], "--rounds must be 1 or more; got 0."),
        (["--width", "0"], "--width must be above 0; got 0.0."),
        (["--seconds", "nan"], "--seconds must be above 0; got nan."),
        (["--threads", "-1"], "--threads must be 1 or more; got -1."),
        (["--csv", "absent/x.csv"], "Create it first."),
        (["--chart", "absent/x.png"], "Create it first."),
        (["--markdown", "absent/x.md"], "Create it first."),
    ],
)
def test_bad_input_is_refused_before_any_work(ran, arguments, message, capsys):
    assert main([*SMALL, "--engines", "openvino", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not ran


def test_the_limits_of_a_race(monkeypatch):
    limits = []

    def nobody(_material, contenders, batch, until, **_):
        limits.append((until.rounds, until.width, until.seconds))
        return [race.Result(c, batch, error="No.") for c in contenders]

    monkeypatch.setattr(race, "race", nobody)
    monkeypatch.setattr(race, "logits_of", lambda *_: None)
    line = ["--engines", "openvino", "--batches", "1"]
    main([*SMALL, *line])
    main([*SMALL[:-2], *line, "--width", "0.1", "--seconds", "5"])
    assert limits == [(1, 0, math.inf), (None, 0.1, 5)]


def test_the_table_has_intervals_and_verdicts():
    model = Model("cats", VARIANTS["test_v1"], 2, Preprocess(size=64))
    results = [
        race.Result(Contender(name, "auto"), 1, "float32", turns=[[own * n] for n in range(1, 7)])
        for name, own in (("openvino", 1.0), ("keras", 1.0), ("timm", 1.5), ("jax", 0.5))
    ]
    rows = rows_of(model, results, None, 2, Machine("Abacus 9000", "", "", "2026-11-21"))
    lines = table(rows).partition("CONTENDER")[2].splitlines()
    assert "RATIO         95 %  ROUNDS  VERDICT" in lines[0]
    assert [" ".join(line.split()[4:-7]) for line in lines[1:]] == [
        "1.00 - 6 -",
        "1.00 1.000-1.000 6 no difference shown",
        "1.50 1.500-1.500 6 slower",
        "0.50 0.500-0.500 6 faster",
    ]


def test_a_name_that_is_nothing(ran, capsys):
    assert main(["bench", "--model", "convnext_tinny"]) == 2
    assert "'convnext_tinny' is neither a file nor a published checkpoint." in (
        capsys.readouterr().err
    )
    assert main(["bench", "--random-weights", "--model", "convnext_tinny"]) == 2
    assert "Unknown variant: 'convnext_tinny'. Did you mean" in capsys.readouterr().err
    assert main(["bench", "--model", "test_v2"]) == 2
    assert "For its architecture, give --random-weights." in capsys.readouterr().err
    assert not ran


def test_numbers_that_are_none(capsys):
    with pytest.raises(SystemExit):
        main([*SMALL, "--batches", "many"])
    assert "--batches: invalid" in capsys.readouterr().err


def test_the_help_names_every_peer(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    output = capsys.readouterr().out
    assert all(f"  {name} " in output for name in PEERS)
    assert max(map(len, output.partition("examples:")[2].splitlines())) <= 100
