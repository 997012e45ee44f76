"""Whole runs in this process, on an engine that answers by colour."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from convnext.data.files import Folder
from convnext.engines.mock import MockEngine
from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    ConvNeXtError,
    MissingDependencyError,
    UnknownNameError,
)
from convnext.scale import Room, TableColumns, predict_dataset

pyarrow = pytest.importorskip("pyarrow")
pytestmark = pytest.mark.usefixtures("mock_engine")

PARTS = [f"part-{shard:05d}-of-00004.parquet" for shard in range(4)]


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture
def predict(named_weights):
    def predict(sources, out="out", **options):
        return predict_dataset(sources, named_weights, out, **{"shard_size": 8, **options})

    return predict


def labels(found):
    return [row["label"] and row["label"].split(",")[0] for row in found]


def test_a_folder(folder, predict, rows):
    done = predict(folder)
    assert (done.shards, done.pictures, done.bad, done.computed) == (4, 30, 1, 30)
    [(path, error)] = done.listed
    assert path == f"{folder}/17.png"
    assert "is not a picture" in error
    assert names("out") == ["_inputs", "_plan.json", *PARTS]
    found = rows("out")
    assert [row["path"] for row in found] == [f"{folder}/{n:02}.png" for n in range(30)]
    assert labels(found) == [None if n == 17 else f"shade {n % 10}" for n in range(30)]
    assert found[3] == {
        "path": f"{folder}/03.png",
        "truth": None,
        "label": "shade 3, nuance 3",
        "index": 3,
        "probability": pytest.approx(1, abs=1e-4),
        "error": None,
    }
    assert found[17]["error"] == error
    assert {found[17][name] for name in ("label", "index", "probability")} == {None}


def test_columns(folder, predict, rows):
    from pyarrow.parquet import read_schema

    predict(folder, top=3, vectors=True)
    row = rows("out")[4]
    assert row["top_indices"] == [4, 3, 5]
    assert row["top_labels"][1] == "shade 3, nuance 3"
    assert row["top_probabilities"][0] == row["probability"]
    assert row["embedding"] == [100.0] * 32
    assert rows("out")[17]["embedding"] is None
    schema = read_schema(f"out/{PARTS[0]}")
    assert str(schema.field("embedding").type).startswith("fixed_size_list<")
    facts = json.loads(schema.metadata[b"convnext"])
    assert facts["settings"]["engine"] == "mock"
    assert len(facts["settings"]["weights"]) == 64
    assert {"convnext", "numpy", "pillow"} <= facts["settings"]["versions"].keys()


def test_pandas_reads_the_output(folder, predict):
    pandas = pytest.importorskip("pandas")
    predict(folder, task="embed")
    frame = pandas.read_parquet("out")
    assert list(frame.columns) == ["path", "truth", "embedding", "error"]
    good = frame[frame.error.isna()]
    assert np.stack(good.embedding).shape == (29, 32)


def test_every_form_gives_the_same_answers(here, shades, make, predict, rows):
    members = [(Path(name).name, data) for name, data in shades]
    labelled = [
        item
        for name, data in members
        for item in ((name, data), (name.replace("png", "cls"), name[:2].encode()))
    ]
    make.zip(here / "x.zip", members)
    make.tar(here / "x.tar", labelled)
    make.tar(here / "x.tgz", labelled, "w:gz")
    images, numbers = [data for _, data in members], list(range(30))
    make.table(here / "x.parquet", {"picture": images, "label": numbers}, row_group_size=10)
    expected = [f"shade {n % 10}" for n in range(30)]
    truths = [f"{n:02}" for n in range(30)]
    for name, shards, truth in (
        ("x.zip", 4, [None] * 30),
        ("x.tar", 4, truths),
        ("x.tgz", 1, truths),
        ("x.parquet", 3, [str(n) for n in range(30)]),
    ):
        done = predict(name, f"out-{name}")
        found = rows(f"out-{name}")
        assert (done.shards, done.pictures, done.bad) == (shards, 30, 0), name
        assert labels(found) == expected
        assert [row["truth"] for row in found] == truth
        where = [f"#{n}" if "parquet" in name else f"/{n:02}.png" for n in range(30)]
        assert [row["path"] for row in found] == [f"{name}{place}" for place in where]
    done = predict(["x.zip", "x.tgz", "x.parquet"], "all")
    assert (done.shards, done.pictures) == (8, 90)


def test_urls(here, shades, make, predict, rows):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    members = [(Path(name).name, data) for name, data in shades]
    try:
        for name, data in members:
            memory.pipe(f"/url/p/{name}", data)
        for kind, writer in (("zip", make.zip), ("tar", make.tar)):
            memory.pipe(f"/url/x.{kind}", writer(here / f"x.{kind}", members).read_bytes())
        table = make.table(here / "x.parquet", {"image": [data for _, data in members]})
        memory.pipe("/url/x.parquet", table.read_bytes())
        memory.pipe("/url/p/17.png", b"")
        for source, bad in (("p", 1), ("x.zip", 0), ("x.tar", 0), ("x.parquet", 0)):
            out = f"memory://answers/{source}"
            done = predict(f"memory://url/{source}", out)
            assert (done.pictures, done.bad) == (30, bad)
            again = predict(f"memory://url/{source}", out, resume=True)
            assert (again.pictures, again.bad, again.computed) == (30, bad, 0)
            with pytest.raises(ArgumentError, match=r"of [134] shards"):
                predict(f"memory://url/{source}", out)
        there = [Path(name).name for name in memory.ls("/answers/p", detail=False)]
        assert sorted(there) == ["_inputs", "_plan.json", *PARTS], "and no draft"
        memory.get("/answers/p", "copy", recursive=True)
        assert [row["path"] for row in rows("copy")][:1] == ["memory://url/p/00.png"]
        assert labels(rows("copy"))[:3] == ["shade 0", "shade 1", "shade 2"]
    finally:
        for place in ("/url", "/answers"):
            memory.rm(place, recursive=True)


def test_an_interrupted_run_goes_on(folder, predict, files, monkeypatch, mock_engine):
    predict(folder, "whole")
    computed = MockEngine.run

    def interrupted(engine, batch):
        if len(engine.batch_sizes) == 2:
            raise KeyboardInterrupt
        return computed(engine, batch)

    with monkeypatch.context() as patch:
        patch.setattr(MockEngine, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict(folder)
    assert names("out") == ["_inputs", "_plan.json", *PARTS[:2]]
    Path("out/.0a1b2c3d.part-00002-of-00004.parquet.part").touch()  # as after a kill
    kept = Path(f"out/{PARTS[0]}").stat().st_mtime_ns
    done = predict(folder, resume=True)
    assert (done.pictures, done.bad, done.computed) == (30, 1, 14)
    assert Path(f"out/{PARTS[0]}").stat().st_mtime_ns == kept
    assert files("out") == files("whole")
    assert mock_engine.engines[-1].batch_sizes == [16, 16]
    done = predict(folder, resume=True)
    assert (done.pictures, done.bad, done.computed) == (30, 1, 0)
    assert done.listed[0][0] == f"{folder}/17.png", "what is held is told again"


def test_answers_below_their_sources_can_be_gone_on_with(folder, predict):
    predict(folder, folder / "out")
    assert predict(folder, folder / "out", resume=True).computed == 0
    assert predict(folder, folder / "out", overwrite=True).computed == 30


def test_batches_are_filled_up(folder, predict, mock_engine):
    predict(folder, shard_size=20, batch_size=5)
    assert set(mock_engine.engines[-1].batch_sizes) == {16}


def test_numbers_that_are_none_are_errors_of_their_rows(folder, predict, rows, monkeypatch):
    answer = MockEngine.run

    def sometimes(engine, batch):
        logits, embedding = answer(engine, batch)
        return [np.where(batch[:, :1, 0, 0] == 75, np.float32(np.nan), logits), embedding]

    monkeypatch.setattr(MockEngine, "run", sometimes)
    done = predict(folder, vectors=True)
    assert done.bad == 4
    row = rows("out")[3]
    assert "are not finite" in row["error"]
    assert {row[name] for name in ("label", "index", "probability", "embedding")} == {None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"top": 2}, "other settings .top: 1 there, 2 now."),
        ({"batch_size": 16}, "other settings .batch: 32 there, 16 now."),
        ({"shard_size": 9}, "other settings .shard_size: 8 there, 9 now."),
        ({"task": "embed"}, 'other settings .task: "predict" there, "embed" now.'),
        ({"size": 64}, "other settings .preprocess"),
        ({"labels": list("abcdefghij")}, "other settings .labels"),
        ({"columns": TableColumns("x")}, "other settings .columns"),
        ({"device": "GPU"}, 'other settings .device: "auto" there, "GPU" now.'),
    ],
)
def test_going_on_otherwise_is_refused(folder, predict, files, change, words):
    predict(folder)
    before = files("out")
    with pytest.raises(ArgumentError, match=words):
        predict(folder, resume=True, **change)
    assert files("out") == before


def test_going_on_with_other_pictures_is_refused(folder, predict, make):
    predict(folder)
    (folder / "30.png").write_bytes(make.encoded(0))
    with pytest.raises(ArgumentError, match=r"holds 4 of 4 shards .* on other pictures"):
        predict(folder, resume=True)
    (folder / "30.png").unlink()
    assert predict(folder, resume=True).computed == 0
    (folder / "03.png").write_bytes(b"longer than it was, or shorter")
    with pytest.raises(ArgumentError, match="added, removed or changed"):
        predict(folder, resume=True)


def test_going_on_with_other_weights_is_refused(folder, predict, write_weights, tmp_path):
    predict(folder)
    other = write_weights(tmp_path / "other.safetensors", labels=tuple("abcdefghij"))
    with pytest.raises(ArgumentError, match="weights: "):
        predict_dataset(folder, other, "out", shard_size=8, resume=True)


def test_an_existing_run_is_replaced_only_with_overwrite(folder, predict, files):
    predict(folder)
    before = files("out")
    with pytest.raises(ArgumentError, match="holds 4 of 4 shards of an earlier run"):
        predict(folder)
    assert files("out") == before
    assert predict(folder, overwrite=True, shard_size=100).shards == 1
    assert len(names("out")) == 3
    Path("theirs").mkdir()
    Path("theirs/part-of-a-book.txt").touch()
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(ArgumentError, match=r"other files, such as part-of-a-book\.txt"):
            predict(folder, "theirs", **options)
    assert names("theirs") == ["part-of-a-book.txt"]
    Path("out/part-summary.csv").touch()
    with pytest.raises(ArgumentError, match=r"other files, such as part-summary\.csv"):
        predict(folder, overwrite=True)
    assert len(names("out")) == 4


@pytest.mark.parametrize("source", ["absent", "empty.parquet", "no.parquet"])
def test_overwriting_keeps_the_old_run_until_inputs_are_listed(
    folder, predict, files, make, source
):
    predict(folder)
    before = files("out")
    make.table("empty.parquet", {"image": pyarrow.array([], pyarrow.binary())})
    Path("no.parquet").write_bytes(b"no table")
    with pytest.raises(ArgumentError, match=r"absent|the sources hold none|no\.parquet"):
        predict([folder, source] if source != "empty.parquet" else source, overwrite=True)
    assert files("out") == before


@pytest.mark.parametrize("removed", range(6))
def test_overwriting_that_is_interrupted_can_be_done_again(folder, predict, monkeypatch, removed):
    predict(folder)
    left = [removed]
    remove = Folder.remove

    def interrupted(out, name):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        remove(out, name)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "remove", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict(folder, overwrite=True)
    assert len(names("out")) == 6 - removed
    assert ("_plan.json" in names("out")) == (removed < 5), "it is the last of what counts"
    assert predict(folder, overwrite=True).computed == 30


def test_a_plan_that_is_none(folder, predict):
    predict(folder)
    Path("out/_plan.json").write_text("{}")
    with pytest.raises(ArgumentError, match="is not a plan of this version"):
        predict(folder, resume=True)


def test_a_file_that_is_damaged_is_named(folder, predict):
    predict(folder)
    Path(f"out/{PARTS[2]}").write_bytes(b"x")
    with pytest.raises(ArgumentError, match=f"{PARTS[2]} was changed or damaged.*Remove it"):
        predict(folder, resume=True)
    Path(f"out/{PARTS[2]}").unlink()
    assert predict(folder, resume=True).computed == 8


def test_damaged_archives_are_rows(here, make, predict, rows):
    make.tar(here / "x.tar", [("1.png", make.encoded(25)), ("2.png", make.encoded(50))])
    (here / "x.tar").write_bytes((here / "x.tar").read_bytes()[:1100])
    (here / "y.zip").write_bytes(b"PK no zip")
    (here / "z.tar").write_bytes(bytes(1024))
    done = predict(["x.tar", "y.zip", "z.tar"])
    found = rows("out")
    assert (done.pictures, done.bad) == (4, 3)
    assert found[0]["index"] == 1
    errors = [row["error"] for row in found[1:]]
    assert "truncated" in errors[0]
    assert "y.zip cannot be read" in errors[1]
    assert "holds no file that is named like a picture" in errors[2]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(here, make, predict, rows):
    members = [("1.png", make.encoded(25)), ("1.png", make.encoded(50))]
    path = make.zip(here / "x.zip", members)
    assert predict("x.zip").bad == 0
    assert [row["index"] for row in rows("out")] == [1, 2]
    before = path.stat()
    Path("out/part-00000-of-00001.parquet").unlink()
    make.zip(path, [("2.png", members[0][1]), members[1]])
    assert path.stat().st_size == before.st_size
    assert predict("x.zip", resume=True).bad == 1
    assert "is no longer member" in rows("out")[0]["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="names there are text")
def test_names_of_any_bytes(folder, predict, rows, make):
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(make.encoded(50))
    predict(folder)
    assert rows("out")[-1]["path"] == f"{folder}/caf\\udce9.png"
    assert rows("out")[-1]["index"] == 2


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"task": "guess"}, UnknownNameError, "Unknown task"),
        ({"runner": "spark"}, UnknownNameError, "Unknown runner: 'spark'"),
        ({"engine": "kears"}, UnknownNameError, "Unknown engine"),
        ({"top": 0}, ArgumentError, "top must be 1 or more"),
        ({"batch_size": 0}, ArgumentError, "batch_size must be 1 or more"),
        ({"shard_size": 0}, ArgumentError, "shard_size must be 1 or more"),
        ({"labels": ["a"]}, ArgumentError, "10 classes, but 1 names"),
        ({"calibration": "x.safetensors"}, ArgumentError, "for precision='int8'"),
        ({"room": Room()}, ArgumentError, "room applies to runner='ray'"),
        ({"resume": True, "overwrite": True}, ArgumentError, "Choose one"),
    ],
)
def test_mistakes_leave_nothing_behind(folder, predict, options, error, words):
    with pytest.raises(error, match=words):
        predict(folder, **options)
    assert not Path("out").exists()


def test_missing_sources_are_refused(here, predict):
    with pytest.raises(ArgumentError, match="name a source"):
        predict([])
    with pytest.raises(ArgumentError, match="absent"):
        predict("absent")
    assert names(here) == []


def test_models_that_do_not_fit(folder, headless_weights):
    with pytest.raises(ArgumentError, match="has no classifier"):
        predict_dataset(folder, headless_weights, "out")
    assert predict_dataset(folder, headless_weights, "out", task="embed").pictures == 30
    with pytest.raises(ArgumentTypeError, match="save_weights"):
        predict_dataset(folder, object(), "out")


def test_another_process_at_the_same_folder(folder, predict):
    from filelock import FileLock

    Path("out").mkdir()
    with FileLock("out/.convnext.lock"), pytest.raises(ArgumentError, match="Another process"):
        predict(folder)


@pytest.mark.skipif(os.name == "nt", reason="what is open stays there")
def test_a_lock_is_given_up_after_its_file_has_gone(folder, predict, monkeypatch):
    """A process that locks in between has a lock file that exists, or none."""
    from filelock import FileLock

    there = []
    release = FileLock.release

    def watched(lock, *args, **kwargs):
        there.append(Path(lock.lock_file).exists())
        release(lock, *args, **kwargs)

    monkeypatch.setattr(FileLock, "release", watched)
    predict(folder)
    assert there[0] is False


def test_a_folder_that_cannot_be_written(folder, predict, monkeypatch):
    from filelock import FileLock

    def acquire(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(ConvNeXtError, match="out cannot be written: Permission denied"):
        predict(folder)
    assert not Path("out").exists()


def test_only_our_own_temporaries_are_removed(folder, predict):
    Path("out/.0a1b2c3d.theirs.part").mkdir(parents=True)
    Path("out/.download.part").touch()
    predict(folder)
    predict(folder, overwrite=True)
    assert {".0a1b2c3d.theirs.part", ".download.part"} < set(names("out"))
    Path("theirs").mkdir()
    for name in ("book.txt", ".0a1b2c3d.book.txt.part"):
        Path("theirs", name).touch()
    with pytest.raises(ArgumentError, match="other files"):
        predict(folder, "theirs")
    assert names("theirs") == [".0a1b2c3d.book.txt.part", "book.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk(folder, predict, monkeypatch):
    real = Path.open

    def full(path, mode="r", *args, **kwargs):
        stops = mode == "wb" and "part-00002" in path.name
        return real(Path("/dev/full") if stops else path, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(ConvNeXtError, match="No space left"):
            predict(folder)
    assert names("out") == ["_inputs", "_plan.json", *PARTS[:2]]
    assert predict(folder, resume=True).computed == 14


@pytest.mark.parametrize(("module", "extra"), [("pyarrow", "parquet"), ("ray", "ray")])
def test_a_missing_package_of_a_runner_is_named(folder, predict, monkeypatch, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"convnext\[{extra}\]"):
        predict(folder, runner="ray" if extra == "ray" else "local")
    assert not Path("out").exists()


def test_progress(folder, predict, capsys, monkeypatch):
    predict(folder, progress=True)
    assert capsys.readouterr().err == "", "no terminal"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    predict(folder, progress=True, overwrite=True)
    said = capsys.readouterr().err
    assert "30/30" in said
    assert "shard 4 of 4, 1 bad" in said
