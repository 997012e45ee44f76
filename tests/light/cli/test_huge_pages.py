"""Training processes that start again with other memory settings."""

import os
import subprocess
import sys

import pytest

from convnext.cli import huge_pages
from convnext.cli.huge_pages import PAGES, TUNABLES, restart_in_huge_pages, worthwhile
from convnext.cli.main import main


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """A system with huge pages on request."""

    def of(text="always [madvise] never", libc=("glibc", "2.36")):
        monkeypatch.setattr(huge_pages.platform, "libc_ver", lambda: libc)
        (tmp_path / PAGES).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / PAGES).write_text(f"{text}\n")
        return tmp_path

    return of


@pytest.fixture
def restarts(monkeypatch):
    """What is started instead of this process."""
    found = []
    monkeypatch.setattr(os, "execve", lambda *args: found.append(args))
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    return found


def test_huge_pages_are_for_systems_that_have_them_on_request(linux):
    assert worthwhile({}, linux())
    assert worthwhile({}, linux(libc=("glibc", "2.35.1")))
    assert not worthwhile({}, linux("[always] madvise never"))
    assert not worthwhile({}, linux("always madvise [never]"))
    assert not worthwhile({}, linux(libc=("glibc", "2.34")))
    assert not worthwhile({}, linux(libc=("", "")))  # musl, macOS, Windows
    assert not worthwhile({}, linux() / "without")


@pytest.mark.parametrize("own", ["", "glibc.malloc.arena_max=1"])
def test_own_settings_are_left_as_they_are(own, linux):
    assert not worthwhile({"GLIBC_TUNABLES": own}, linux())


def test_a_process_starts_again_once(restarts, monkeypatch):
    monkeypatch.setattr(huge_pages, "worthwhile", lambda _: True)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-I", "-m", "convnext", "train", "x"])
    restart_in_huge_pages()
    [(program, words, environ)] = restarts
    assert (program, words) == (sys.executable, [sys.executable, *sys.orig_argv[1:]])
    assert environ["GLIBC_TUNABLES"] == TUNABLES
    assert "GLIBC_TUNABLES" not in os.environ
    monkeypatch.setenv("GLIBC_TUNABLES", TUNABLES)
    restart_in_huge_pages()
    assert len(restarts) == 1
    assert "GLIBC_TUNABLES" not in os.environ


@pytest.mark.parametrize("executable", ["", "none"])
def test_a_process_that_cannot_start_again_goes_on(executable, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(huge_pages, "worthwhile", lambda _: True)
    monkeypatch.setattr(sys, "executable", executable)
    restart_in_huge_pages()
    assert "GLIBC_TUNABLES" not in os.environ


def test_only_runs_of_the_command_itself_start_again(restarts, monkeypatch, tmp_path):
    monkeypatch.setattr(huge_pages, "worthwhile", lambda _: True)
    words = ["train", "cifar10", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert not restarts
    monkeypatch.setattr(sys, "argv", ["convnext", "train", "list"])
    assert main() == 0
    assert not restarts
    monkeypatch.setattr(sys, "argv", ["convnext", *words])
    main()
    assert len(restarts) == 1


def test_a_command_that_starts_again_ends_as_it_would(tmp_path):
    words = ["train", "cifar10", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "run")]
    environ = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-m", "convnext", *words],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "none" in done.stderr
    assert "Traceback" not in done.stderr
