"""The batcher, with an event loop for each test."""

import asyncio
import threading
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convnext.serve.batching import Batcher, DeadlinePassedError, QueueFullError, StoppedError

LATER = 20.0


def double(_kind, batch):
    return {"out": batch * 2}


def later(seconds=LATER):
    return time.monotonic() + seconds


@asynccontextmanager
async def batcher(run=double, max_batch=4, max_wait=0.0, max_queue=16, **options):
    made = Batcher(run, max_batch=max_batch, max_wait=max_wait, max_queue=max_queue, **options)
    try:
        yield made
    finally:
        await made.close()


async def ask(made, *numbers, deadline=None):
    deadline = deadline or later()
    with made.admit(len(numbers), deadline):
        answers = await made.answers("any", [np.array([n]) for n in numbers], deadline)
    return [int(answer["out"][0]) for answer in answers]


class Gate:
    """A function on batches that blocks until released."""

    def __init__(self):
        self.open = threading.Event()
        self.sizes = []

    def __call__(self, _kind, batch):
        self.sizes.append(len(batch))
        assert self.open.wait(LATER)
        return double("any", batch)


def test_answers_come_in_the_order_of_the_rows():
    async def main():
        async with batcher() as made:
            assert await ask(made, 3, 1, 2) == [6, 2, 4]

    asyncio.run(main())


@given(st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=6), max_size=8))
def test_every_caller_gets_its_own(calls):
    async def main():
        async with batcher(max_queue=64) as made:
            found = await asyncio.gather(*(ask(made, *numbers) for numbers in calls))
            assert found == [[2 * n for n in numbers] for numbers in calls]
            assert made.admitted == 0

    asyncio.run(main())


def test_a_batch_is_what_came_while_the_one_before_was_computed():
    async def main():
        gate = Gate()
        async with batcher(gate) as made:
            first = asyncio.create_task(ask(made, 0))
            while not gate.sizes:
                await asyncio.sleep(0.001)
            others = [asyncio.create_task(ask(made, n)) for n in range(1, 8)]
            await asyncio.sleep(0.01)
            gate.open.set()
            assert await asyncio.gather(first, *others) == [[2 * n] for n in range(8)]
        assert gate.sizes == [1, 4, 3]

    asyncio.run(main())


def test_a_batch_waits_to_be_full_but_no_longer_than_allowed():
    async def main():
        sizes = []

        def run(_kind, batch):
            sizes.append(len(batch))
            return double("any", batch)

        async with batcher(run, max_wait=0.2) as made:
            begun = time.monotonic()
            tasks = []
            for number in range(4):  # the fourth fills it
                tasks.append(asyncio.create_task(ask(made, number)))
                await asyncio.sleep(0.005)
            await asyncio.gather(*tasks)
            assert time.monotonic() - begun < 0.2
            begun = time.monotonic()
            await ask(made, 1)
            assert time.monotonic() - begun >= 0.19
        assert sizes == [4, 1]

    asyncio.run(main())


def test_the_queue_is_bounded_and_takes_all_or_nothing():
    async def main():
        gate = Gate()
        async with batcher(gate, max_queue=5) as made:
            task = asyncio.create_task(ask(made, 1, 2, 3))
            while not gate.sizes:
                await asyncio.sleep(0.001)
            with pytest.raises(QueueFullError, match="3 of 5 pictures, so 3 more"):
                await ask(made, 4, 5, 6)
            assert made.admitted == 3
            gate.open.set()
            assert await task == [2, 4, 6]
            assert await ask(made, 1, 2, 3, 4, 5) == [2, 4, 6, 8, 10]

    asyncio.run(main())


def test_requests_that_would_exceed_the_deadline_are_refused_at_once():
    async def main():
        def slow(_kind, batch):
            time.sleep(0.1)
            return double("any", batch)

        async with batcher(slow, max_batch=1, max_queue=100) as made:
            await ask(made, 1)  # from which it learns how long one takes
            tasks = [asyncio.create_task(ask(made, n)) for n in range(5)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError, match="longer than this request may wait") as caught:
                await ask(made, 9, deadline=later(0.2))
            assert caught.value.late
            assert 0.1 < caught.value.seconds < 1
            await asyncio.gather(*tasks)
            # With nothing before it, even what never was in time is tried.
            assert made.expected_wait == 0
            with pytest.raises(DeadlinePassedError):
                await ask(made, 1, deadline=later(0.02))

    asyncio.run(main())


