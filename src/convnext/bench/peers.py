"""Others' ways to run the same weights, each as its users have it.

Every function here runs in a process of its own and imports its framework there. Pictures come
normalised and in the memory layout that each likes best; neither is timed.
"""

from __future__ import annotations

import importlib
import io
import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.bench.contenders import PEERS
from convnext.bench.material import Material
from convnext.bench.runners import Order, Runner
from convnext.errors import ArgumentError

__all__ = ["ADAPTERS"]

Logits = NDArray[np.float32]


def _keras_applications(material: Material, order: Order) -> Runner:
    """`predict`, as its users call it; the backend is chosen by the environment."""
    family = "ConvNeXt" if material.model.variant.family == "v1" else "ConvNeXtV2"
    name = f"{family}{material.model.variant.size.title().replace('Xl', 'XL')}"
    if order.name.endswith("jax"):
        _bind(order)
    import keras

    if not hasattr(keras.applications, name):
        raise ArgumentError(f"keras.applications has no {name}.")
    model = getattr(keras.applications, name)(
        weights=None,
        include_preprocessing=False,
        input_shape=(material.side, material.side, 3),
        classes=material.model.num_classes,
        classifier_activation=None,
    )
    model.load_weights(material.peer_weights("keras_applications"))
    run = partial(model.predict, batch_size=order.batch, verbose=0)
    return Runner(material.normalised, run, "float32")


def _bind(order: Order) -> None:
    """Leave this process as many processors as it may have threads: JAX takes all there are."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: order.use_threads])
    elif order.threads:
        raise ArgumentError("JAX takes every processor, and this system cannot withhold any.")


def _timm(material: Material, order: Order, *, compiled: bool = False) -> Runner:
    torch = _torch(order)
    model = _timm_model(material)
    if compiled:
        import torch._inductor.config as inductor

        inductor.freezing = True
        model = torch.compile(model.to(memory_format=torch.channels_last))
    return _torch_runner(material, order, model, lambda output: output, channels_last=compiled)


def _transformers(material: Material, order: Order) -> Runner:
    _torch(order)
    import transformers

    folder = material.peer_weights("huggingface").parent
    version = "V2" if material.model.variant.has_grn else ""
    kind = getattr(transformers, f"ConvNext{version}ForImageClassification")
    model = kind.from_pretrained(folder, local_files_only=True, dtype="float32").eval()
    return _torch_runner(material, order, model, lambda output: output.logits)


def _torch_runner(
    material: Material,
    order: Order,
    model: Any,
    logits: Callable[[Any], Any],
    *,
    channels_last: bool = False,
) -> Runner:
    import torch

    dtype = getattr(torch, order.precision)
    model = model.to(dtype)
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def ready(pixels: NDArray[np.uint8]) -> Any:
        tensor = torch.from_numpy(_channels_first(material, pixels))
        return tensor.to(dtype).contiguous(memory_format=layout)

    def run(tensor: Any) -> Logits:
        with torch.inference_mode():
            answer: Logits = logits(model(tensor)).float().numpy()
        return answer

    return Runner(ready, run, order.precision)


def _openvino_export(material: Material, order: Order, *, throughput: bool) -> Runner:
    if throughput and order.batch == 1:
        raise ArgumentError("With one picture at a time there is nothing to do in parallel.")
    torch = _torch(order)
    import openvino as ov

    pictures = 1 if throughput else order.batch
    shape = [pictures, 3, material.side, material.side]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ov.convert_model(
            _timm_model(material), example_input=torch.zeros(shape), input=shape
        )
    rest = order.precision
    if rest == "int8":
        model = _rounded_by_nncf(model, material, pictures)
        able = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        rest = "bfloat16" if "BF16" in able else "float32"
    properties = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[rest],
        "PERFORMANCE_HINT": "THROUGHPUT" if throughput else "LATENCY",
        "INFERENCE_NUM_THREADS": order.use_threads,
    }
    compiled = ov.Core().compile_model(model, "CPU", properties)
    run = _in_parallel(compiled) if throughput else _at_once(compiled)
    return Runner(partial(_channels_first, material), run, order.precision)


def _rounded_by_nncf(model: Any, material: Material, batch: int) -> Any:
    """OpenVINO's own way to eight bits, for a graph that takes so many pictures."""
    try:
        nncf: Any = importlib.import_module("nncf")
    except ImportError as error:
        raise ArgumentError("It needs NNCF for int8: pip install nncf.") from error
    pictures = _channels_first(material, material.calibration_pictures)
    return nncf.quantize(
        model,
        nncf.Dataset([np.repeat(picture[None], batch, axis=0) for picture in pictures]),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(pictures),
    )


