"""How often the demo is right where it is sure, and where it is not.

The demo's own four looks at each of CIFAR-10's 10,000 test pictures, and the first of them alone.

    python benchmarks/demo_doubt.py cifar10/test.zip     # two minutes on two cores
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from runpy import run_path
from zipfile import ZipFile

from tqdm import tqdm

from convnext import Classifier

DEMO = Path(__file__).parents[1] / "examples" / "demo.py"
LIMITS = (0.5, 0.6, 0.7, 0.8, 0.9)

Answer = tuple[float, bool]  # the first class's probability, and whether it is right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a zip of pictures in a folder for each class")
    data = parser.parse_args().data
    mean_probabilities = run_path(str(DEMO))["mean_probabilities"]
    classifier = Classifier("bundled")
    one: list[Answer] = []
    four: list[Answer] = []
    with ZipFile(data) as archive:
        pictures = [entry for entry in archive.namelist() if not entry.endswith("/")]
        for name in tqdm(pictures, unit="pictures"):
            right = PurePosixPath(name).parent.name
            with archive.open(name) as file:
                label, mean = mean_probabilities(classifier, file)[0]
            four.append((mean, label == right))
            [first] = classifier(archive.read(name), top=1).classes
            one.append((first.probability, first.label == right))
    for title, answers in (("one look", one), ("four looks", four)):
        print(f"{title}: {share(right for _, right in answers)} right")
        for limit in LIMITS:
            sure = [right for probability, right in answers if probability > limit]
            unsure = [right for probability, right in answers if probability <= limit]
            print(
                f"  above {limit}: {len(sure) / len(answers):.1%} of them,"
                f" {share(sure)} right; below {share(unsure)}"
            )
    return 0


def share(answers: Iterable[bool]) -> str:
    listed = list(answers)
    return f"{sum(listed) / len(listed):.1%}" if listed else "none"


if __name__ == "__main__":
    sys.exit(main())
