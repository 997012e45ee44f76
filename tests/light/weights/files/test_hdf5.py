"""Keras's HDF5 files, true and hostile; libhdf5 crashing or hanging is an error like any other."""

from __future__ import annotations

import sys
import time
import zipfile

import h5py
import ml_dtypes
import numpy as np
import pytest

from convnext.errors import ArgumentError, WeightsFileError
from convnext.weights.files import hdf5, open_weights, write_weights
from crafted_files import contents, lazy

KERNEL = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.fixture
def legacy(tmp_path):
    """A file in the legacy layout with one layer, open for changes that make it hostile."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"stem"]
        stem = file.create_group("stem")
        stem.attrs["weight_names"] = [b"conv/kernel:0"]
        stem["conv/kernel:0"] = KERNEL
    return path


def refuse(path, reason):
    started = time.monotonic()
    with pytest.raises(WeightsFileError, match=reason):
        contents(path)
    assert time.monotonic() - started < 30  # of a machine that others use, too


def test_the_legacy_layout_names_tensors_by_layer_and_weight(legacy):
    with h5py.File(legacy, "a") as file:
        file.attrs["keras_version"] = "2.9.0"
        file["unlisted"] = KERNEL
    with open_weights(legacy) as file:
        assert file.format == "h5"
        assert list(file.tensors) == ["stem/conv/kernel:0"]
        assert file.metadata == {"keras_version": "2.9.0"}
        np.testing.assert_array_equal(file.tensors["stem/conv/kernel:0"].read(), KERNEL)


def test_a_whole_saved_model_gives_its_weights_and_its_configuration(legacy):
    with h5py.File(legacy, "a") as file:
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [b"stem"]
        file.move("stem", "model_weights/stem")
        del file.attrs["layer_names"]
        file.attrs["model_config"] = "{}" * 50_000
        file["optimizer_weights/adam"] = KERNEL
    with open_weights(legacy) as file:
        assert list(file.tensors) == ["stem/conv/kernel:0"]
        assert len(file.metadata["model_config"]) == 100_000


def test_the_layout_of_keras_3_names_tensors_by_their_path(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        variables = file.create_group("layers/conv2d/vars")
        variables.attrs["name"] = "stem_conv"
        variables["0"] = KERNEL
        variables["1"] = np.arange(3).astype(ml_dtypes.bfloat16)
        variables["1"].attrs["dtype"] = "bfloat16"
        file["words"] = ["text", "is no tensor"]
    with open_weights(tmp_path / "a.h5") as file:
        assert file.format == "weights.h5"
        assert list(file.tensors) == ["layers/conv2d/vars/0", "layers/conv2d/vars/1"]
        assert file.metadata == {"layers/conv2d/vars@name": "stem_conv"}
        assert file.tensors["layers/conv2d/vars/1"].dtype == ml_dtypes.bfloat16
        assert file.tensors["layers/conv2d/vars/1"].read().tolist() == [0, 1, 2]


def keras_archive(path, h5_path, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("config.json", "{}")
        archive.write(h5_path, "model.weights.h5")
    return path


def test_a_keras_archive_is_read_in_place(legacy, tmp_path):
    with open_weights(keras_archive(tmp_path / "a.keras", legacy)) as file:
        assert file.format == "keras"
        assert file.metadata["config.json"] == "{}"
        np.testing.assert_array_equal(file.tensors["stem/conv/kernel:0"].read(), KERNEL)


def test_a_compressed_keras_archive_is_refused_with_advice(legacy, tmp_path):
    refuse(keras_archive(tmp_path / "a.keras", legacy, zipfile.ZIP_DEFLATED), "Save it with Keras")


@pytest.mark.parametrize(
    "storage",
    [
        {"chunks": (1, 3, 4)},
        {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (2, 2, 2), "compression": "lzf"},
        {"dtype": ">f4"},
        {"dtype": "f8"},
        {"dtype": "f2"},
    ],
    ids=str,
)
def test_every_way_to_store_numbers_is_read(storage, legacy):
    with h5py.File(legacy, "a") as file:
        del file["stem/conv/kernel:0"]
        file.create_dataset("stem/conv/kernel:0", data=KERNEL, **storage)
    values = contents(legacy)["stem/conv/kernel:0"]
    np.testing.assert_array_equal(values, KERNEL)
    assert values.dtype.isnative


def test_numbers_inside_an_object_header_are_read(legacy):
    with h5py.File(legacy, "a") as file:
        del file["stem/conv/kernel:0"]
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(KERNEL.shape)
        dataset = h5py.h5d.create(
            file["stem/conv"].id, b"kernel:0", h5py.h5t.IEEE_F32LE, space, compact
        )
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, KERNEL)
    np.testing.assert_array_equal(contents(legacy)["stem/conv/kernel:0"], KERNEL)


def test_numbers_that_libhdf5_has_to_convert_are_read(legacy):
    twelve_bits = h5py.h5t.STD_I16LE.copy()
    twelve_bits.set_precision(12)
    with h5py.File(legacy, "a") as file:
        del file["stem/conv/kernel:0"]
        space = h5py.h5s.create_simple((3,))
        dataset = h5py.h5d.create(file["stem/conv"].id, b"kernel:0", twelve_bits, space)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([-1, 0, 1], np.int16))
    assert contents(legacy)["stem/conv/kernel:0"].tolist() == [-1, 0, 1]


def replace_kernel(make):
    def change(file):
        del file["stem/conv/kernel:0"]
        make(file)

    return change


def add_groups(file):
    del file.attrs["layer_names"]
    for index in range(17_000):
        file.create_group(f"many/{index}")


def virtual(file):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "a", (3,))
    file.create_virtual_dataset("stem/conv/kernel:0", layout)


def attribute(group, name, value):
    return lambda file: file[group].attrs.__setitem__(name, value)


def dataset(shape, **options):
    return replace_kernel(
        lambda file: file.create_dataset("stem/conv/kernel:0", shape, "f4", **options)
    )


def link(target):
    return replace_kernel(lambda file: file.__setitem__("stem/conv/kernel:0", target))


HOSTILE = {
    "a soft link": (link(h5py.SoftLink("/stem")), "link"),
    "an external link": (link(h5py.ExternalLink("elsewhere", "/")), "link"),
    "a virtual dataset": (replace_kernel(virtual), "other files"),
    "external storage": (dataset((3,), external=[("elsewhere", 0, 12)]), "other files"),
    "100 TB never stored": (dataset((25 * 10**12,)), "inflates"),
    "100 TB in chunks": (dataset((25 * 10**12,), chunks=(1000,)), "inflates"),
    "zeros that inflate": (
        replace_kernel(
            lambda file: file.create_dataset(
                "stem/conv/kernel:0", data=np.zeros(10**7, "f4"), compression="gzip"
            )
        ),
        "inflates",
    ),
    "a text for numbers": (link("text"), "no numbers"),
    "a group for numbers": (
        replace_kernel(lambda file: file.create_group("stem/conv/kernel:0")),
        "no dataset",
    ),
    "no numbers at all": (link(h5py.Empty("f4")), "no numbers"),
    "a name that climbs": (attribute("stem", "weight_names", [b"../stem/conv/kernel:0"]), "cannot"),
    "an absolute name": (attribute("stem", "weight_names", [b"/stem/conv/kernel:0"]), "no path"),
    "a name twice": (attribute("stem", "weight_names", [b"conv/kernel:0"] * 2), "twice"),
    "a missing weight": (attribute("stem", "weight_names", [b"conv/bias:0"]), "bias:0"),
    "a missing layer": (attribute("/", "layer_names", [b"head"]), "head"),
    "a number for names": (attribute("/", "layer_names", 7), "7"),
    "nothing for names": (attribute("/", "layer_names", h5py.Empty("S3")), "cannot be used"),
    "a name that is no text": (attribute("/", "layer_names", [b"\xff"]), "cannot be used"),
    "a layer listed twice": (attribute("/", "layer_names", [b"stem"] * 2), "twice"),
    "17,000 groups": (add_groups, "objects|time"),
    "a group that holds itself": (
        lambda file: (file.__setitem__("stem/again", file["stem"]), file.attrs.clear()),
        "nested",
    ),
    "groups in groups": (
        lambda file: (file.create_group("/".join("a" * 100)), file.attrs.clear()),
        "nested",
    ),
    "a long text, many times": (
        lambda file: [file.attrs.__setitem__(f"a{n}", "x" * 60_000) for n in range(100)],
        "characters",
    ),
}


@pytest.mark.parametrize(("change", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_structure_is_refused(change, reason, legacy):
    with h5py.File(legacy, "a", libver="latest") as file:
        change(file)
    refuse(legacy, reason)


ACCIDENTS = {
    "a crash": ("__import__('os').abort()", "crashed or used up its time"),
    "a hang": ("exec('while True: pass')", "crashed or used up its time"),
    "an allocation": ("bytearray(400 << 20)", "cannot read it"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the system gives no bounds to a process")
@pytest.mark.parametrize(("accident", "reason"), ACCIDENTS.values(), ids=ACCIDENTS)
def test_an_accident_of_libhdf5_is_an_error(accident, reason, legacy, monkeypatch, tmp_path):
    visit = "            layout = found.visit(file)\n"
    program = hdf5.SURVEY.read_text().replace(visit, f"            {accident}\n{visit}")
    assert accident in program
    program = program.replace("SECONDS = 3 ", "SECONDS = 1 ")
    (tmp_path / "survey.py").write_text(program)
    monkeypatch.setattr(hdf5, "SURVEY", tmp_path / "survey.py")
    refuse(legacy, reason)


def test_written_files_hold_the_attributes_that_keras_follows(tmp_path, arrays):
    write_weights(tmp_path / "a.h5", lazy(arrays), {"note": "text"})
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["layer_names"].tolist() == [b"stem", b"head"]
        names = file["stem"].attrs["weight_names"].tolist()
        assert names == [b"kernel", b"transposed", b"scalar"]
        # Keras 2 transposes the kernels of a file without a version.
        assert int(file.attrs["keras_version"].split(".")[0]) >= 2
    with open_weights(tmp_path / "a.h5") as file:
        assert file.metadata["note"] == "text"


def test_long_lists_of_names_are_spread_over_attributes(tmp_path):
    names = [f"layer_{index:04}/{'x' * 100}/kernel" for index in range(700)]
    names += [f"wide/{'y' * 100}_{index:04}" for index in range(700)]
    write_weights(tmp_path / "a.h5", lazy(dict.fromkeys(names, np.zeros(1))))
    with h5py.File(tmp_path / "a.h5") as file:
        assert "weight_names1" in file["wide"].attrs
    with open_weights(tmp_path / "a.h5") as file:
        assert list(file.tensors) == names


@pytest.mark.parametrize("name", ["kernel", "/kernel", "layer/", "layer//kernel"])
def test_a_name_without_layer_and_weight_is_refused_for_writing(name, tmp_path):
    with pytest.raises(ArgumentError, match="layer/kernel"):
        write_weights(tmp_path / "a.h5", lazy({name: KERNEL}))


def test_bfloat16_is_refused_for_writing_with_advice(tmp_path):
    with pytest.raises(ArgumentError, match=r"bfloat16.*float32"):
        write_weights(tmp_path / "a.h5", lazy({"a/b": KERNEL.astype(ml_dtypes.bfloat16)}))
