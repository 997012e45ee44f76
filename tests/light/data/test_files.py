"""Files are written atomically. See also `test_running.py`."""

from __future__ import annotations

import pytest

from convnext.data import files
from convnext.data.files import Folder

fs = pytest.importorskip("pyarrow.fs")


class Store:
    """A fake object store, where a file appears when its stream is closed.

    After the first chunk of a file, the connection breaks or the process is interrupted.
    """

    def __init__(self, root, error):
        self._files = fs.SubTreeFileSystem(str(root), fs.LocalFileSystem())
        self._error = error

    def open_output_stream(self, path):
        return _Breaking(self._files.open_output_stream(path), self._error)

    def delete_file(self, path):
        self._files.delete_file(path)


class _Breaking:
    def __init__(self, stream, error):
        self._stream, self._error = stream, error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()

    def write(self, data):
        self._stream.write(data[:10])
        raise self._error


@pytest.mark.parametrize("scheme", ["s3", "hdfs"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken")], ids=repr)
def test_a_put_into_a_store_that_breaks_off_leaves_nothing(tmp_path, monkeypatch, scheme, error):
    monkeypatch.setattr(files, "_system", lambda _: (Store(tmp_path, error), "x.parquet"))
    with pytest.raises(type(error)):
        Folder(f"{scheme}://bucket").put("x.parquet", lambda stream: stream.write(bytes(100)))
    assert list(tmp_path.iterdir()) == []
