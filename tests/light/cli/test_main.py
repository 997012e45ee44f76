"""The main command: errors, exit codes, signals, and start-up time."""

import argparse
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convnext import __version__
from convnext.cli import info, list_models, main
from convnext.errors import ArgumentError

SCRIPT = "import sys; from convnext.cli.main import main; sys.exit(main())"
COMMANDS = next(
    action.choices
    for action in main.build_parser()._actions
    if isinstance(action, argparse._SubParsersAction)
)
FOREIGN = {  # of torchrun, tar, git, curl and XLA
    *("--nproc-per-node", "--dereference", "--hard-dereference", "--porcelain", "--data-binary"),
    "--xla_force_host_platform_device_count",
}
HEAVY = ("keras", "torch", "tensorflow", "jax")


def convnext(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        text=True,
    )


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main.main(["--version"])
    assert capsys.readouterr().out == f"convnext {__version__}\n"


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_teaches_by_examples(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main.main([*command, "--help"])
    out = capsys.readouterr().out
    assert "examples:\n  convnext " in out
    assert max(map(len, out.splitlines())) <= 100


def test_every_example_of_list_and_info_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path))
    text = main.EXAMPLES + list_models.EXAMPLES + info.EXAMPLES
    examples = [
        line
        for line in text.splitlines()
        if line.startswith(("  convnext list", "  convnext info"))  # the others need files
    ]
    assert len(examples) > 10
    for example in examples:
        command, *_remark = example.strip().split("  ", maxsplit=1)
        arguments = shlex.split(command)[1:]
        nothing_found = "--cached" in arguments
        assert main.main(arguments) == int(nothing_found), example
    assert capsys.readouterr().err == ""


def test_a_missing_command_is_an_error_with_the_usage(capsys):
    with pytest.raises(SystemExit, match="2"):
        main.main([])
    assert "usage: convnext" in capsys.readouterr().err


def test_an_error_is_one_line_without_traceback(capsys):
    assert main.main(["info", "convnext_tiny.fb_in2k"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("convnext: Unknown checkpoint: 'convnext_tiny.fb_in2k'. Did you mean ")
    assert err.count("\n") == 1


def test_debug_shows_the_traceback(capsys):
    assert main.main(["--debug", "info", "convnextv2_small"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert f"{ArgumentError.__name__}: No weights were ever published" in err


def test_a_mistake_of_ours_is_not_hidden(monkeypatch):
    def broken(_):
        raise RuntimeError("ours")

    monkeypatch.setattr(info, "run", broken)
    with pytest.raises(RuntimeError, match="ours"):
        main.main(["info", "convnext_tiny"])


def test_an_error_of_the_system_is_one_line(monkeypatch, capsys):
    def denied(_):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(info, "run", denied)
    assert main.main(["info", "convnext_tiny"]) == 2
    assert capsys.readouterr().err == "convnext: [Errno 13] Permission denied: 'x'\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"]])
def test_an_output_that_is_full_is_one_line(arguments):
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments], stdout=full, stderr=subprocess.PIPE
        )
    assert process.stderr == b"convnext: [Errno 28] No space left on device\n"
    assert process.returncode == 2


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def interrupted(_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(info, "run", interrupted)
    assert main.main(["info", "convnext_tiny"]) == 130
    assert capsys.readouterr().err == "convnext: interrupted\n"


@pytest.mark.parametrize("arguments", [["list", "--json"], ["list", "--size", "huge"]])
def test_a_reader_that_goes_away_is_no_error(arguments):
    """A closed pipe is noticed while printing, or when flushing at the end."""
    with convnext(*arguments) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (141, "")


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["info", "convnext_tiny"]])
def test_the_command_imports_no_framework(arguments):
    script = (
        "import atexit, sys; from convnext.cli.main import main\n"
        f"atexit.register(lambda: sys.stderr.write(repr(set(sys.modules) & set({HEAVY!r}))))\n"
        f"main({arguments!r})"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert process.stderr == "set()"
    assert process.stdout


def test_help_imports_nothing_slow():
    """Counting imported modules, unlike timing, does not depend on the machine's load."""
    script = f"import sys, {main.__name__}; print(*sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    slow = {"httpx", "huggingface_hub", "numpy", "PIL", "tqdm", "convnext.weights", *HEAVY}
    assert not slow & set(process.stdout.split())


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_there_in_a_moment():
    took = []
    for _ in range(3):
        before = processor_seconds()
        with convnext("--help") as process:
            assert process.stdout.read().startswith("usage: convnext")
        took.append(processor_seconds() - before)
    assert min(took) < 0.3


def test_help_groups_every_command(capsys):
    with pytest.raises(SystemExit):
        main.main(["--help"])
    out = capsys.readouterr().out
    lines = out.splitlines()
    for title in ("use:", "train:", "ship:", "inspect:"):
        assert title in lines
    for name in COMMANDS:
        assert sum(line.startswith(f"  {name} ") for line in lines) == 1


def test_a_mistyped_command_is_suggested(capsys):
    assert main.main(["--debug", "pedict", "cat.jpg"]) == 2
    assert "Unknown command: 'pedict'. Did you mean 'predict'?" in capsys.readouterr().err


def test_completion(capsys):
    pytest.importorskip("shtab")
    for shell in ("bash", "zsh", "tcsh"):
        assert main.main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert "hub-publish" in script
        assert "calibration" in script


def test_every_option_that_an_error_or_a_docstring_names_exists():
    known = {option for parser in COMMANDS.values() for option in parser._option_string_actions}
    known |= set(main.build_parser()._option_string_actions)
    root = Path(main.__file__).parents[1]
    for path in root.rglob("*.py"):
        if path.parent.name == "cli":
            text = path.read_text()
        else:
            text = "\n".join(re.findall(r'"[^"\n]* [^"\n]*"', path.read_text()))
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", text)) - FOREIGN
        assert named <= known, path
