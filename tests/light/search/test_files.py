from __future__ import annotations

import numpy as np
import pytest

from convnext.cli.vectors import npz_file
from convnext.errors import ArgumentError, WeightsMismatchError
from convnext.search import near_duplicates, nearest, open_vectors
from convnext.search.files import checksum

FACTS = {"model": "clip", "licence": "MIT", "fingerprint": "ab" * 32}  # as in conftest.py


def test_what_was_written(stored, random_vectors):
    vectors = random_vectors(37)
    found = open_vectors(stored(vectors))
    assert (found.count, found.width) == (37, 24)
    assert found.facts == FACTS
    [piece] = found.pieces()
    assert np.array_equal(piece.vectors, vectors)
    assert [str(name) for name in piece.names][:2] == ["é0.jpg", "é1.jpg"]


@pytest.mark.parametrize("width", [24, 7])
def test_empty_files_and_odd_widths(stored, random_vectors, width):
    assert nearest(open_vectors(stored(random_vectors(0, width))), np.ones(width)) == [[]]
    vectors = random_vectors(5, width)
    [hits] = nearest(open_vectors(stored(vectors)), vectors[3], top=1)
    assert hits[0].index == 3


def test_vectors_of_another_model(stored, random_vectors):
    found = open_vectors(stored(random_vectors()))
    found.check_model("ab" * 32, "the same")
    with pytest.raises(WeightsMismatchError, match=r"vectors of clip .*cannot be compared"):
        found.check_model("cd" * 32, "another")


def test_a_checksum_sees_every_bit(random_vectors):
    vectors = random_vectors(9)
    right = checksum(vectors)
    assert checksum(vectors[4:], checksum(vectors[:4])) == right
    for bit in (1, 1 << 31):
        changed = vectors.copy()
        changed.view(np.uint32)[3, 5] ^= bit
        assert checksum(changed) != right


def test_damage_anywhere_in_the_vectors_is_refused(stored, random_vectors):
    """One bit of one number, which leaves it finite, and of about the same size."""
    vectors = random_vectors()
    path = stored(vectors)
    whole = path.read_bytes()
    place = whole.index(vectors[250, :6].tobytes()) + 1
    damaged = bytearray(whole)
    damaged[place] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ArgumentError, match="damaged"):
        nearest(open_vectors(path), vectors[0])
    with pytest.raises(ArgumentError, match="damaged"):
        list(near_duplicates(open_vectors(path)))
    for length in (len(whole) - 1, len(whole) // 2, 100, 0):
        path.write_bytes(whole[:length])
        with pytest.raises(ArgumentError, match="damaged"):
            nearest(open_vectors(path), vectors[0])


def test_a_damaged_name_in_an_npz_file(tmp_path, random_vectors):
    path = tmp_path / "v.npz"
    with npz_file(path, 24, FACTS) as file:
        for number, vector in enumerate(random_vectors(9)):
            file.add(f"picture{number}", vector)
    whole = bytearray(path.read_bytes())
    whole[whole.index("picture7".encode("utf-32-le"))] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ArgumentError, match="checksum of its ids"):
        open_vectors(path)


def test_vectors_that_are_not_finite_or_zero(stored, random_vectors):
    for bad in (np.nan, np.inf, 0):
        vectors = random_vectors(20)
        vectors[13] = bad
        with pytest.raises(ArgumentError, match="not finite, or zero"):
            nearest(open_vectors(stored(vectors)), vectors[0])
        with pytest.raises(ArgumentError, match="not finite, or zero"):
            near_duplicates(open_vectors(stored(vectors)))


def test_an_npz_file_of_numpys_own_is_read_by_its_own_checksums(tmp_path, random_vectors):
    vectors = random_vectors(20)
    names = np.array([f"é{i}.jpg" for i in range(20)])
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "v.npz", ids=names, embeddings=vectors)
        [hits] = nearest(open_vectors(tmp_path / "v.npz"), vectors[7], top=1)
        assert (hits[0].name, open_vectors(tmp_path / "v.npz").facts) == ("é7.jpg", {})
    np.savez(tmp_path / "v.npz", ids=names, embeddings=vectors)
    whole = bytearray((tmp_path / "v.npz").read_bytes())
    whole[whole.index(vectors[9].tobytes())] ^= 1
    (tmp_path / "v.npz").write_bytes(whole)
    with pytest.raises(ArgumentError, match="damaged"):
        open_vectors(tmp_path / "v.npz")


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.ones(3)},
        {"ids": np.array(["a"]), "embeddings": np.ones((2, 3), np.float32)},
        {"ids": np.array(["a"]), "embeddings": np.ones((1, 3))},
        {"ids": np.array(["a"]), "embeddings": np.ones(1, np.float32)},
        {"ids": np.array([{}], object), "embeddings": np.ones((1, 3), np.float32)},
        {"facts": np.array("{}"), "ids": np.array(["a"]), "embeddings": np.ones((1, 3), "f4")},
        {"facts": np.array("[]"), "ids": np.array(["a"]), "embeddings": np.ones((1, 3), "f4")},
        {"facts": np.array('{"checksums": {}}'), "ids": np.array(["a"]), "embeddings": np.ones(3)},
        {
            "facts": np.array('{"checksums": {"ids": 97}}'),
            "ids": np.array(["a"]),
            "embeddings": np.ones((1, 3), "f4"),
        },
    ],
)
def test_other_npz_files(tmp_path, arrays):
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(ArgumentError, match="damaged"):
        list(open_vectors(tmp_path / "v.npz").pieces())


def test_other_files(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    with pytest.raises(ArgumentError, match="no file or folder"):
        open_vectors(tmp_path / "none.npz")
    (tmp_path / "x.jsonl").write_text("{}")
    with pytest.raises(ArgumentError, match="no file of vectors"):
        open_vectors(tmp_path / "x.jsonl")
    with pytest.raises(ArgumentError, match="no shards"):
        open_vectors(tmp_path)
    arrow.parquet.write_table(arrow.table({"id": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(ArgumentError, match="no column 'embedding'"):
        open_vectors(tmp_path / "x.parquet")
    (tmp_path / "part-00000-of-00002.parquet").write_bytes(b"")
    with pytest.raises(ArgumentError, match="1 of 2 shards"):
        open_vectors(tmp_path)


def test_shards_of_one_model_and_rows_without_a_vector(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    kind = arrow.list_(arrow.float32(), 2)

    def write(number, rows, fingerprint="a"):
        facts = {"fingerprint": fingerprint}
        schema = arrow.schema([("path", arrow.string()), ("embedding", kind)], metadata=facts)
        names, vectors = zip(*rows, strict=True)
        table = arrow.table([list(names), arrow.array(vectors, kind)], schema=schema)
        arrow.parquet.write_table(table, tmp_path / f"part-0000{number}-of-00002.parquet")

    write(0, [("a", [1, 0]), ("bad", None)])
    write(1, [("bad", None), ("b", [0, 1])])
    [hits] = nearest(open_vectors(tmp_path), np.array([0.1, 1]))
    assert [hit.name for hit in hits] == ["b", "a"]
    write(1, [("b", [0, 1])], "another")
    with pytest.raises(ArgumentError, match="of different models"):
        open_vectors(tmp_path)
