"""The command, end to end, with an engine of known answers."""

import json

import numpy as np
import pytest
from PIL import Image

from convnext.architecture import VARIANTS
from convnext.cli.main import main
from convnext.engines import opening
from convnext.engines.mock import MockEngine
from convnext.images.recipe import Preprocess
from convnext.weights.canonical import parameter_shapes
from convnext.weights.info import WeightsInfo
from convnext.weights.save import save_weights

PICTURES = 20
LOGITS = np.random.default_rng(0).normal(0, 2, (PICTURES, 4)).astype(np.float32)


class Answers(MockEngine):
    """An engine that classifies by colour, and raises Ctrl-C before a given batch."""

    interrupt_before: int | None = None

    def run(self, batch):
        if len(self.batch_sizes) == self.interrupt_before:
            raise KeyboardInterrupt
        self.batch_sizes.append(len(batch))
        return (LOGITS[batch[:, 4, 4, 0]],)


@pytest.fixture
def engine(monkeypatch):
    engine = Answers(size=16)
    mock = opening.Runtime(lambda: True, (), lambda *_: engine)
    monkeypatch.setattr(opening, "ENGINES", {"mock": mock})
    return engine


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "pets.safetensors"
    shapes = parameter_shapes(VARIANTS["test_v1"], 4)
    values = {name: np.zeros(shape, np.float16) for name, shape in shapes.items()}
    recipe = Preprocess(size=16, crop_fraction=1.0)
    info = WeightsInfo("pets", "me", "MIT", ("ant", "bee", "cat", "dog"), recipe)
    save_weights(values, path, info=info)
    return str(path)


@pytest.fixture
def data(tmp_path):
    for number in range(PICTURES):
        path = tmp_path / "data" / ("ant", "bee", "cat", "dog")[number // 5] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (number, 0, 0)).save(path)
    return str(tmp_path / "data")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("engine")
def test_a_run(model, data, tmp_path, capsys):
    assert main(["evaluate", "--model", model, "--data", data]) == 0
    out, err = capsys.readouterr()
    right = sum(int(row.argmax()) == number // 5 for number, row in enumerate(LOGITS))
    first, titles, top1 = out.splitlines()[:3]
    assert first == "pets: 20 pictures of 4 classes (class folders, by name), among 4."
    assert titles.split() == ["MEASURE", "MEASURED", "95", "%", "INTERVAL"]
    assert top1.split()[:3] == ["top-1", f"{5 * right:.3f}", "%"]
    assert "pets (licence MIT) with mock, float32, on 20 pictures." in err
    folder = tmp_path / "evaluations" / "pets-data"
    assert json.loads((folder / "report.json").read_text())["results"]["top1"]["count"] == right
    assert (folder / "report.md").exists()


def reports(folder):
    report = json.loads((folder / "report.json").read_text())
    del report["session"]
    return report


def test_interrupted_and_resumed(model, data, tmp_path, capsys, engine):
    command = ["evaluate", "--model", model, "--data", data, "--batch", "3", "--out"]
    assert main([*command, "whole"]) == 0
    engine.batch_sizes.clear()
    engine.interrupt_before = 4
    assert main([*command, "parts"]) == 130
    assert "The results so far are in parts. Continue with --resume." in capsys.readouterr().err
    engine.interrupt_before = None
    assert main([*command, "parts"]) == 2
    assert "results of 12 pictures. Continue with --resume" in capsys.readouterr().err
    assert main([*command[:-2], "4", "--out", "parts", "--resume"]) == 2
    assert "of another run (batch: 3 there, 4 now)" in capsys.readouterr().err
    assert main([*command, "parts", "--resume"]) == 0
    assert engine.batch_sizes == [3] * 6 + [2]
    assert reports(tmp_path / "whole") == reports(tmp_path / "parts")
    assert main([*command, "parts", "--restart"]) == 0
    assert reports(tmp_path / "whole") == reports(tmp_path / "parts")


@pytest.mark.usefixtures("engine")
def test_bad_pictures_are_listed_and_change_the_exit_code(model, data, tmp_path, capsys):
    for number in range(7):
        name = ("ant", "bee")[number // 5]
        (tmp_path / "data" / name / f"{number:02}.png").write_bytes(b"")
    assert main(["evaluate", "--model", model, "--data", data]) == 1
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("7 pictures could not be read and are not counted:")
    assert lines[start + 1].startswith("  ant/00.png: ")
    assert lines[start + 6] == "  and 2 more, in report.json"


def test_logits_that_are_no_numbers_change_the_exit_code(model, data, capsys, monkeypatch, engine):
    monkeypatch.setattr(engine, "run", lambda batch: (np.full((len(batch), 4), np.nan),))
    assert main(["evaluate", "--model", model, "--data", data]) == 1
    assert "The logits of 20 pictures are not finite: counted as wrong." in capsys.readouterr().out


@pytest.mark.usefixtures("engine")
def test_options_reach_the_library(model, data, tmp_path, capsys):
    (tmp_path / "truth.csv").write_text(
        "\n".join(f"{number:02}.png,{number % 4}" for number in range(PICTURES))
    )
    options = ["--ground-truth", "truth.csv", "--limit", "10", "--subset", "data", "--out", "o"]
    assert main(["evaluate", "--model", model, "--data", data, *options]) == 0
    report = reports(tmp_path / "o")
    assert report["data"]["labels"] == "truth.csv: table of names and labels, by index"
    assert report["results"]["pictures"] == 10
    assert [row["index"] for row in report["per_class"]] == [0, 2]
    assert report["data"]["competing_classes"] == 4
    assert (
        main(["evaluate", "--model", model, "--data", data, "--labels", "folders", "--out", "p"])
        == 0
    )
    assert reports(tmp_path / "p")["data"]["labels"] == "class folders"
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "Give a model: convnext evaluate --model MODEL"),
        (["--model", "MODEL"], "Give the pictures as --data DIR"),
        (["--model", "MODEL", "--data", "missing"], "missing does not exist"),
        (["--model", "MODEL", "--data", "data", "--layout", "flat"], "Unknown layout: 'flat'"),
        (
            ["--model", "MODEL", "--data", "data", "--ground-truth", "x"],
            "ground truth x cannot be read",
        ),
        (["--model", "MODEL", "--data", "data", "--batch", "0"], "must be 1 or more; got 0"),
        (["--model", "bundled", "--data", "data", "--weights", "x"], "must be the checkpoint"),
        (["table", "--model", "MODEL"], "give neither --model nor --data"),
        (["--table", "missing"], "missing is not a folder"),
        (["--table"], "evaluations is not a folder"),
    ],
)
@pytest.mark.usefixtures("data", "engine")
def test_invalid_arguments_are_refused(arguments, problem, model, capsys):
    given = [model if argument == "MODEL" else argument for argument in arguments]
    assert main(["evaluate", *given]) == 2
    assert problem in capsys.readouterr().err


def test_a_folder_that_cannot_be_is_refused_before_the_model_is_opened(data, tmp_path, capsys):
    (tmp_path / "afile").touch()
    assert main(["evaluate", "--model", "no_model", "--data", data, "--out", "afile/x"]) == 2
    assert "Give another --out" in capsys.readouterr().err


def test_table(tmp_path, capsys):
    (tmp_path / "report.json").write_text("{}")
    assert main(["evaluate", "table", "."]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("| model | original | old Keras port | ours |")
    assert err.startswith("Left out: report.json is not an evaluation report")
