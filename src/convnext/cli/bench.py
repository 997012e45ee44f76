"""`convnext bench`: compare speed, memory and accuracy of engines and other libraries."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from convnext.cli.grammar import old_spelling
from convnext.cli.table import Column, output_width, render
from convnext.errors import ArgumentError, ConvNeXtError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convnext.bench.contenders import Contender
    from convnext.bench.machine import Machine
    from convnext.bench.material import Material, Model
    from convnext.bench.results import Row

__all__ = ["add_parser", "run"]

DEFAULT_VARIANTS = ("convnext_tiny", "convnextv2_atto")
GENERATED = 32

EXAMPLES = """\
examples:
  convnext bench                                   our engines, Tiny and V2 Atto, random weights
  convnext bench --model convnext_tiny --precisions float32,bfloat16 --batches 1,16
  convnext bench --model mine.safetensors --pictures photos/ --csv speed.csv --chart speed.png
  convnext bench --precisions bfloat16,float32,int8 --against timm --markdown speed.md
  convnext bench --model convnextv2_nano --random-weights --against timm,openvino-export
  convnext bench --model convnext_tiny --random-weights --against timm --width 0.01 --seconds 600
  convnext bench --model convnext_tiny --random-weights --against all --rounds 9 --threads 2

Each contender runs in its own process, and they take turns, so that a change of the machine's speed
affects all. All get the same weights and pictures: our engines as pixels, the peers normalised.
Times are of a call for a whole batch.

Rounds, a turn of each, go on until the 95 % interval of every ratio is narrow (--width 0.03: its
end is 3 % above its start) or time is up (--seconds). --rounds N alone: exactly N.

  RATIO     time relative to the first row, the median of the rounds' ratios
  95 %      interval that the ratio is in, by bootstrap over the rounds; from 5 rounds on
  VERDICT   faster or slower than the first row; no difference shown, if the interval holds 1
  PEAK MIB  peak memory of the process
  DIFF      mean and largest difference of the logits from our float32 engine's
  DB        the same as signal-to-noise ratio: +20 is ten times closer
  TOP-1     share of pictures with the same most probable class

Peers for --against; the name before a colon means all of them, and all means all installed:
{peers}

--csv keeps earlier results in FILE, except those measured again. A contender that fails, or cannot
run this model, does not stop the others: its row has the error. Exit code 1: in some race, every
contender failed.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "bench",
        help="compare the speed of engines and of other libraries",
        description="Compare the speed of our engines with each other and with other libraries.",
        epilog=EXAMPLES,
    )
    parser.add_argument("old_models", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument(
        "--model",
        nargs="+",
        metavar="MODEL",
        help="published checkpoints or weights files; architectures with --random-weights "
        f"(default: {' '.join(DEFAULT_VARIANTS)}, random)",
    )
    parser.add_argument(
        "--engines", type=_listed, default=(), metavar="A,B", help="default: all installed"
    )
    parser.add_argument(
        "--precisions", type=_listed, default=("auto",), metavar="A,B", help="default: auto"
    )
    parser.add_argument(
        "--batches", type=_numbers, default=(1, 16), metavar="N,N", help="default: 1,16"
    )
    parser.add_argument(
        "--against", type=_listed, default=(), metavar="A,B", help="peers; default: none"
    )
    parser.add_argument(
        "--rounds", type=int, help="turns of each, at most (default: see --width and --seconds)"
    )
    parser.add_argument(
        "--width", type=float, help="stop when intervals are as narrow (default: 0.03)"
    )
    parser.add_argument("--seconds", type=float, help="time for a race's rounds (default: 60)")
    parser.add_argument("--threads", type=int, help="default: all available processors")
    parser.add_argument("--size", type=int, help="side of the pictures (default: the weights')")
    parser.add_argument(
        "--pictures", metavar="DIR", help="a folder or archive (default: generated pictures)"
    )
    parser.add_argument(
        "--random-weights", action="store_true", help="MODEL are architectures, with random weights"
    )
    parser.add_argument("--csv", metavar="FILE", type=Path, help="add the results to FILE")
    parser.add_argument("--chart", metavar="FILE", type=Path, help="draw speed against agreement")
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="times and ratios as a table for a document"
    )
    parser.set_defaults(run=run)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in _listed(text))


