"""SavedModels: TensorFlow's own are read, and archives of them are unpacked with suspicion."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
import time

import numpy as np
import pytest

from convnext.errors import MissingDependencyError, WeightsFileError
from convnext.weights.files import open_weights
from crafted_files import contents


def tar_member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, content


def write_tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


INDEX = "variables/variables.index"
HOSTILE = {
    "a name that climbs": ([tar_member("../up")], "leads out"),
    "a name that climbs later": ([tar_member("a/../../variables/variables.index")], "leads out"),
    "an absolute name": ([tar_member("/up")], "leads out"),
    "a name with backslashes": ([tar_member("..\\up")], "leads out"),
    "a symbolic link": ([tar_member(INDEX, type=tarfile.SYMTYPE, linkname="/up")], "a link"),
    "a hard link": ([tar_member(INDEX, type=tarfile.LNKTYPE, linkname="/up")], "a link"),
    "a pipe": ([tar_member(INDEX, type=tarfile.FIFOTYPE)], "a device"),
    "a device": ([tar_member(INDEX, type=tarfile.CHRTYPE)], "a device"),
    "a file that is mostly hole": (
        [
            tar_member(
                INDEX,
                b"x",
                pax_headers={"GNU.sparse.map": "100000000,1", "GNU.sparse.size": "100000001"},
            )
        ],
        "leads out",
    ),
    "a sparse file": (
        [tar_member(INDEX, b"x" * 512, type=tarfile.GNUTYPE_SPARSE)],
        "cannot be used",
    ),
    "a file twice": ([tar_member(INDEX, b"a"), tar_member(f"./{INDEX}", b"b")], "exists"),
    "a bomb": (
        [tar_member("variables/variables.data-00000-of-00001", bytes(20 << 20))],
        "inflates",
    ),
    "a bomb that is passed over": ([tar_member("assets/a", bytes(20 << 20))], "inflates"),
    "a name without end": ([tar_member("n" * (4 << 20))], "inflates"),
    "many files": ((tar_member(f"{n}") for n in range(5000)), "more than"),
}


@pytest.mark.parametrize(("members", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused(members, reason, tmp_path):
    path = write_tar(tmp_path / "a.tar.gz", members)
    started = time.process_time()
    with pytest.raises(WeightsFileError, match=reason):
        open_weights(path)
    assert time.process_time() - started < 5
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"no archive" * 100, bytes(10_000)])
def test_a_gzip_file_of_something_else_is_refused(content, tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    with pytest.raises(WeightsFileError):
        open_weights(tmp_path / "a.gz")


def test_an_archive_that_is_cut_off_is_refused(tmp_path):
    noise = np.random.default_rng(0).bytes(100_000)
    path = write_tar(tmp_path / "a.tar.gz", [tar_member(INDEX, noise)])
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(WeightsFileError, match="archive is damaged"):
        open_weights(path)


def test_without_tensorflow_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "variables").mkdir()
    (tmp_path / INDEX).touch()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingDependencyError, match=r"convnext\[tensorflow\]"):
        open_weights(tmp_path)


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """A SavedModel with nested modules, and the values of its variables by their paths."""
    tf = pytest.importorskip("tensorflow")

    class Block(tf.Module):
        def __init__(self, start):
            super().__init__()
            self.gamma = tf.Variable(np.arange(start, start + 3, dtype=np.float32), name="gamma")

    root = tf.Module()
    root.blocks = [Block(0), Block(3)]
    root.head = tf.Variable(np.ones((2, 3), np.float32), name="head/kernel")
    root.half = tf.Variable(tf.constant([0.5, 1.5], tf.bfloat16), name="half")
    root.step = tf.Variable(7, dtype=tf.int64)
    root.text = tf.Variable("no number")
    folder = tmp_path_factory.mktemp("saved") / "model"
    tf.saved_model.save(root, str(folder))
    return folder


@pytest.mark.upstream
@pytest.mark.parametrize("packed", [False, True])
def test_variables_are_named_by_their_path(packed, saved_model, tmp_path):
    path = saved_model
    if packed:
        path = tmp_path / "model.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(saved_model, ".")
    with open_weights(path) as file:
        assert file.format == "saved_model"
        names = {"blocks/0/gamma", "blocks/1/gamma", "head", "half", "step"}
        assert set(file.tensors) == names
        assert file.metadata["head"] == "head/kernel"
        assert file.metadata["blocks/1/gamma"] == "gamma"
        assert file.tensors["blocks/1/gamma"].read().tolist() == [3, 4, 5]
        assert file.tensors["half"].read().astype(float).tolist() == [0.5, 1.5]
        assert file.tensors["head"].shape == (2, 3)
        assert file.tensors["step"].read() == 7


@pytest.mark.upstream
def test_damaged_checkpoints_are_refused(saved_model, tmp_path):
    import shutil

    shutil.copytree(saved_model, tmp_path / "model")
    index = tmp_path / "model" / INDEX
    content = index.read_bytes()
    for cut in range(0, len(content), 7):
        index.write_bytes(content[:cut])
        with pytest.raises(WeightsFileError, match="model cannot be used"):
            open_weights(tmp_path / "model")
    index.write_bytes(content)

    (data,) = (tmp_path / "model" / "variables").glob("variables.data*")
    values = data.read_bytes()
    data.write_bytes(bytes([values[0] ^ 1]) + values[1:])
    with pytest.raises(WeightsFileError, match="model cannot be used"):
        contents(tmp_path / "model")
    data.write_bytes(values[:-1])
    with pytest.raises(WeightsFileError, match="model cannot be used"):
        contents(tmp_path / "model")


@pytest.mark.upstream
@pytest.mark.parametrize(
    ("name", "slices", "value", "reason"),
    [
        ("_CHECKPOINTABLE_OBJECT_GRAPH", "", b"no graph", "damaged"),
        ("a", "1000000 1000000 0,1:0,2", [[1.0, 2.0]], "larger than the data"),
        ("a" * 1000, "", 1.0, "impossible name"),
    ],
)
def test_a_hostile_checkpoint_is_refused(name, slices, value, reason, tmp_path):
    tf = pytest.importorskip("tensorflow")
    prefix = str(tmp_path / "variables" / "variables")
    (tmp_path / "variables").mkdir()
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=[name], shape_and_slices=[slices], tensors=[tf.constant(value)]
    )
    with pytest.raises(WeightsFileError, match=reason):
        open_weights(tmp_path)
