"""Models that are added, removed, damaged and changed while the server answers."""

import asyncio
import shutil
import threading
import time
from pathlib import Path

import pytest

from convnext.errors import ArgumentError, ConvNeXtError
from convnext.images.recipe import Preprocess
from convnext.serve.batching import StoppedError
from convnext.serve.loading import OUTPUTS, load
from convnext.serve.metrics import Metrics
from convnext.serve.models import Models, expanded
from convnext.serve.problems import Problem
from convnext.serve.settings import ModelSpec, Settings, parse_model
from convnext.weights.info import WeightsInfo

PIXELS = {"name": "pixels", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [0] * 3072}


def version(run, name):
    response = run.client.post(f"/v2/models/{name}/infer", json={"inputs": [PIXELS]})
    assert response.status_code == 200, response.text
    return response.json()["model_version"]


def states(run):
    return {m["name"]: m["state"] for m in run.client.get("/v1/models").json()["models"]}


@pytest.mark.usefixtures("mock_engine")
def test_models_load_although_others_fail(running, named_weights, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    with running({"broken": broken, "good": named_weights, "absent": tmp_path / "absent"}) as run:
        assert states(run) == {"broken": "failed", "good": "ready", "absent": "failed"}
        assert version(run, "good") == "1"
        response = run.client.post("/v2/models/broken/infer", json={"inputs": [PIXELS]})
        assert response.status_code == 503
        assert "broken could not be loaded" in response.json()["error"]
        assert str(tmp_path) not in run.client.get("/v1/models").text
        assert run.metric("convnext_model_ready", model="broken") == 0
        assert run.metric("convnext_model_ready", model="good") == 1


@pytest.mark.usefixtures("mock_engine")
def test_the_server_ends_with_the_reason_if_no_model_can_be_loaded(running, tmp_path):
    with running(tmp_path / "absent", wait=False) as run:
        run.thread.join(20)
        assert not run.thread.is_alive()
        assert isinstance(run.server.failure, ConvNeXtError)
        assert "absent" in str(run.server.failure)


@pytest.mark.usefixtures("mock_engine")
def test_a_model_whose_file_changes_is_replaced_and_no_request_is_dropped(
    running, write_weights, tmp_path
):
    path, other = tmp_path / "m.safetensors", tmp_path / "new.safetensors"
    write_weights(path, name="first", preprocess=Preprocess(size=32))
    write_weights(other, name="second", licence="MIT", preprocess=Preprocess(size=32))
    with running({"m": path}, seconds=0.002, reload_seconds=0.1) as run:
        seen, stop = [], threading.Event()

        def ask():
            while not stop.is_set():
                seen.append(version(run, "m"))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        run.eventually(lambda: "1" in seen)
        other.replace(path)
        run.eventually(lambda: "2" in seen)
        path.write_bytes(b"damaged")
        run.eventually(lambda: run.metric("convnext_model_loads_total", outcome="failed") == 1)
        count = len(seen)
        run.eventually(lambda: len(seen) > count + 20)
        stop.set()
        for thread in threads:
            thread.join()
        assert all(thread_version in ("1", "2") for thread_version in seen)
        assert seen[-1] == "2"  # the damaged file changed nothing
        [model] = run.client.get("/v1/models").json()["models"]
        assert (model["state"], model["licence"], model["version"]) == ("ready", "MIT", 2)
        assert "server's log" in model["error"]
        assert run.metric("convnext_requests_total", status="503", method="POST") == 0


@pytest.mark.usefixtures("mock_engine")
def test_models_of_a_folder_come_and_go(running, named_weights, tmp_path):
    shutil.copy(named_weights, tmp_path / "a.safetensors")
    (tmp_path / "readme.txt").write_text("no model")
    with running(tmp_path, reload_seconds=0.1) as run:
        assert states(run) == {"a": "ready"}
        shutil.copy(named_weights, tmp_path / "b.safetensors")
        run.eventually(lambda: states(run).get("b") == "ready")
        assert version(run, "b") == "1"
        (tmp_path / "a.safetensors").unlink()
        run.eventually(lambda: "a" not in states(run))
        response = run.client.post("/v2/models/a/infer", json={"inputs": [PIXELS]})
        assert response.status_code == 404


def test_a_folder_stands_for_the_models_in_it(named_weights, tmp_path):
    shutil.copy(named_weights, tmp_path / "b.pth")
    (tmp_path / "a").mkdir()
    shutil.copy(named_weights, tmp_path / "a" / "model.safetensors")
    (tmp_path / "c").mkdir()
    (tmp_path / ".hidden.pth").touch()
    names = [spec.name for spec in expanded((ModelSpec("folder", str(tmp_path)),))]
    assert names == ["a", "b"]
    [spec] = expanded((ModelSpec("hub", str(tmp_path / "a")),))
    assert spec.name == "hub"


def test_models_are_named_by_checkpoint_file_or_option(tmp_path):
    assert parse_model("convnext_tiny.fb_in1k") == ModelSpec(
        "convnext_tiny.fb_in1k", "convnext_tiny.fb_in1k"
    )
    assert parse_model("weights/best.v2.pth").name == "best"
    assert parse_model("cats=weights/best.pth") == ModelSpec("cats", "weights/best.pth")
    assert parse_model(str(tmp_path)).name == tmp_path.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ()}, "No model to serve"),
        ({"models": (ModelSpec("a b", "x"),)}, "A model.s name may have"),
        ({"models": (ModelSpec("a", "x"), ModelSpec("a", "y"))}, "Two models have the name 'a'"),
        ({"port": 70000}, "--port must be from 0 to 65535"),
        ({"max_batch": 0}, "--max-batch must be from 1"),
        ({"deadline": float("nan")}, "--deadline"),
        ({"max_queue": 8}, "--max-queue must be at least"),
        ({"allowed_urls": ("https://x/",)}, "is not a host name"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(ArgumentError, match=message):
        Settings(**{"models": (ModelSpec("m", "m"),), **options})


@pytest.mark.usefixtures("mock_engine")
def test_weights_are_opened_once_for_all_answers_and_let_go_of(named_weights, counted):
    model = load(ModelSpec("m", str(named_weights)), Settings((ModelSpec("m", "m"),)), None)
    answers = [outputs for kind, outputs in OUTPUTS.items() if kind != "segment"]
    assert list(model.engines) == answers
    assert model.head["head.kernel"].shape == (32, 10)
    assert counted == {"open_weights": 1, "recognise": 1}
    with pytest.raises(ArgumentError, match="is closed"):
        model.engine("stage_0")


class Answering:
    """A loaded model, as far as `Models` uses it."""

    num_classes, has_names, info = 0, True, WeightsInfo()

    def run(self, batch, _outputs):
        return {"out": batch}


class Folder:
    """`Models` of a folder, and a list of the files it loaded."""

    def __init__(self, path):
        self.path, self.loads = path, []
        settings = Settings((ModelSpec("folder", str(path)),))
        self.models = Models(settings, Metrics(), loader=self._load)

    def _load(self, spec, _settings, _threads):
        data = Path(spec.source).read_bytes()
        self.loads.append((Path(spec.source).name, data))
        if data == b"bad":
            raise ConvNeXtError("It is bad.")
        return Answering()


def test_a_file_that_is_being_copied_leaves_the_server_ready(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"good")

    async def main():
        folder = Folder(tmp_path)
        models = folder.models
        assert not models.ready
        await models.start()
        assert models.ready
        for size in range(3):
            (tmp_path / "b.pth").write_bytes(b"x" * size)
            await models.look()
            assert models.slots["b"].state == "loading"
            assert models.ready
        await models.close()

    asyncio.run(main())


def test_before_all_have_been_tried_a_server_is_not_ready(tmp_path):
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).write_bytes(b"good")
    gate = threading.Event()

    async def main():
        folder = Folder(tmp_path)
        models, load = folder.models, folder._load
        models._load = lambda spec, *more: (spec.name == "a" or gate.wait(20)) and load(spec, *more)
        starting = asyncio.create_task(models.start())
        while models.slots["a"].served is None:
            await asyncio.sleep(0.001)
        assert not models.ready
        gate.set()
        await starting
        assert models.ready
        await models.close()

    asyncio.run(main())


