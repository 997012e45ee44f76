"""A run resumes from any truncated journal, losing no complete batch."""

import json
import multiprocessing

import pytest

from convnext.errors import ArgumentError, ConvNeXtError
from convnext.evaluate.accuracy import Judgement
from convnext.evaluate.journal import EvaluationRecord, open_journal

RUN = {"weights": "abc", "batch": 2, "preprocess": {"mean": (0.1, 0.2)}}
BATCHES = [
    [
        EvaluationRecord("a.png", 0, Judgement(0, 0, -0.1, 1 / 3)),
        EvaluationRecord("b.png", 1, None, "it is damaged"),
    ],
    [EvaluationRecord("ü\udc80\n.png", 2, Judgement(None, None, None, None))],
    [EvaluationRecord("d.png", 0, Judgement(5, 3, -1e-300, 0.1 + 0.2))],
]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "out" / "journal.jsonl"
    with open_journal(path, RUN) as journal:
        for seconds, batch in enumerate(BATCHES):
            journal.append(batch, seconds + 0.5)
    return path


def test_a_resumed_journal_has_the_written_records(path):
    with open_journal(path, RUN, "resume") as journal:
        assert journal.records == [record for batch in BATCHES for record in batch]
        assert journal.seconds == 4.5
        journal.append(BATCHES[0], 1.0)
    with open_journal(path, RUN, "resume") as journal:
        assert len(journal.records) == 6


def test_cut_anywhere_it_goes_on_behind_the_last_whole_batch(path):
    whole = path.read_bytes()
    ends = [end + 1 for end in range(len(whole)) if whole[end:].startswith(b"\n")]
    batch_ends = [ends[place] for place in (3, 5, 7)]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        with open_journal(path, RUN, "resume") as journal:
            batches = sum(end <= cut for end in batch_ends)
            assert journal.records == [r for batch in BATCHES[:batches] for r in batch]
            for seconds, batch in list(enumerate(BATCHES))[batches:]:
                journal.append(batch, seconds + 0.5)
        assert path.read_bytes() == whole


def test_rubbish_at_the_end_is_passed_over(path):
    whole = path.read_bytes()
    for rubbish in (b"\0\0\0\0", b"\0\n{\n", b"[1]\n", b'{"id": 3}\n', b"\xff\xfe\n"):
        path.write_bytes(whole + rubbish)
        with open_journal(path, RUN, "resume") as journal:
            assert len(journal.records) == 4
        assert path.read_bytes() == whole


def test_damage_in_the_middle_is_an_error_and_nothing_is_lost(path):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"oops\n"
    damaged = b"".join(lines)
    path.write_bytes(damaged)
    with pytest.raises(ArgumentError, match="damaged in line 3"), open_journal(path, RUN, "resume"):
        pass
    assert path.read_bytes() == damaged


def test_results_are_not_mixed_nor_overwritten(path):
    whole = path.read_bytes()
    with pytest.raises(ArgumentError, match="results of 4 pictures. Continue with --resume"):  # noqa: RUF043
        open_journal(path, RUN).__enter__()
    with pytest.raises(ArgumentError) as caught:
        open_journal(path, RUN | {"batch": 4, "limit": "x" * 200}, "resume").__enter__()
    assert "4 pictures of another run (batch: 2 there, 4 now; limit: null there, " in str(
        caught.value
    )
    assert path.read_bytes() == whole
    path.write_bytes(b'{"something": "else"}\n' + whole.split(b"\n", 1)[1])
    for mode in ("new", "resume"):
        with pytest.raises(ArgumentError, match="not a journal of this version"):
            open_journal(path, RUN, mode).__enter__()


def test_restart(path):
    with open_journal(path, RUN | {"batch": 9}, "restart") as journal:
        assert (journal.records, journal.seconds) == ([], 0.0)
    [head] = path.read_text().splitlines()
    assert json.loads(head)["run"]["batch"] == 9
    with open_journal(path, RUN) as journal:  # a head alone is no result
        assert journal.records == []


def fill(path):
    with open_journal(path, RUN) as journal:
        for _ in range(100):
            journal.append(BATCHES[0], 0.5)


def test_on_a_disk_that_is_full_whole_batches_are_kept(tmp_path, full_disk):
    path = tmp_path / "journal.jsonl"
    expected = r"journal\.jsonl cannot be written: .*--resume"
    with full_disk(), pytest.raises(ConvNeXtError, match=expected):
        fill(path)
    with open_journal(path, RUN, "resume") as journal:
        assert journal.records == BATCHES[0] * (len(journal.records) // 2)
        assert journal.records


def test_a_place_where_no_file_can_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConvNeXtError, match=r"cannot be written: .* give another --out"):
        open_journal(tmp_path / "file" / "journal.jsonl", RUN).__enter__()
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(ConvNeXtError, match="cannot be written: Is a directory"):
        open_journal(tmp_path / "journal.jsonl", RUN).__enter__()


def test_errors_of_an_evaluation_are_not_the_journals(tmp_path):
    with pytest.raises(BrokenPipeError), open_journal(tmp_path / "journal.jsonl", RUN):
        raise BrokenPipeError


def hold(path, held, release):
    with open_journal(path, RUN):
        held.set()
        release.wait(60)


def test_two_processes_do_not_write_one_journal(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    path = tmp_path / "journal.jsonl"
    process = context.Process(target=hold, args=(path, held, release))
    process.start()
    try:
        assert held.wait(60)
        with pytest.raises(ArgumentError, match="Another process is writing"):
            open_journal(path, RUN, "resume").__enter__()
    finally:
        release.set()
        process.join()
    with open_journal(path, RUN, "resume") as journal:
        assert journal.records == []
