"""Times a whole command: from the shell's prompt to the answer for one picture, and to the help.

Everything is on this machine and in the page cache. The same random weights and the same picture go
to `convnext predict` and to a script that asks transformers' pipeline; commands take turns
(A B C A B C ...).

    python benchmarks/first_answer.py
    python benchmarks/first_answer.py convnextv2_atto --rounds 3

Results go to benchmarks/results/first_answer.csv, with the machine and the versions in each row.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from photographs import write_photographs
from pictures import write_model
from records import THREADS, save, where
from turns import Until, add_limits, limits, ratio_of, take_turns

RESULTS = Path(__file__).parent / "results" / "first_answer.csv"
MODELS = ("convnext_tiny",)

TRANSFORMERS = f"""\
import sys
try:
    import torchvision
except RuntimeError:
    sys.path.append({str(Path(__file__).parent)!r})
    import importable_torchvision
from transformers import pipeline
for answer in pipeline("image-classification", model=sys.argv[1])(sys.argv[2]):
    print(answer["score"], answer["label"])
"""


def run(name: str, until: Until) -> list[dict[str, object]]:
    with TemporaryDirectory(prefix="convnext-answer-") as text:
        folder = Path(text)
        write_model(name, folder)
        (folder / "photo").mkdir()
        write_photographs(folder / "photo", 1)
        picture = str(folder / "photo" / "0000.jpg")
        convnext = str(Path(sys.executable).parent / "convnext")
        weights = str(folder / "convnext.safetensors")
        commands = {
            "convnext predict": [convnext, "predict", picture, "--model", weights],
            "transformers": [
                *(sys.executable, "-c", TRANSFORMERS, str(folder / "huggingface"), picture),
            ],
            "convnext --help": [convnext, "--help"],
        }
        for arguments in commands.values():
            timed(arguments)  # brings files into the page cache
        turns = [lambda _, own=own: timed(own) for own in commands.values()]
        seconds = dict(zip(commands, take_turns(turns, until, base=1), strict=True))
    return [
        {
            "model": name,
            "command": command,
            "median_s": round(statistics.median(own), 3),
            "min_s": round(min(own), 3),
            **ratio_of(own, seconds["transformers"]).columns("over_transformers"),
            **where(),
        }
        for command, own in seconds.items()
    ]


def timed(arguments: list[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(
        arguments,
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"},
    )
    seconds = time.perf_counter() - start
    assert done.stdout
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, help="variants")
    add_limits(parser)
    args = parser.parse_args()
    for name in args.models:
        rows = run(name, limits(args))
        for row in rows:
            print(
                f"{row['model']:16} {row['command']:18} {row['median_s']:>7} s  "
                f"{row['over_transformers']} [{row['over_transformers_low']}, "
                f"{row['over_transformers_high']}] of transformers', {row['rounds']} rounds"
            )
        save(RESULTS, rows, ("model", "command"))


if __name__ == "__main__":
    main()
