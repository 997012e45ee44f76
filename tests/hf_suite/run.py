"""Runs transformers' own tests against convnext.hf, and says where they pass with its classes only.

    python tests/hf_suite/run.py [pytest's arguments]

The tests are in transformers' source archive, which pip fetches once into .venv. They run twice,
with transformers' classes and with ours; a test that passes with theirs passes with ours or stands
in `differences.txt`. A line there that is no longer true fails as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

SUITE = Path(__file__).resolve().parent
ROOT = SUITE.parent.parent
DIFFERENCES = SUITE / "differences.txt"
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def fetched() -> Path:
    """The folder that holds transformers' `tests` and what they import besides.

    Raises:
        OSError: pip cannot have the archive, or there are no tests in it.
    """
    release = version("transformers")
    folder = ROOT / ".venv" / f"transformers-tests-{release}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as draft:
        there = Path(draft, "there")
        source = ("download", "--no-deps", "--no-binary", ":all:", "--dest", draft)
        subprocess.run((*PIP, *source, f"transformers=={release}"), check=True)
        subprocess.run(
            (*PIP, "install", "--target", str(there), "parameterized==0.9.0"), check=True
        )
        with tarfile.open(next(Path(draft).glob("transformers-*.tar.gz"))) as archive:
            for member in archive.getmembers():
                member.name = member.name.partition("/")[2]
                if member.name.startswith("tests/test_"):
                    archive.extract(member, there, filter="data")
        if not (there / "tests" / "test_modeling_common.py").is_file():
            raise FileNotFoundError(f"the source archive of transformers {release} has no tests")
        (there / "tests" / "__init__.py").touch()
        there.rename(folder)
    return folder


def outcomes(source: Path, door: str, arguments: list[str]) -> dict[str, str]:
    """What became of each test with the classes of this module: passed, failed or skipped."""
    with TemporaryDirectory() as folder:
        report = Path(folder, "outcomes.json")
        command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(SUITE)]
        command += ["--confcutdir", str(SUITE), "-p", "no:randomly", "-p", "no:cacheprovider"]
        command += ["-p", "swap", "-q", "--tb=short", "--disable-warnings"]
        environment = os.environ | {
            "DOOR": door,
            "HF_HUB_OFFLINE": "1",
            "KERAS_BACKEND": "torch",
            "OUTCOMES": str(report),
            "PYTHONPATH": os.pathsep.join(
                (str(SUITE), str(ROOT / "benchmarks"), str(ROOT / "src"), str(source))
            ),
        }
        tests = [str(SUITE / "models.py"), str(SUITE / "processor.py")]
        subprocess.run([*command, *tests, *arguments], cwd=folder, env=environment, check=False)
        return json.loads(report.read_text()) if report.is_file() else {}


def differences(text: str) -> dict[str, str]:
    """The tests that pass with transformers' classes only, and why that is right."""
    lines = [line.partition(" | ") for line in text.splitlines() if line and line[0] != "#"]
    return {test.strip(): why.strip() for test, _, why in lines}


def deviations(theirs: dict[str, str], ours: dict[str, str], known: dict[str, str]) -> list[str]:
    """What the list says otherwise than the two runs, one line each; none if all is as it says."""
    passing = [test for test, outcome in theirs.items() if outcome == "passed"]
    lines = []
    for test in passing:
        outcome = ours.get(test, "not run")
        if outcome != "passed" and test not in known:
            lines.append(f"{test}: passes with transformers' classes, and {outcome} with ours")
        if outcome == "passed" and test in known:
            lines.append(f"{test}: passes, and stands in {DIFFERENCES.name}")
    lines += [
        f"{test}: stands in {DIFFERENCES.name} without a reason"
        for test in known
        if not known[test]
    ]
    lines += [
        f"{test}: stands in {DIFFERENCES.name}, and does not pass with transformers' classes"
        for test in known
        if test not in passing
    ]
    return lines


def main() -> int:
    try:
        source = fetched()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"SKIPPED: transformers' tests cannot be had: {error}")
        return 0
    arguments = sys.argv[1:]
    theirs, ours = (outcomes(source, door, arguments) for door in ("transformers", "convnext.hf"))
    if not theirs:
        print("transformers' tests do not run; see above")
        return 1
    lines = deviations(theirs, ours, differences(DIFFERENCES.read_text("utf-8")))
    passed = sum(outcome == "passed" for outcome in ours.values())
    print("\n".join([*lines, f"{passed} tests pass with our classes; {len(lines)} deviations."]))
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
