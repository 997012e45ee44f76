from hypothesis import given
from hypothesis import strategies as st

from convnext.engines.pieces import PIECE, pieces


@given(st.integers(0, 70), st.booleans())
def test_every_picture_once_and_in_order(pictures, ones):
    parts = list(pieces(pictures, ones=ones))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(pictures))
    sizes = [part.stop - part.start for part in parts]
    assert all(size in (1, PIECE) if ones else 1 <= size <= PIECE for size in sizes)
    assert ones or sizes[:-1] == [PIECE] * (len(sizes) - 1)


@given(st.integers(0, 70), st.integers(1, 8))
def test_every_stream_gets_as_many_pieces(pictures, streams):
    sizes = [part.stop - part.start for part in pieces(pictures, ones=True, streams=streams)]
    assert sum(sizes) == pictures
    assert sizes.count(PIECE) % streams == 0
    assert sizes.count(1) < PIECE * streams