def _at_once(compiled: Any) -> Callable[[Any], Logits]:
    request = compiled.create_infer_request()

    def run(pictures: Logits) -> Logits:
        request.infer([pictures], share_inputs=True)
        answer: Logits = request.output_tensors[0].data.copy()
        return answer

    return run


def _in_parallel(compiled: Any) -> Callable[[Any], Logits]:
    """Pictures one by one, as many at a time as OpenVINO finds best."""
    import openvino as ov

    queue = ov.AsyncInferQueue(compiled)
    answers: dict[int, Logits] = {}

    def keep(request: Any, position: int) -> None:
        answers[position] = request.output_tensors[0].data[0].copy()

    queue.set_callback(keep)

    def run(pictures: Logits) -> Logits:
        for position in range(len(pictures)):
            queue.start_async([pictures[position : position + 1]], position)
        queue.wait_all()
        return np.stack([answers[position] for position in range(len(pictures))])

    return run


def _onnxruntime_export(material: Material, order: Order) -> Runner:
    torch = _torch(order)
    import onnxruntime as ort

    model = _timm_model(material, conv_mlp=True)
    example = torch.zeros(order.batch, 3, material.side, material.side)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (example,), file, dynamo=False, input_names=["pictures"])
    options = ort.SessionOptions()
    options.intra_op_num_threads = order.use_threads
    session = ort.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])

    def run(pictures: Logits) -> Logits:
        answer: Logits = session.run(None, {"pictures": pictures})[0]
        return answer

    return Runner(partial(_channels_first, material), run, "float32")


def _timm_model(material: Material, *, conv_mlp: bool | None = None) -> Any:
    """The model of timm: with linear layers or 1x1 convolutions as there, or as asked for."""
    from safetensors.torch import load_file
    from timm.models.convnext import ConvNeXt

    state = load_file(material.peer_weights("timm"))
    if conv_mlp is None:
        conv_mlp = state["stages.0.blocks.0.mlp.fc1.weight"].ndim == 4
    variant = material.model.variant
    model = ConvNeXt(
        num_classes=material.model.num_classes,
        depths=variant.depths,
        dims=variant.dims,
        use_grn=variant.has_grn,
        ls_init_value=1.0 if "stages.0.blocks.0.gamma" in state else None,
        conv_mlp=conv_mlp,
    )
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    model.load_state_dict({name: value.reshape(shapes[name]) for name, value in state.items()})
    return model.eval()


_declared: list[object] = []


def _torch(order: Order) -> Any:
    """PyTorch with its threads set, and torchvision able to import beside it.

    timm and transformers need only torchvision's transforms, but its import fails where its
    compiled operators do not match PyTorch. Declaring two of them is enough.
    """
    import torch

    torch.set_num_threads(order.use_threads)
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return torch
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
    return torch


def _channels_first(material: Material, pixels: NDArray[np.uint8]) -> Logits:
    return np.ascontiguousarray(material.normalised(pixels).transpose(0, 3, 1, 2))


ADAPTERS: Mapping[str, Callable[[Material, Order], Runner]] = {
    **{name: _keras_applications for name in PEERS if name.startswith("keras.applications:")},
    "timm": _timm,
    "timm-compile": partial(_timm, compiled=True),
    "transformers": _transformers,
    "openvino-export:latency": partial(_openvino_export, throughput=False),
    "openvino-export:throughput": partial(_openvino_export, throughput=True),
    "onnxruntime-export": _onnxruntime_export,
}
"""What opens each of `PEERS`."""
