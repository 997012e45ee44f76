"""Are the wheel and the sdist in dist/ whole? `make dist` asks, after it has built both.

Every file below src must be in both, and the wheel must hold nothing else. Then the wheel is
installed into an environment of its own, which sees the dependencies of this one but not its
convnext, and asked for things that its data files answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
BUNDLED = "convnext/weights/bundled.safetensors"  # if this is not found, nothing was looked at
COMMANDS = (
    ("list", "convnextv2_atto*"),
    ("train", "list"),
    ("predict", str(ROOT / "examples" / "photos" / "chelsea.png"), "--model", "bundled"),
)


def main() -> None:
    [wheel], [sdist] = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    check_files(wheel, sdist)
    with tempfile.TemporaryDirectory() as folder:
        check_installed(wheel, Path(folder))


def check_files(wheel: Path, sdist: Path) -> None:
    """Hold what is in the archives against what is in src."""
    files = (path for path in (ROOT / "src").rglob("*") if path.is_file())
    source = {path.relative_to(ROOT / "src").as_posix() for path in files}
    source = {name for name in source if "__pycache__" not in name}
    in_wheel = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/src/")[2] for name in archive.getnames()} - {""}
    problems = [
        *(f"{name} is not in the wheel" for name in sorted(source - in_wheel)),
        *(f"{name} is in the wheel and not in src" for name in sorted(in_wheel - source)),
        *(f"{name} is not in the sdist" for name in sorted(source - in_sdist)),
    ]
    if problems or BUNDLED not in source:
        sys.exit("\n".join(problems) or f"src/{BUNDLED} is not there")
    data = [name for name in source if not name.endswith(".py")]
    print(f"{wheel.name}, {sdist.name}: {len(source)} files of src, {len(data)} of them data.")


def check_installed(wheel: Path, folder: Path) -> None:
    """Install the wheel apart from the sources, and use it."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--quiet", "--python", str(python))
    run(*pip, "install", "--no-deps", "--no-index", str(wheel))
    own = sysconfig.get_path("purelib", vars={"base": str(folder)})
    others = [path for path in sys.path if path.endswith("site-packages")]
    Path(own, "dependencies.pth").write_text("\n".join(others) + "\n")
    where = run(str(python), "-c", "import convnext; print(convnext.__file__)")
    if not where.startswith(str(folder)):
        sys.exit(f"the installed convnext is that of {where}")
    for command in COMMANDS:
        run(str(python), "-m", "convnext", *command)
    print(f"Installed apart, it answers to {', '.join(command[0] for command in COMMANDS)}.")


def run(*command: str) -> str:
    """What a command prints; where it fails, so do we."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=clean, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
