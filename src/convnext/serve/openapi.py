"""The server's OpenAPI 3.1 description, with types and examples.

It is written by hand because frameworks cannot derive bodies of three forms from signatures; a test
validates real answers against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from convnext import __version__
from convnext.serve.answers import CLASSIFY_OPTIONS, EMBED_OPTIONS, EXPLAIN_OPTIONS, SEGMENT_OPTIONS
from convnext.serve.limits import MAX_ID_LENGTH
from convnext.serve.options import OPTIONS
from convnext.serve.problems import PROBLEM_JSON
from convnext.serve.settings import ANSWERS, Settings

__all__ = ["openapi"]

Schema = dict[str, Any]

# A red pixel as PNG, for a working example.
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


def _object(required: Iterable[str] = (), **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


STRING: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
MAYBE_STRING: Schema = {"type": ["string", "null"]}
ERROR = _object(["code", "detail"], code=STRING, detail=STRING)
TENSOR_PARAMETERS: Schema = {"type": "object"}


def _schemas() -> dict[str, Schema]:
    score = _object(
        ["label", "index", "probability"],
        label=STRING,
        wnid=STRING,
        index=WHOLE,
        probability={"type": "number", "minimum": 0, "maximum": 1},
    )
    area = _object(
        ["label", "index", "colour", "pixels", "share"],
        label=STRING,
        index=WHOLE,
        colour={"type": "string", "pattern": "^#[0-9a-f]{6}$"},
        pixels=WHOLE,
        share={"type": "number", "minimum": 0, "maximum": 1},
    )
    name = {"type": "string", "maxLength": MAX_ID_LENGTH}
    picture = {
        "description": "A picture in base64, optionally with an id, or its URL.",
        "oneOf": [
            {"type": "string", "contentEncoding": "base64"},
            _object(["data"], data={"type": "string", "contentEncoding": "base64"}, id=name),
            _object(["url"], url={"type": "string", "format": "uri"}, id=name),
        ],
    }
    answered = {"model": STRING, "version": WHOLE, "milliseconds": NUMBER}
    vector = {"oneOf": [_array(NUMBER), {"type": "string", "contentEncoding": "base64"}]}
    model = _object(
        ["name", "state", "error"],
        name=STRING,
        state={"type": "string", "enum": ["loading", "ready", "failed"]},
        error=MAYBE_STRING,
        version=WHOLE,
        variant=STRING,
        licence=MAYBE_STRING,
        notice=MAYBE_STRING,
        engine=STRING,
        precision=STRING,
        size=WHOLE,
        classes=WHOLE,
        multi_label={"type": "boolean"},
        vector=WHOLE,
        answers=_array({"type": "string", "enum": list(ANSWERS)}),
        load_seconds=NUMBER,
    )
    tensor = _object(
        ["name", "datatype", "shape"],
        name=STRING,
        datatype={"type": "string", "enum": ["UINT8", "FP32", "BYTES"]},
        shape=_array({"type": "integer", "minimum": -1}),
        data={"type": "array"},
        parameters=TENSOR_PARAMETERS,
    )
    output = _object(["name"], name=STRING, parameters=TENSOR_PARAMETERS)
    return {
        "Score": score,
        "Area": area,
        "Picture": picture,
        "Model": model,
        "Models": _object(["models"], models=_array(_ref("Model"))),
        "Classes": _object(
            ["model", "version", "milliseconds", "pictures"],
            **answered,
            pictures=_array(_object(["id"], id=STRING, classes=_array(_ref("Score")), error=ERROR)),
        ),
        "ClassMaps": _object(
            ["model", "version", "milliseconds", "pictures"],
            **answered,
            pictures=_array(
                _object(
                    ["id"],
                    id=STRING,
                    width=WHOLE,
                    height=WHOLE,
                    areas=_array(_ref("Area")),
                    mask={
                        "type": "string",
                        "contentEncoding": "base64",
                        "contentMediaType": "image/png",
                        "description": "The class number of each pixel, with a palette.",
                    },
                    error=ERROR,
                )
            ),
        ),
        "Vectors": _object(
            ["model", "version", "milliseconds", "pictures"],
            **answered,
            pictures=_array(_object(["id"], id=STRING, vector=vector, error=ERROR)),
        ),
        "Problem": {
            **_object(
                ["type", "title", "status", "code", "detail", "error"],
                type=STRING,
                title=STRING,
                status=WHOLE,
                code=STRING,
                detail=STRING,
                error=STRING,
                number=STRING,
            ),
            "description": "RFC 9457; error repeats detail for the Open Inference Protocol.",
        },
        "Health": _object(["status"], status=STRING, models={"type": "object"}),
        "Tensor": tensor,
        "InferRequest": _object(
            ["inputs"],
            id=STRING,
            inputs=_array(_ref("Tensor"), minItems=1),
            outputs=_array(output),
            parameters=TENSOR_PARAMETERS,
        ),
        "InferResponse": _object(
            ["model_name", "model_version", "outputs"],
            model_name=STRING,
            model_version=STRING,
            id=STRING,
            outputs=_array(_ref("Tensor")),
        ),
        "ModelMetadata": _object(
            ["name", "versions", "platform", "inputs", "outputs"],
            name=STRING,
            versions=_array(STRING),
            platform=STRING,
            inputs=_array(_ref("Tensor")),
            outputs=_array(_ref("Tensor")),
        ),
        "ServerMetadata": _object(
            ["name", "version", "extensions"],
            name=STRING,
            version=STRING,
            extensions=_array(STRING),
        ),
        "Index": _array(
            _object(
                ["name", "version", "state", "reason"],
                name=STRING,
                version=STRING,
                state=STRING,
                reason=STRING,
            )
        ),
    }


def _body(settings: Settings, options: Iterable[str], many: bool) -> Schema:
    picture: Schema = {"type": "string", "format": "binary"}
    most = settings.max_pictures if many else 1
    known = {name: dict(OPTIONS[name].schema) for name in options}
    pictures = _array(_ref("Picture"), minItems=1, maxItems=most)
    example: Schema = {"pictures": [{"data": PIXEL, "id": "red"}]}
    return {
        "required": True,
        "description": f"At most {settings.max_body_bytes:,} bytes, {settings.max_json_bytes:,} "
        f"of JSON; a picture at most {settings.max_picture_bytes:,} bytes and "
        f"{settings.max_pixels:,} pixels.",
        "content": {
            "application/json": {
                "schema": _object(["pictures"], pictures=pictures, **known),
                "examples": {"one": {"value": example}},
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"picture": _array(picture, maxItems=most), **known},
                },
            },
            "image/*": {"schema": picture},
            "application/octet-stream": {"schema": picture},
        },
    }


def _problems(*more: int) -> Schema:
    texts = {
        400: "The request is invalid.",
        401: "A valid token is needed.",
        403: "Not allowed.",
        404: "There is no such model.",
        408: "The body arrived too slowly.",
        413: "Too large, or too many pictures.",
        415: "The Content-Type is not supported.",
        421: "The Host is not a name of this server.",
        422: "The picture cannot be read.",
        500: "Internal error.",
        503: "Not ready or overloaded: Retry-After says when to try again.",
    }
    content = {PROBLEM_JSON: {"schema": _ref("Problem")}}
    found: Schema = {}
    for status in sorted({401, 403, 421, 500, *more}):
        found[str(status)] = {"description": texts[status], "content": content}
        if status == 503:
            found["503"]["headers"] = {"Retry-After": {"schema": WHOLE, "description": "Seconds."}}
    return found


def _get(summary: str, schema: str | None, *problems: int, example: Any = None) -> Schema:
    ok: Schema = {"description": "OK."}
    if schema:
        content: Schema = {"schema": _ref(schema)}
        if example is not None:
            content["example"] = example
        ok = {"description": summary, "content": {"application/json": content}}
    return {"summary": summary, "responses": {"200": ok, **_problems(*problems)}}


def _post(
    settings: Settings, summary: str, options: tuple[str, ...], answer: Schema, many: bool = True
) -> Schema:
    parameters = [
        {
            "name": name,
            "in": "query",
            "description": OPTIONS[name].help,
            "schema": dict(OPTIONS[name].schema),
            # A list has commas between its items.
            **({"explode": False} if OPTIONS[name].schema["type"] == "array" else {}),
        }
        for name in options
    ]
    responses = {"200": {"description": summary, "content": answer}}
    return {
        "summary": summary,
        "parameters": parameters,
        "requestBody": _body(settings, options, many),
        "responses": {**responses, **_problems(400, 404, 408, 413, 415, 422, 503)},
    }


def _json(schema: str, example: Any) -> Schema:
    return {"application/json": {"schema": _ref(schema), "example": example}}


def openapi(settings: Settings) -> Schema:
    """The OpenAPI description of a server with these settings."""
    answered = {"model": "convnext_tiny.fb_in1k", "version": 1, "milliseconds": 31.4}
    score = {"label": "tabby, tabby cat", "wnid": "n02123045", "index": 281, "probability": 0.71}
    classes = {**answered, "pictures": [{"id": "cat.jpg", "classes": [score]}]}
    vectors = {**answered, "pictures": [{"id": "cat.jpg", "vector": [0.12, -0.5]}]}
    area = {"label": "sky", "index": 2, "colour": "#06e6e6", "pixels": 1, "share": 1.0}
    shape = {"id": "street.jpg", "width": 1, "height": 1}
    class_maps = {**answered, "pictures": [{**shape, "areas": [area], "mask": PIXEL}]}
    name = {"name": "name", "in": "path", "required": True, "schema": STRING}
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [1, 224, 224, 3]}
    logits = {"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -1.25]}
    inferred = {"model_name": "convnext_tiny.fb_in1k", "model_version": "1", "outputs": [logits]}
    octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    infer = {
        "summary": "Inference. With Inference-Header-Content-Length, binary data follows the JSON.",
        "parameters": [
            name,
            {"name": "Inference-Header-Content-Length", "in": "header", "schema": WHOLE},
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _ref("InferRequest"),
                    "example": {"inputs": [{**pixels, "parameters": {"binary_data_size": 150528}}]},
                },
                **octets,
            },
        },
        "responses": {
            "200": {
                "description": "The outputs.",
                "content": {**_json("InferResponse", inferred), **octets},
            },
            **_problems(400, 404, 408, 413, 415, 422, 503),
        },
    }
    png = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
    paths: dict[str, Schema] = {
        "/healthz": {
            "get": _get("Whether the process is alive.", "Health", example={"status": "ok"})
        },
        "/readyz": {"get": _get("Whether models are loaded and warmed.", "Health", 503)},
        "/metrics": {
            "get": {
                "summary": "Metrics of all workers, in Prometheus' text format.",
                "responses": {
                    "200": {"description": "Text.", "content": {"text/plain": {"schema": STRING}}},
                    **_problems(),
                },
            }
        },
        "/v1/models": {"get": _get("The models and their states.", "Models")},
        "/v1/classify": {
            "post": _post(
                settings,
                "The most probable classes of each picture, or of a multi-label model its labels.",
                CLASSIFY_OPTIONS,
                _json("Classes", classes),
            )
        },
        "/v1/embed": {
            "post": _post(
                settings,
                "The embedding vector of each picture.",
                EMBED_OPTIONS,
                _json("Vectors", vectors),
            )
        },
        "/v1/explain": {
            "post": _post(
                settings,
                "The heat map of a class over one picture, as PNG: exact Grad-CAM.",
                EXPLAIN_OPTIONS,
                png,
                many=False,
            )
        },
        "/v1/segment": {
            "post": _post(
                settings,
                "How much of each picture each class covers, and the class of each pixel as a PNG "
                "in base64; of one picture also as PNG, for Accept: image/png.",
                SEGMENT_OPTIONS,
                {**_json("ClassMaps", class_maps), **png},
            )
        },
        "/v2": {"get": _get("Open Inference Protocol: the server.", "ServerMetadata")},
        "/v2/health/live": {"get": _get("Whether the process is alive.", None)},
        "/v2/health/ready": {"get": _get("Whether models are ready.", None, 503)},
        "/v2/repository/index": {"post": _get("Every model and its state.", "Index")},
        "/v2/models/{name}": {
            "get": {
                **_get("A model's inputs and outputs.", "ModelMetadata", 404, 503),
                "parameters": [name],
            }
        },
        "/v2/models/{name}/ready": {
            "get": {**_get("Whether a model is ready.", None, 404, 503), "parameters": [name]}
        },
        "/v2/models/{name}/infer": {"post": infer},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ConvNeXt",
            "version": __version__,
            "summary": "Image classification, segmentation, embeddings and explanations.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        **({"security": [{"token": []}]} if settings.tokens else {}),
    }