def run(args: argparse.Namespace) -> int:
    """Run all races; 0 if a contender finished in each, else 1."""
    from convnext.bench.contenders import ALL, PEERS, choose
    from convnext.bench.machine import Machine

    _check(args)
    if args.old_models:
        listed = " ".join(args.old_models)
        old_spelling(f"convnext bench {listed}", f"convnext bench --model {listed}")
    names = [*(args.model or ()), *args.old_models]
    random = args.random_weights or not names
    names = names or [*DEFAULT_VARIANTS]
    _check_names(names, random)
    contenders = choose(args.engines, args.precisions, args.against)
    if not contenders:
        raise ArgumentError(
            "No engine is installed: pip install 'convnext[openvino]', or name peers with "
            "--against."
        )
    absent = [name for name, peer in PEERS.items() if peer.missing]
    if ALL in args.against and absent:
        print(f"Left out, not installed: {', '.join(absent)}.", file=sys.stderr)
    machine = Machine.this()
    print(f"{machine.processor} ({machine.flags})", file=sys.stderr)
    rows: list[Row] = []
    code = 0
    for name in names:
        for race_rows in _races(args, name, random, contenders, machine):
            print(_table(race_rows), flush=True)
            rows += race_rows
            _store(args, rows, race_rows)
            if all(row.error for row in race_rows):
                code = 1
    return code


