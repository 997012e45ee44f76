"""The routes of /v1: classify, embed, explain and segment pictures, and list models."""

from __future__ import annotations

import base64
import functools
import io
import json
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from convnext.classifier import ClassScore
from convnext.classifier.results import TOP, best_classes
from convnext.errors import ArgumentError
from convnext.images.labels import Labels
from convnext.images.thresholds import with_thresholds
from convnext.serve.batching import until
from convnext.serve.loading import explained, segmented
from convnext.serve.models import ServedModel, Slot
from convnext.serve.options import RequestOptions
from convnext.serve.problems import Problem
from convnext.serve.service import PictureResult, Service, together
from convnext.serve.zero_shot import ClassTexts

__all__ = [
    "CLASSIFY_OPTIONS",
    "EMBED_OPTIONS",
    "EXPLAIN_OPTIONS",
    "NOT_LOADED",
    "NO_STORE",
    "NUMBERS_OF_CLASS",
    "SEGMENT_OPTIONS",
    "as_bytes",
    "as_json",
    "classify",
    "embed",
    "explain",
    "json_response",
    "models",
    "segment",
]

CLASSIFY_OPTIONS = ("model", "top", "threshold", "labels", "template", "deadline_ms")
EMBED_OPTIONS = ("model", "encoding", "deadline_ms")
EXPLAIN_OPTIONS = ("model", "target", "side", "deadline_ms")
SEGMENT_OPTIONS = ("model", "deadline_ms")

NUMBERS_OF_CLASS = 16  # writing a class with its name takes as long as writing 16 numbers

NO_STORE = {"Cache-Control": "no-store"}
NOT_LOADED = "The latest files could not be loaded; see the server's log for the cause."


def json_response(content: Any) -> Response:
    """A JSON response."""
    return Response(as_bytes(as_json(content)), headers=NO_STORE, media_type="application/json")


def as_json(content: Any, **lists: Iterable[str]) -> str:
    """Encode an object as JSON, with further members that are lists of encoded items.

    `json.dumps` holds Python's lock, so large answers are encoded in several calls.

    Example:
        >>> as_json({"a": 1}, b=map(as_json, [2, 3]))
        '{"a":1,"b":[2,3]}'
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for name, items in lists.items():
        text = f'{text[:-1]},"{name}":[{",".join(items)}]}}'
    return text


def as_bytes(text: str) -> bytes:
    """Encode as UTF-8; lone surrogates, which a client's id may contain, become escapes."""
    return text.encode("utf-8", "backslashreplace")


async def models(service: Service, _request: Request) -> Response:
    """`GET /v1/models`: the models and their states."""
    return json_response({"models": [_described(slot) for slot in service.models.slots.values()]})


def _described(slot: Slot) -> dict[str, Any]:
    about: dict[str, Any] = {
        "name": slot.spec.name,
        "state": slot.state,
        "error": slot.error and NOT_LOADED,
    }
    if slot.served is None:
        return about
    model = slot.served.model
    return about | {
        "version": slot.served.version,
        "variant": model.variant.name,
        "licence": model.info.licence,
        "notice": model.info.notice,
        "engine": slot.served.engine.name,
        "precision": slot.served.engine.precision,
        "size": model.preprocess.size,
        "classes": model.num_classes,
        "multi_label": model.info.thresholds is not None,
        "vector": model.vector_width if "embed" in slot.served.answers else 0,
        "answers": slot.served.answers,
        "load_seconds": round(slot.served.seconds, 3),
    }


async def classify(service: Service, request: Request) -> Response:
    """`POST /v1/classify`: the most probable classes of each picture, or the labels it has."""
    begun = time.perf_counter()
    async with service.accepted(request, CLASSIFY_OPTIONS) as (served, pictures, options, deadline):
        labels, most = options["labels"], options["top"]
        if labels is None:
            own = _thresholded(served, options)
            results = await service.results(served, "classify", pictures, deadline)
            classes = functools.partial(_classes, own, "logits", lambda x: x)
            width = TOP if own.thresholds is None else len(own)
            top = min(most or width, served.model.num_classes)
        else:
            if options["threshold"] is not None:
                raise _no_thresholds(served)
            texts = _texts(served)
            async with until(deadline):
                vectors = await service.in_turn(lambda: texts.vectors(labels, options["template"]))
            results = await service.results(served, "embed", pictures, deadline)
            classes = functools.partial(
                _classes, Labels(labels), "embedding", lambda x: texts.logits(x, vectors)
            )
            top = min(most or TOP, len(labels))
        rows = (_row(o, lambda o: {"classes": classes(o, top)}) for o in results)
        numbers = NUMBERS_OF_CLASS * top * len(results)
        return await service.written(numbers, deadline, lambda: _answer(served, rows, begun))


def _thresholded(served: ServedModel, options: RequestOptions) -> Labels:
    """The labels of a model, with the threshold of a request."""
    labels, threshold = served.model.labels, options["threshold"]
    if threshold is None:
        return labels
    if labels.thresholds is None:
        raise _no_thresholds(served)
    return with_thresholds(labels, threshold)


def _no_thresholds(served: ServedModel) -> Problem:
    return Problem(
        400,
        "no-thresholds",
        f"The classes of {served.name} exclude one another, so they have no threshold: leave it "
        "out. top limits their number.",
    )


