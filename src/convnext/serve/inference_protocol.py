"""The routes of /v2: the Open Inference Protocol, as in KServe and Triton.

A model has the inputs `pixels`, UINT8 `[n, size, size, 3]`, resized and cropped, and alternatively
`image`, BYTES `[n]`, encoded pictures. Its outputs are `logits` and `embedding`, each computed by
its own graph, so clients should request only those they need. Of Triton's extensions, binary data,
classification, request time-outs and the repository index are supported.

Reference: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from convnext import __version__
from convnext.classifier.results import best_classes
from convnext.serve.answers import (
    NO_STORE,
    NOT_LOADED,
    NUMBERS_OF_CLASS,
    as_bytes,
    as_json,
    json_response,
)
from convnext.serve.batching import Array, until
from convnext.serve.bodies import while_connected
from convnext.serve.inputs import InputPicture
from convnext.serve.models import ServedModel
from convnext.serve.options import LATEST_MS, RequestOptions
from convnext.serve.problems import Problem, shown
from convnext.serve.service import INLINE_BYTES, Service, together
from convnext.serve.settings import Answers, Settings
from convnext.serve.tensors import HEADER_LENGTH, InferRequest, bad, read_request

__all__ = ["index", "infer", "model_metadata", "model_ready", "server_metadata"]

EXTENSIONS = ("binary_tensor_data", "classification", "model_repository")
Parsed = tuple[InferRequest, list[NDArray[np.uint8] | bytes]]
PIXELS, IMAGE = "pixels", "image"
KINDS: Mapping[str, Answers] = {"logits": "classify", "embedding": "embed"}


async def server_metadata(_service: Service, _request: Request) -> Response:
    """`GET /v2`: the server's name, version and extensions."""
    about = {"name": "convnext", "version": __version__, "extensions": list(EXTENSIONS)}
    return json_response(about)


async def index(service: Service, _request: Request) -> Response:
    """`POST /v2/repository/index`: every model and its state."""
    states = {"ready": "READY", "loading": "LOADING", "failed": "UNAVAILABLE"}
    return json_response(
        [
            {
                "name": slot.spec.name,
                "version": str(slot.served.version) if slot.served else "",
                "state": states[slot.state],
                "reason": NOT_LOADED if slot.error else "",
            }
            for slot in service.models.slots.values()
        ]
    )


def _served(service: Service, request: Request) -> ServedModel:
    served = service.models.get(request.path_params["name"])
    version = request.path_params.get("version")
    if version is not None and version != str(served.version):
        raise Problem(
            404,
            "model-unknown",
            f"{served.name} has no version {shown(version)}; it has {served.version}.",
        )
    return served


async def model_ready(service: Service, request: Request) -> Response:
    """`GET /v2/models/NAME/ready`."""
    _served(service, request)
    return Response(status_code=200)


async def model_metadata(service: Service, request: Request) -> Response:
    """`GET /v2/models/NAME`: the model's inputs and outputs."""
    served = _served(service, request)
    size = served.model.preprocess.size
    widths = _outputs(served)
    return json_response(
        {
            "name": served.name,
            "versions": [str(served.version)],
            "platform": f"convnext_{served.engine.name}",
            "inputs": [{"name": PIXELS, "datatype": "UINT8", "shape": [-1, size, size, 3]}],
            "outputs": [
                {"name": name, "datatype": "FP32", "shape": [-1, width]}
                for name, width in widths.items()
            ],
        }
    )


def _outputs(served: ServedModel) -> dict[str, int]:
    model = served.model
    widths = {"logits": model.num_classes, "embedding": model.vector_width}
    return {name: width for name, width in widths.items() if KINDS[name] in served.answers}


async def infer(service: Service, request: Request) -> Response:
    """`POST /v2/models/NAME/infer`: the requested outputs for a batch of pictures."""
    with service.translated():
        longest = service.settings.deadline
        _served(service, request).batcher.check(1, time.monotonic() + longest)
        headers = request.scope["state"]["headers"]
        async with service.bodies.read(request.receive, headers) as body:
            now = time.monotonic()
            async with until(now + longest):
                inference, pictures = await _parsed(service, headers.get(HEADER_LENGTH), body)
            served = _served(service, request)  # it may have been replaced meanwhile
            _check_sides(inference, served)
            wanted = _wanted(inference, served)
            deadline = now + RequestOptions(_timeout(inference), longest).seconds
            names = {name for name, *_ in wanted}
            with served.batcher.admit(len(pictures), deadline):
                async with while_connected(request.receive):
                    results = await _results(service, served, names, pictures, deadline)
                    return await service.written(
                        _numbers(wanted, results),
                        deadline,
                        lambda: _answer(inference, served, wanted, results),
                    )


async def _parsed(service: Service, header_length: str | None, body: bytes) -> Parsed:
    if _json_length(header_length, body) < INLINE_BYTES:
        return _parse(body, header_length, service.settings)
    return await service.in_background(lambda: _parse(body, header_length, service.settings))


def _parse(body: bytes, header_length: str | None, settings: Settings) -> Parsed:
    """Parse a request, without checking that it fits a model."""
    inference = read_request(body, header_length, settings)
    return inference, _pictures(inference, settings.max_pictures)


def _json_length(header_length: str | None, body: bytes) -> int:
    """The size of the JSON; a wrong header is left to `read_request`."""
    digits = (header_length or "").strip()
    return int(digits) if digits.isdecimal() and len(digits) < 12 else len(body)