def _check(args: argparse.Namespace) -> None:
    """Check numbers and output files before any work is done."""
    from convnext.bench.results import check_csv

    if not args.batches or min(args.batches) < 1:
        raise ArgumentError("--batches must be numbers of 1 or more, such as 1,16.")
    for name in ("rounds", "threads", "size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ArgumentError(f"--{name} must be 1 or more; got {value}.")
    for name in ("width", "seconds"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise ArgumentError(f"--{name} must be above 0; got {value}.")
    if args.csv:
        check_csv(args.csv)
    for path in (args.chart, args.markdown):
        if path:
            from convnext.cli.pictures import check_target

            check_target(path, overwrite=True)


def _check_names(names: Sequence[str], random: bool) -> None:
    from convnext.architecture import VARIANTS
    from convnext.weights.bundled import BUNDLED
    from convnext.weights.catalog import get_checkpoint

    for name in names:
        if random and name not in VARIANTS:
            raise UnknownNameError("variant", name, VARIANTS)
        if random or name == BUNDLED or Path(name).exists():
            continue
        try:
            get_checkpoint(name)
        except ConvNeXtError as error:
            hint = " For its architecture, give --random-weights." if name in VARIANTS else ""
            raise ArgumentError(
                f"{name!r} is neither a file nor a published checkpoint.{hint} {error}"
            ) from error


def _races(
    args: argparse.Namespace,
    name: str,
    random: bool,
    contenders: Sequence[Contender],
    machine: Machine,
) -> Iterator[list[Row]]:
    from convnext.bench.race import race
    from convnext.bench.results import rows_of
    from convnext.bench.rounds import Until
    from convnext.processors import available_processors

    with _material(args, name, random, contenders) as material:
        reference = _reference(material)
        for batch in args.batches:
            steps = len(contenders) * (args.rounds + 2) if args.rounds else None
            with _progress(steps, f"{material.model.name}, batch {batch}") as on_step:
                results = race(
                    material,
                    contenders,
                    batch,
                    Until.first_of(args.rounds, args.width, args.seconds),
                    threads=args.threads,
                    on_step=on_step,
                )
            threads = args.threads or available_processors()
            yield rows_of(material.model, results, reference, threads, machine)


@contextmanager
def _material(
    args: argparse.Namespace, name: str, random: bool, contenders: Sequence[Contender]
) -> Iterator[Material]:
    from convnext.bench.material import write_calibration, write_material, write_weights

    layouts = [contender.peer.layout for contender in contenders if contender.peer]
    with TemporaryDirectory(prefix="convnext-bench-") as folder:
        model = write_weights(name, Path(folder), random=random, size=args.size)
        pictures = _pictures(args.pictures, model)
        rounded = any(contender.precision == "int8" for contender in contenders)
        held_back = pictures[1::2] if rounded and len(pictures) > 1 else pictures
        material = write_material(Path(folder), model, held_back, layouts)
        if rounded:
            print(f"Calibrating int8 with {len(pictures[::2])} of the pictures.", file=sys.stderr)
            write_calibration(material, pictures[::2])
        yield material


def _pictures(folder: str | None, model: Model) -> NDArray[np.uint8]:
    from convnext.bench.pictures import pictures_from
    from convnext.images.generated import generated_pictures

    if folder is None:
        about = f"{GENERATED} generated pictures (--pictures DIR for your own)"
        pictures = generated_pictures(GENERATED, model.preprocess.size)
    else:
        pictures, about = pictures_from(folder, model.preprocess)
    print(f"{model.name}, {about}.", file=sys.stderr)
    return pictures


def _reference(material: Material) -> NDArray[np.float32] | None:
    from convnext.bench.race import logits_of

    try:
        return logits_of(material)
    except ConvNeXtError as error:
        print(f"convnext: agreement is not measured. {error}", file=sys.stderr)
        return None


@contextmanager
def _progress(steps: int | None, title: str) -> Iterator[Callable[[str], object]]:
    from tqdm import tqdm

    with tqdm(total=steps, desc=title, disable=None, leave=False) as bar:

        def on_step(what: str) -> None:
            bar.set_postfix_str(what, refresh=True)
            bar.update()

        yield on_step


def _store(args: argparse.Namespace, rows: Sequence[Row], new: Sequence[Row]) -> None:
    """Write the results after each race, so that an interruption loses one race at most."""
    if args.csv:
        from convnext.bench.results import write_csv

        write_csv(args.csv, new)
    if args.chart:
        from convnext.bench.chart import draw_chart

        draw_chart(rows, args.chart)
    if args.markdown:
        from convnext.atomic import disk_errors
        from convnext.bench.markdown import markdown_table

        with disk_errors(args.markdown):
            args.markdown.write_text(markdown_table(rows), encoding="utf-8")


def _table(rows: Sequence[Row]) -> str:
    first = rows[0]
    lines = [f"\n{first.model}, {first.side} px, batch {first.batch}, {first.threads} threads"]
    good = [row for row in rows if not row.error]
    if good:
        lines.append(render(_columns(good), output_width()))
    lines += [f"{row.contender} {row.precision}: {row.error}" for row in rows if row.error]
    return "\n".join(lines)


def _columns(rows: Sequence[Row]) -> list[Column]:
    def numbers(title: str, name: str, form: str, rank: int = 0) -> Column:
        values = [getattr(row, name) for row in rows]
        cells = ["-" if value is None else format(value, form) for value in values]
        return Column(title, cells, numeric=True, rank=rank)

    return [
        Column("CONTENDER", [row.contender for row in rows]),
        Column("PRECISION", [row.precision for row in rows]),
        numbers("MEDIAN MS", "median_ms", ".1f"),
        numbers("MIN MS", "min_ms", ".1f", 3),
        numbers("RATIO", "ratio", ".2f"),
        Column("95 %", [_interval(row) for row in rows], numeric=True),
        numbers("ROUNDS", "rounds", "d", 3),
        Column("VERDICT", [_verdict(row) for row in rows]),
        numbers("PICTURES/S", "pictures_per_s", ".1f", 4),
        numbers("FIRST CALL S", "first_call_s", ".2f", 7),
        numbers("PEAK MIB", "peak_mib", ".0f", 1),
        numbers("MEAN DIFF", "mean_difference", ".1e", 6),
        numbers("MAX DIFF", "max_difference", ".1e", 5),
        numbers("DB", "decibels", ".0f", 2),
        numbers("TOP-1", "top1_agreement", ".1%", 2),
    ]


def _interval(row: Row) -> str:
    if row.ratio_low is None or row.ratio_high is None:
        return "-"
    return f"{row.ratio_low:.3f}-{row.ratio_high:.3f}"


def _verdict(row: Row) -> str:
    if row.relative is None:
        return "-"
    verdict = row.relative.verdict
    return {"above 1": "slower", "below 1": "faster"}.get(verdict, verdict)