def test_past_the_deadline_nothing_is_computed_any_more():
    async def main():
        gate = Gate()
        dropped = []
        watch = lambda event, number: dropped.append(number) if event == "dropped" else None  # noqa: E731
        async with batcher(gate, watch=watch) as made:
            first = asyncio.create_task(ask(made, 1))
            while not gate.sizes:
                await asyncio.sleep(0.001)
            with pytest.raises(DeadlinePassedError):
                await ask(made, 2, 3, deadline=later(0.05))
            assert dropped == [2]
            assert made.admitted == 1
            gate.open.set()
            await first
            assert await ask(made, 4) == [8]
        assert gate.sizes == [1, 1]

    asyncio.run(main())


def test_cancelled_requests_leave_the_queue():
    async def main():
        gate = Gate()
        async with batcher(gate) as made:
            first = asyncio.create_task(ask(made, 1))
            while not gate.sizes:
                await asyncio.sleep(0.001)
            gone = [asyncio.create_task(ask(made, n)) for n in range(5)]
            await asyncio.sleep(0.01)
            for task in gone:
                task.cancel()
            await asyncio.gather(*gone, return_exceptions=True)
            gate.open.set()
            assert await first == [2]
        assert gate.sizes == [1]

    asyncio.run(main())


def test_however_many_give_up_while_a_batch_waits_to_be_full_it_goes_on():
    async def main():
        async with batcher(max_wait=0.0005) as made:
            for _ in range(1500):
                gone = asyncio.create_task(ask(made, 1))
                while not made.admitted:
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)
                await asyncio.sleep(0.0007)
            assert await ask(made, 4, deadline=later(5)) == [8]
            assert made.working

    asyncio.run(main())


def test_an_unexpected_end_is_noticed(caplog):
    async def main():
        def watch(event, _number):
            if event == "batch":
                raise RuntimeError("nobody foresaw it")

        made = Batcher(double, max_batch=4, max_wait=0, max_queue=16, watch=watch)
        with pytest.raises(DeadlinePassedError):
            await ask(made, 1, deadline=later(0.05))
        assert not made.working
        await made.close()

    asyncio.run(main())
    assert "nobody foresaw it" in caplog.text


def test_an_error_of_the_engine_reaches_its_callers_and_later_ones_work():
    async def main():
        def picky(_kind, batch):
            if batch.max() > 100:
                raise RuntimeError("too hot")
            return double("any", batch)

        async with batcher(picky) as made:
            with pytest.raises(RuntimeError, match="too hot"):
                await ask(made, 101, 102)
            assert await ask(made, 5) == [10]

    asyncio.run(main())


def test_closing_answers_what_is_admitted_and_takes_nothing_more():
    async def main():
        gate = Gate()
        made = Batcher(gate, max_batch=1, max_wait=0, max_queue=9)
        tasks = [asyncio.create_task(ask(made, n)) for n in range(3)]
        while not gate.sizes:
            await asyncio.sleep(0.001)
        closing = asyncio.create_task(made.close())
        await asyncio.sleep(0.01)
        with pytest.raises(StoppedError):
            await ask(made, 9)
        gate.open.set()
        assert await asyncio.gather(*tasks) == [[0], [2], [4]]
        await closing

    asyncio.run(main())


def test_a_batch_is_of_one_kind_and_the_oldest_goes_first():
    async def main():
        gate, ran = threading.Event(), []

        def run(kind, batch):
            ran.append((kind, len(batch)))
            assert gate.wait(LATER)
            return {"out": batch * (2 if kind == "twice" else 3)}

        async def one(kind, number):
            with made.admit(1, later()):
                [answer] = await made.answers(kind, [np.array([number])], later())
            return int(answer["out"][0])

        async with batcher(run, max_batch=8) as made:
            tasks = [asyncio.create_task(one("twice", 0))]
            while not ran:
                await asyncio.sleep(0.001)
            for number in range(1, 6):
                kind = "thrice" if number % 2 else "twice"
                tasks.append(asyncio.create_task(one(kind, number)))
            await asyncio.sleep(0.01)
            gate.set()
            assert await asyncio.gather(*tasks) == [0, 3, 4, 9, 8, 15]
        assert ran == [("twice", 1), ("thrice", 3), ("twice", 2)]

    asyncio.run(main())