def _texts(served: ServedModel) -> ClassTexts:
    if served.texts is None:
        raise Problem(
            400,
            "labels-not-served",
            f"The model {served.name} has classes of its own, or no text tower: leave out labels.",
        )
    return served.texts


def _classes(
    labels: Labels,
    output: str,
    logits: Callable[[NDArray[Any]], NDArray[Any]],
    result: PictureResult,
    top: int,
) -> list[dict[str, Any]]:
    assert result.outputs is not None
    best = best_classes(logits(result.outputs[output]), labels, top)
    return [_score(score) for score in best]


def _score(score: ClassScore) -> dict[str, Any]:
    wnid = {} if score.wnid is None else {"wnid": score.wnid}
    return {
        "label": score.label,
        **wnid,
        "index": score.index,
        "probability": float(f"{score.probability:.6g}"),
    }


async def embed(service: Service, request: Request) -> Response:
    """`POST /v1/embed`: the embedding vector of each picture."""
    begun = time.perf_counter()
    async with service.accepted(request, EMBED_OPTIONS) as (served, pictures, options, deadline):
        results = await service.results(served, "embed", pictures, deadline)
        rows = (_row(o, lambda o: {"vector": _vector(o, options)}) for o in results)
        numbers = served.model.vector_width * len(results)
        return await service.written(numbers, deadline, lambda: _answer(served, rows, begun))


def _vector(result: PictureResult, options: RequestOptions) -> Any:
    assert result.outputs is not None
    vector = result.outputs["embedding"]
    if options["encoding"] == "base64":
        return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()
    return vector.tolist()


def _row(result: PictureResult, answer: Any) -> dict[str, Any]:
    if result.problem is not None:
        return {"id": result.id, "error": result.problem.as_item()}
    return {"id": result.id, **answer(result)}


def _answer(served: ServedModel, rows: Iterable[dict[str, Any]], begun: float) -> Response:
    about = {
        "model": served.name,
        "version": served.version,
        "milliseconds": round(1000 * (time.perf_counter() - begun), 3),
    }
    text = as_json(about, pictures=map(as_json, rows))
    return Response(as_bytes(text), headers=NO_STORE, media_type="application/json")


async def explain(service: Service, request: Request) -> Response:
    """`POST /v1/explain`: the heat map of a class over one picture, as PNG."""
    async with service.accepted(request, EXPLAIN_OPTIONS) as (served, pictures, options, deadline):
        if len(pictures.pictures) != 1:
            raise Problem(400, "one-picture", "/v1/explain takes one picture; send only one.")
        [result] = await service.results(served, "explain", pictures, deadline, options["side"])

        def draw() -> tuple[ClassScore, bytes]:
            assert result.decoded is not None
            assert result.outputs is not None
            score, picture = explained(
                served.model, result.decoded, result.outputs, options["target"]
            )
            stream = io.BytesIO()
            picture.save(stream, "PNG", compress_level=1)
            return score, stream.getvalue()

        try:
            async with until(deadline):
                score, png = await service.in_thread(draw)
        except ArgumentError as error:
            raise Problem(400, "unknown-class", str(error)) from error
        about = {
            "Convnext-Class-Index": str(score.index),
            "Convnext-Class-Label": quote(score.label),
            "Convnext-Class-Probability": f"{score.probability:.6g}",
        }
        return Response(png, headers={**NO_STORE, **about}, media_type="image/png")


async def segment(service: Service, request: Request) -> Response:
    """`POST /v1/segment`: the areas and the mask of each picture, or one mask as PNG."""
    begun = time.perf_counter()
    async with service.accepted(request, SEGMENT_OPTIONS) as (served, pictures, _, deadline):
        as_png = _wants_png(request)
        if as_png and len(pictures.pictures) != 1:
            raise Problem(
                400, "one-picture", "A PNG is the mask of one picture; for several, accept JSON."
            )
        results = await service.results(served, "segment", pictures, deadline)

        def mapped(result: PictureResult) -> tuple[dict[str, Any], bytes]:
            assert result.decoded is not None
            assert result.outputs is not None
            found = segmented(served.model, result.id, result.decoded, result.outputs)
            return {} if as_png else found.record(), found.encoded("png")

        def row(result: PictureResult) -> dict[str, Any]:
            def areas_and_mask(result: PictureResult) -> dict[str, Any]:
                record, png = mapped(result)
                return record | {"mask": base64.b64encode(png).decode()}

            return _row(result, areas_and_mask)

        async with until(deadline):
            if as_png:
                _, png = await service.in_thread(lambda: mapped(results[0]))
                return Response(png, headers=NO_STORE, media_type="image/png")
            rows = await together(
                service.in_thread(functools.partial(row, result)) for result in results
            )
            return await service.in_background(lambda: _answer(served, rows, begun))


def _wants_png(request: Request) -> bool:
    """Whether a client accepts PNG, and not JSON."""
    accepted = request.scope["state"]["headers"].get("accept", "")
    kinds = {part.partition(";")[0].strip().lower() for part in accepted.split(",")}
    return "image/png" in kinds and not kinds & {"application/json", "application/*", "*/*"}
