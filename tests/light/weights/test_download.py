"""`fetch`: the order of the sources, the cache, and a Hub that is a server on this machine."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from convnext.errors import WeightsUnavailableError
from convnext.weights.catalog import HubFile, Url, get_checkpoint
from convnext.weights.download import Fetched, cached, fetch

TINY = get_checkpoint("convnext_tiny.fb_in1k")
COMMIT = "0123456789abcdef0123456789abcdef01234567"

pytestmark = pytest.mark.usefixtures("home_of_its_own")


def put(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


FETCH = """
import json, sys
from dataclasses import replace
from convnext.errors import WeightsUnavailableError
from convnext.weights.catalog import Url, get_checkpoint
from convnext.weights.download import fetch

row = get_checkpoint("convnext_tiny.fb_in1k")
row = replace(row, sources=(*row.sources[:2], Url("facebook", sys.argv[1])))
try:
    here = fetch(row)
    print(json.dumps({"path": str(here.path), "layout": here.source.layout}))
except WeightsUnavailableError as error:
    print(json.dumps({"error": str(error)}))
"""


def fetch_elsewhere(server, **environment: str) -> dict[str, str]:
    """`fetch` in a process of its own, whose Hub is the server: its address is read on import."""
    process = subprocess.run(
        [sys.executable, "-c", FETCH, f"{server.url}/plain/weights.pth"],
        env={**os.environ, "HF_ENDPOINT": server.url, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert process.stderr == ""
    result: dict[str, str] = json.loads(process.stdout)
    return result


def test_the_hub_is_asked_first_and_only_once(server):
    server.files["/timm/convnext_tiny.fb_in1k/resolve/main/model.safetensors"] = b"from timm"
    first = fetch_elsewhere(server)
    assert first["layout"] == "timm"
    assert Path(first["path"]).read_bytes() == b"from timm"
    assert server.asked == ["timm"]

    server.requests.clear()
    assert fetch_elsewhere(server) == first
    assert fetch_elsewhere(server, HF_HUB_OFFLINE="1") == first
    assert server.requests == []


def test_files_in_the_hubs_own_cache_are_used(server, tmp_path, monkeypatch):
    monkeypatch.delenv("CONVNEXT_CACHE")
    hub = tmp_path / "elsewhere" / "hub" / "models--timm--convnext_tiny.fb_in1k"
    put(hub / "refs" / "main", COMMIT.encode())
    file = put(hub / "snapshots" / COMMIT / "model.safetensors")
    environment = {"HF_HOME": str(tmp_path / "elsewhere"), "HF_HUB_OFFLINE": "1"}
    assert fetch_elsewhere(server, **environment) == {"path": str(file), "layout": "timm"}


def test_the_next_source_is_asked_when_one_lacks_the_file(server, tmp_path):
    server.files["/plain/weights.pth"] = b"from the authors"
    here = fetch_elsewhere(server)
    place = tmp_path / "cache" / "convnext_tiny.fb_in1k" / "facebook" / "weights.pth"
    assert here == {"path": str(place), "layout": "facebook"}
    assert place.read_bytes() == b"from the authors"
    assert server.asked == ["timm", "facebook", "plain"]


def test_without_any_source_each_failure_is_named(server):
    error = fetch_elsewhere(server)["error"]
    assert "\n" not in error
    assert error.startswith("Could not get the weights convnext_tiny.fb_in1k. Tried https://")
    assert error.count("EntryNotFound") == 2
    assert "/plain/weights.pth (the server answered 404 Not Found)" in error


def test_a_hub_out_of_reach_is_known_at_once_and_quietly(server):
    server.files["/plain/weights.pth"] = b"from the authors"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        here = fetch_elsewhere(server, HF_ENDPOINT=f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert here["layout"] == "facebook"
    assert server.asked == ["plain"]


def test_a_single_refusal_is_not_a_hub_out_of_reach(server):
    server.files["/timm/convnext_tiny.fb_in1k/resolve/main/model.safetensors"] = b"from timm"
    server.troubles = 1
    assert fetch_elsewhere(server)["layout"] == "timm"


@pytest.mark.parametrize(
    "refusal", [(401, "GatedRepo"), (403, "GatedRepo"), (401, "RepoNotFound"), (403, "Forbidden")]
)
def test_a_gated_repository_is_an_error_that_says_where_to_accept_its_licence(server, refusal):
    server.refusal = refusal
    error = fetch_elsewhere(server)["error"]
    assert f"the Hub answered {refusal[0]}" in error
    assert "accepted first, at https://huggingface.co/timm/convnext_tiny.fb_in1k;" in error
    assert "hf auth login" in error
    assert "use a file you have, as the model: --model FILE" in error


def own_sources(server, *names: str) -> tuple[Url, ...]:
    return tuple(Url("facebook", f"{server.url}/{name}") for name in names)


def test_a_file_that_is_here_is_used_before_a_better_source(server, tmp_path):
    sources = own_sources(server, "first.pth", "second.pth")
    row = replace(TINY, sources=sources)
    server.files["/first.pth"] = b"first"
    place = put(tmp_path / "cache" / row.name / "facebook" / "second.pth")
    assert fetch(row) == Fetched(place, sources[1])
    assert server.requests == []


def test_the_published_digest_is_checked(server):
    server.files["/w.h5"] = b"not what was published"
    row = replace(TINY, sources=(Url("keras_applications", f"{server.url}/w.h5", "00" * 32),))
    with pytest.raises(WeightsUnavailableError, match=r"sha256 is \w+ where 0000"):
        fetch(row)
    assert cached(row) is None


@pytest.mark.parametrize(
    ("argument", "variables", "place"),
    [
        ("argument", {"CONVNEXT_CACHE": "variable"}, "argument"),
        (None, {"CONVNEXT_CACHE": "variable", "XDG_CACHE_HOME": "xdg"}, "variable"),
        (None, {"CONVNEXT_CACHE": "~/variable"}, "home/variable"),
        (None, {"XDG_CACHE_HOME": "xdg"}, "xdg/convnext"),
        (None, {}, "home/.cache/convnext"),
    ],
)
def test_the_cache_is_where_it_was_wanted(
    server, tmp_path, monkeypatch, argument, variables, place
):
    monkeypatch.delenv("CONVNEXT_CACHE")
    for name, value in variables.items():
        monkeypatch.setenv(name, value if value.startswith("~") else str(tmp_path / value))
    cache_dir = tmp_path / argument if argument else None
    server.files["/w.pth"] = b"weights"
    row = replace(TINY, sources=own_sources(server, "w.pth"))

    assert cached(row, cache_dir=cache_dir) is None
    file = fetch(row, cache_dir=cache_dir).path

    assert file == tmp_path / place / row.name / "facebook" / "w.pth"
    assert cached(row, cache_dir=cache_dir) == file


def test_a_file_put_into_the_cache_by_hand_is_found(tmp_path):
    for layout, filename in [
        ("facebook", "convnext_tiny_1k_224_ema.pth"),
        ("huggingface", "model.safetensors"),
        ("timm", "model.safetensors"),  # preferred, so it wins once it is there
    ]:
        file = put(tmp_path / "cache" / TINY.name / layout / filename)
        found = fetch(TINY, offline=True)
        assert (found.path, found.source.layout) == (file, layout)
        assert cached(TINY) == file


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "cache" / TINY.name / "timm" / "model.safetensors").mkdir(parents=True)
    assert cached(TINY) is None


def test_offline_the_error_says_what_to_do(tmp_path):
    with pytest.raises(WeightsUnavailableError) as caught:
        fetch(TINY, offline=True)
    message = str(caught.value)
    assert message.count("(not in the cache, and offline mode is on)") == len(TINY.sources)
    assert all(str(source) in message for source in TINY.sources)
    place = tmp_path / "cache" / TINY.name / "facebook" / "convnext_tiny_1k_224_ema.pth"
    assert f"put it at {place};" in message
    assert "--model FILE" in message
    assert f"to {tmp_path / 'cache' / 'hub'}, and set HF_HUB_OFFLINE=1." in message
    assert "\n" not in message


def test_following_the_error_helps(tmp_path):
    """Whatever the sources, the place that the error names is one that is looked at."""
    for name in ("convnext_tiny.fb_in1k", "convnext_tiny.in12k", "keras/convnext_tiny"):
        row = get_checkpoint(name)
        with pytest.raises(WeightsUnavailableError) as caught:
            fetch(row, offline=True)
        place = str(caught.value).partition("put it at ")[2].partition(";")[0]
        assert place.startswith(str(tmp_path))
        put(Path(place))
        assert fetch(row, offline=True).path == Path(place)


def test_with_the_default_cache_the_error_points_at_hf_home(monkeypatch):
    monkeypatch.delenv("CONVNEXT_CACHE")
    row = replace(TINY, sources=(Url("facebook", "http://127.0.0.1/w.pth"),))
    with pytest.raises(WeightsUnavailableError, match="point HF_HOME at the copy, and set"):
        fetch(row, offline=True)


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_the_hubs_offline_switch_forbids_downloads(server, monkeypatch, value):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    server.files["/w.pth"] = b"weights"
    row = replace(TINY, sources=own_sources(server, "w.pth"))
    with pytest.raises(WeightsUnavailableError, match="offline mode is on"):
        fetch(row)
    assert server.requests == []
    assert fetch(row, offline=False).path.read_bytes() == b"weights"


@pytest.mark.parametrize("shown_before", [True, False])
def test_the_hubs_progress_bars_are_left_as_they_were(monkeypatch, shown_before):
    import huggingface_hub
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    seen = []

    def hub_download(*_, **__):
        seen.append(are_progress_bars_disabled())
        raise ConnectionError("no answer\nat   all")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda _: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub_download)
    row = replace(TINY, sources=(HubFile("timm", "timm/some", "model.safetensors"),))
    if not shown_before:
        disable_progress_bars()
    try:
        for progress in (True, False):
            with pytest.raises(WeightsUnavailableError, match="ConnectionError: no answer at all"):
                fetch(row, progress=progress)
        assert seen == [not shown_before, True]
        assert are_progress_bars_disabled() is not shown_before
    finally:
        enable_progress_bars()
