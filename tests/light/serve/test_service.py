"""The way of a request through threads: what it holds there, and whom it keeps waiting."""

import asyncio
import gc
import threading
import tracemalloc
import weakref

from convnext.serve.bodies import Bodies
from convnext.serve.metrics import Metrics
from convnext.serve.service import Service
from convnext.serve.settings import ModelSpec, Settings

SETTINGS = Settings((ModelSpec("m", "m"),))
MIB = 2**20


def test_a_body_is_in_memory_once():
    pieces = 64

    async def receive():
        nonlocal pieces
        pieces -= 1
        return {"type": "http.request", "body": bytes(MIB // 8), "more_body": pieces > 0}

    async def main():
        metrics = Metrics()
        held = lambda: metrics.snapshot()["convnext_body_bytes_in_flight"][()]  # noqa: E731
        async with Bodies(SETTINGS, metrics).read(receive, {}) as body:
            assert len(body) == held() == 8 * MIB
            assert tracemalloc.get_traced_memory()[0] < 9 * MIB
        assert held() == 0

    tracemalloc.start()
    try:
        asyncio.run(main())
    finally:
        tracemalloc.stop()


class Picture:
    """What memory is looked at for."""


def test_work_that_is_given_up_before_its_turn_holds_nothing():
    gate = threading.Event()

    async def main():
        service = Service(SETTINGS, Metrics(), None, None)
        busy = [asyncio.create_task(service.in_thread(lambda: gate.wait(20))) for _ in range(64)]
        await asyncio.sleep(0.01)
        picture = Picture()
        there = weakref.ref(picture)

        async def work(picture):
            return await service.in_thread(lambda: picture)

        task = asyncio.create_task(work(picture))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        del picture, task
        gc.collect()
        assert there() is None
        gate.set()
        await asyncio.gather(*busy)
        assert await service.in_thread(lambda: 5) == 5
        service.close()

    asyncio.run(main())
