"""Results of races as one Markdown table, to be pasted into a document."""

from __future__ import annotations

from collections.abc import Sequence

from convnext.bench.contenders import PEERS
from convnext.bench.results import Row

__all__ = ["markdown_table"]


def markdown_table(rows: Sequence[Row]) -> str:
    """Format results: a line for each contender and precision, two columns for each race.

    The columns have the median time in ms, and the ratio to the race's first contender with its
    95 % interval. The lines below are the races' rounds, the machine, versions and date. Contenders
    that failed have no times; those that failed in every race are left out.
    """
    good = {_race(row) + _who(row): row for row in rows if not row.error}
    races = dict.fromkeys(_race(row) for row in good.values())
    titles = [
        f"{model}, {side} px, batch {batch}".replace("|", r"\|") for model, side, batch in races
    ]
    lines = [
        f"| | {' | '.join(f'{title}: ms | ratio' for title in titles)} |",
        "| --- |" + " --- | --- |" * len(races),
    ]
    for contender, precision in dict.fromkeys(_who(row) for row in good.values()):
        name = contender if contender in PEERS else f"**convnext, {contender}**"
        cells = [_cells(good.get((*race, contender, precision))) for race in races]
        lines.append(f"| {name}, {precision} | {' | '.join(cells)} |")
    about = dict.fromkeys(
        f"{row.processor} ({row.flags}), {row.threads} threads, {row.date}, {row.versions}."
        for row in good.values()
    )
    rounds = ", ".join(
        str(max(row.rounds for row in good.values() if _race(row) == race)) for race in races
    )
    return "\n".join([*lines, "", f"Rounds: {rounds}.", *about, ""])


def _race(row: Row) -> tuple[str, int, int]:
    return row.model, row.side, row.batch


def _who(row: Row) -> tuple[str, str]:
    return row.contender, row.precision


def _cells(row: Row | None) -> str:
    if row is None or row.median_ms is None:
        return "- | -"
    ratio = row.relative
    if ratio is None:
        return f"{row.median_ms:.1f} | 1"
    doubt = "" if ratio.verdict.endswith(" 1") else f", {ratio.verdict}"
    ends = "" if ratio.low is None else f" [{ratio.low:.2f}, {ratio.high:.2f}]"
    return f"{row.median_ms:.1f} | {ratio.value:.2f}{ends}{doubt}"