def test_a_model_whose_file_gets_another_suffix_is_loaded_anew(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"old")

    async def main():
        folder = Folder(tmp_path)
        await folder.models.start()
        (tmp_path / "a.pth").unlink()
        (tmp_path / "a.safetensors").write_bytes(b"new")
        await folder.models.look()
        await folder.models.look()
        assert folder.loads == [("a.pth", b"old"), ("a.safetensors", b"new")]
        assert folder.models.get("a").version == 2
        await folder.models.close()

    asyncio.run(main())


def test_a_request_without_a_model_gets_the_first_if_it_is_loaded(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"bad")
    (tmp_path / "b.pth").write_bytes(b"good")

    async def main():
        folder = Folder(tmp_path)
        await folder.models.start()
        assert folder.models.get("b").name == "b"
        with pytest.raises(Problem, match="Name another") as caught:
            folder.models.get(None)
        assert (caught.value.status, caught.value.code) == (503, "no-model")
        assert int(caught.value.headers["Retry-After"])
        (tmp_path / "a.pth").write_bytes(b"mended")
        await folder.models.look()
        await folder.models.look()
        assert folder.models.get(None).name == "a"
        await folder.models.close()

    asyncio.run(main())


def test_files_are_loaded_when_they_have_stopped_changing_and_the_old_model_goes(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"1")
    loads = []

    def loader(_spec, _settings, _threads):
        loads.append(path.read_bytes())
        return Answering()

    async def main():
        models = Models(Settings((ModelSpec("m", str(path)),)), Metrics(), loader=loader)
        await models.start()
        old = models.get("m")
        await models.look()
        path.write_bytes(b"12")  # half of it
        await models.look()
        path.write_bytes(b"123")
        await models.look()
        assert loads == [b"1"]
        assert models.get("m") is old
        await models.look()
        assert loads == [b"1", b"123"]
        assert models.get("m").version == 2
        await asyncio.sleep(0)
        with pytest.raises(StoppedError):
            old.batcher.check(1, time.monotonic() + 1)
        await models.close()

    asyncio.run(main())