def _timeout(inference: InferRequest) -> Mapping[str, Any]:
    """Triton's time-out is in microseconds; 0 is none."""
    microseconds = inference.parameters.get("timeout", 0)
    if type(microseconds) is not int or microseconds < 0:
        raise bad(f"timeout must be an integer of microseconds; got {shown(microseconds)}.")
    return {"deadline_ms": min(microseconds, 1000 * LATEST_MS) / 1000} if microseconds else {}


def _wanted(inference: InferRequest, served: ServedModel) -> list[tuple[str, bool, int]]:
    """Name of each requested output, whether it is binary, and the number of classes or 0."""
    known = list(_outputs(served))
    binary = bool(inference.parameters.get("binary_data_output", False))
    wanted = []
    for name, parameters in inference.outputs or [(name, {}) for name in known]:
        if name not in known:
            raise bad(f"Unknown output {shown(name)}. There are: {', '.join(known)}.")
        top = parameters.get("classification", 0)
        if type(top) is not int or top < 0 or (top and name != "logits"):
            raise bad("classification must be a number of classes, and of the output logits.")
        wanted.append((name, bool(parameters.get("binary_data", binary)), top))
    return wanted


def _pictures(inference: InferRequest, most: int) -> list[NDArray[np.uint8] | bytes]:
    if len(inference.inputs) != 1 or inference.inputs[0].name not in (PIXELS, IMAGE):
        raise bad(f"Give one input: {PIXELS} (UINT8) or {IMAGE} (BYTES, encoded pictures).")
    [tensor] = inference.inputs
    if not tensor.shape or not 1 <= tensor.shape[0] <= most:
        raise bad(f"A request must have 1 to {most} pictures; its shape is {list(tensor.shape)}.")
    if tensor.name == PIXELS:
        return list(tensor.pixels())
    if len(tensor.shape) > 2 or tensor.shape[1:] not in ((), (1,)):
        raise bad(f"The shape of {IMAGE} must be [n]; got {list(tensor.shape)}.")
    return list(tensor.strings())


def _check_sides(inference: InferRequest, served: ServedModel) -> None:
    size = served.model.preprocess.size
    [tensor] = inference.inputs
    if tensor.name == PIXELS and tensor.shape[1:] != (size, size, 3):
        raise bad(
            f"The shape of {PIXELS} must be [n, {size}, {size}, 3]; got {list(tensor.shape)}."
        )


async def _results(
    service: Service,
    served: ServedModel,
    names: set[str],
    pictures: list[NDArray[np.uint8] | bytes],
    deadline: float,
) -> dict[str, Array]:
    async def pixels(number: int, item: NDArray[np.uint8] | bytes) -> NDArray[np.uint8]:
        if not isinstance(item, bytes):
            return item
        if len(item) > service.settings.max_picture_bytes:
            most = service.settings.max_picture_bytes
            raise bad(f"Picture {number} has {len(item):,} bytes; at most {most:,} are allowed.")
        return (await service.decode(served, InputPicture(f"#{number}", item), deadline)).pixels

    batch = await together(pixels(number, item) for number, item in enumerate(pictures))
    answers = {
        name: await served.batcher.answers(KINDS[name], batch, deadline) for name in sorted(names)
    }
    outcome = {"model": served.name, "outcome": "answered"}
    service.metrics.count("convnext_pictures_total", len(batch), **outcome)
    return {name: np.stack([row[name] for row in found]) for name, found in answers.items()}


def _numbers(wanted: list[tuple[str, bool, int]], results: dict[str, Array]) -> int:
    numbers = 0
    for name, binary, top in wanted:
        pictures, width = results[name].shape
        if top:
            numbers += pictures * min(top, width) * NUMBERS_OF_CLASS
        elif not binary:
            numbers += pictures * width
    return numbers


def _answer(
    inference: InferRequest,
    served: ServedModel,
    wanted: list[tuple[str, bool, int]],
    results: dict[str, Array],
) -> Response:
    outputs, parts = [], []
    for name, binary, top in wanted:
        array = results[name]
        rows: Any = [_classified(served, row, top) for row in array] if top else array
        about: dict[str, Any] = {
            "name": name,
            "datatype": "BYTES" if top else "FP32",
            "shape": [len(rows), len(rows[0])],
        }
        if binary:
            parts.append(_as_bytes(rows, top))
            about["parameters"] = {"binary_data_size": len(parts[-1])}
            outputs.append(as_json(about))
        else:
            # One flat list of numbers, encoded row by row.
            data = (as_json(row if top else row.tolist())[1:-1] for row in rows)
            outputs.append(as_json(about, data=data))
    content = {"model_name": served.name, "model_version": str(served.version)}
    if inference.id is not None:
        content["id"] = inference.id
    head = as_bytes(as_json(content, outputs=outputs))
    if not parts:
        return Response(head, headers=NO_STORE, media_type="application/json")
    return Response(
        b"".join([head, *parts]),
        headers={**NO_STORE, HEADER_LENGTH: str(len(head))},
        media_type="application/octet-stream",
    )


def _classified(served: ServedModel, logits: Array, top: int) -> list[str]:
    ranked = replace(served.model.labels, thresholds=None)  # the protocol wants as many for each
    best = best_classes(logits, ranked, top)
    return [f"{float(logits[score.index]):f}:{score.index}:{score.label}" for score in best]


def _as_bytes(values: Any, top: int) -> bytes:
    if not top:
        return np.ascontiguousarray(values, "<f4").tobytes()
    texts = [text.encode() for row in values for text in row]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
