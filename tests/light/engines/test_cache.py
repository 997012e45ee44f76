import logging
import os
from pathlib import Path

import pytest

from convnext.engines import cache
from convnext.engines.cache import GraphCache, graphs_folder


class Compiler:
    """Counts what it was asked for; a compiled graph is a string."""

    def __init__(self):
        self.compiled = 0

    def ask(self, folder, key="key"):
        return GraphCache(folder).compiled(key, self.compile, str.encode, self.read)

    def compile(self):
        self.compiled += 1
        return f"graph {self.compiled}"

    def read(self, content):
        if content == b"unreadable":
            raise RuntimeError("written by another version")
        return content.decode()


@pytest.fixture
def compiler():
    return Compiler()


def test_a_graph_is_compiled_once(tmp_path, compiler):
    folder = tmp_path / "not" / "there yet"
    assert [compiler.ask(folder) for _ in range(3)] == ["graph 1"] * 3
    assert compiler.ask(folder, "other") == "graph 2"
    assert compiler.ask(folder) == "graph 1"


@pytest.mark.parametrize("damage", [b"", b"abc", None])
def test_a_damaged_file_is_compiled_anew_with_a_warning(tmp_path, compiler, caplog, damage):
    compiler.ask(tmp_path)
    [file] = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content if damage is None else damage)
    with caplog.at_level(logging.WARNING, "convnext"):
        assert compiler.ask(tmp_path) == "graph 2"
    assert "is damaged (its checksum is wrong); compiling it anew" in caplog.text
    assert compiler.ask(tmp_path) == "graph 2"


def test_a_graph_that_the_runtime_refuses_is_compiled_anew(tmp_path, compiler, caplog):
    GraphCache(tmp_path).compiled("key", str, lambda _: b"unreadable", bytes.decode)
    assert compiler.ask(tmp_path) == "graph 1"
    assert "written by another version" in caplog.text


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path, compiler, caplog):
    folder = tmp_path / "file"
    folder.write_text("")
    assert compiler.ask(folder) == "graph 1"
    assert "could not be cached" in caplog.text


def test_the_longest_unused_go_first(tmp_path, compiler, monkeypatch):
    monkeypatch.setattr(cache, "MOST_BYTES", 2 * (len("graph 1") + cache.CHECKSUM))
    for age, key in enumerate(("b", "a")):
        compiler.ask(tmp_path, key)
        os.utime(tmp_path / f"{key}.graph", (age, age))
    assert compiler.ask(tmp_path, "b") == "graph 1"  # used again
    compiler.ask(tmp_path, "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.graph", "c.graph"]


def test_a_file_that_another_process_removes_meanwhile(tmp_path, compiler, monkeypatch, caplog):
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda *given: [*glob(*given), tmp_path / "gone.graph"])
    assert compiler.ask(tmp_path) == "graph 1"
    assert caplog.text == ""


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path))
    assert graphs_folder() == tmp_path / "graphs"
    monkeypatch.delenv("CONVNEXT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert graphs_folder() == tmp_path / "convnext" / "graphs"
