"""Runners of other libraries on the same weights, called as their users call them.

Each runs in a process of its own and imports its framework there. Pictures are normalised and in
the library's preferred memory layout before timing starts.
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
from convnext.bench.runners import Runner, RunnerOptions
from convnext.errors import ArgumentError

__all__ = ["ADAPTERS"]

Logits = NDArray[np.float32]


def _keras_applications(material: Material, options: RunnerOptions) -> Runner:
    """`predict` of the Keras model; the environment sets the backend."""
    family = "ConvNeXt" if material.model.variant.family == "v1" else "ConvNeXtV2"
    name = f"{family}{material.model.variant.size.title().replace('Xl', 'XL')}"
    if options.name.endswith("jax"):
        _bind(options)
    import keras

    if not hasattr(keras.applications, name):
        raise ArgumentError(f"keras.applications has no {name}. Leave it out for this model.")
    model = getattr(keras.applications, name)(
        weights=None,
        include_preprocessing=False,
        input_shape=(material.side, material.side, 3),
        classes=material.model.num_classes,
        classifier_activation=None,
    )
    model.load_weights(material.peer_weights("keras_applications"))
    run = partial(model.predict, batch_size=options.batch, verbose=0)
    return Runner(material.normalised, run, "float32")


def _bind(options: RunnerOptions) -> None:
    """Limit this process to as many processors as threads, since JAX uses all of them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.use_threads])
    elif options.threads:
        raise ArgumentError(
            "JAX uses every processor, and this system cannot limit them. Leave out threads."
        )


def _timm(material: Material, options: RunnerOptions, *, compiled: bool = False) -> Runner:
    torch = _torch(options)
    model = _timm_model(material)
    if compiled:
        import torch._inductor.config as inductor

        inductor.freezing = True
        model = torch.compile(model.to(memory_format=torch.channels_last))
    return _torch_runner(material, options, model, lambda output: output, channels_last=compiled)


def _transformers(material: Material, options: RunnerOptions) -> Runner:
    _torch(options)
    import transformers

    folder = material.peer_weights("huggingface").parent
    version = "V2" if material.model.variant.has_grn else ""
    kind = getattr(transformers, f"ConvNext{version}ForImageClassification")
    model = kind.from_pretrained(folder, local_files_only=True, dtype="float32").eval()
    return _torch_runner(material, options, model, lambda output: output.logits)


def _torch_runner(
    material: Material,
    options: RunnerOptions,
    model: Any,
    logits: Callable[[Any], Any],
    *,
    channels_last: bool = False,
) -> Runner:
    import torch

    dtype = getattr(torch, options.precision)
    model = model.to(dtype)
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def ready(pixels: NDArray[np.uint8]) -> Any:
        tensor = torch.from_numpy(_channels_first(material, pixels))
        return tensor.to(dtype).contiguous(memory_format=layout)

    def run(tensor: Any) -> Logits:
        with torch.inference_mode():
            answer: Logits = logits(model(tensor)).float().numpy()
        return answer

    return Runner(ready, run, options.precision)


def _openvino_export(material: Material, options: RunnerOptions, *, throughput: bool) -> Runner:
    if throughput and options.batch == 1:
        raise ArgumentError("Throughput needs a batch of 2 pictures or more.")
    torch = _torch(options)
    import openvino as ov

    pictures = 1 if throughput else options.batch
    shape = [pictures, 3, material.side, material.side]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ov.convert_model(
            _timm_model(material), example_input=torch.zeros(shape), input=shape
        )
    rest = options.precision
    if rest == "int8":
        model = _rounded_by_nncf(model, material, pictures)
        able = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        rest = "bfloat16" if "BF16" in able else "float32"
    properties = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[rest],
        "PERFORMANCE_HINT": "THROUGHPUT" if throughput else "LATENCY",
        "INFERENCE_NUM_THREADS": options.use_threads,
    }
    compiled = ov.Core().compile_model(model, "CPU", properties)
    run = _in_parallel(compiled) if throughput else _one_batch(compiled)
    return Runner(partial(_channels_first, material), run, options.precision)


def _rounded_by_nncf(model: Any, material: Material, batch: int) -> Any:
    """Round a graph of this batch size to int8 with NNCF, OpenVINO's tool."""
    try:
        nncf: Any = importlib.import_module("nncf")
    except ImportError as error:
        raise ArgumentError("int8 needs NNCF: pip install nncf.") from error
    pictures = _channels_first(material, material.calibration_pictures)
    return nncf.quantize(
        model,
        nncf.Dataset([np.repeat(picture[None], batch, axis=0) for picture in pictures]),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(pictures),
    )


def _one_batch(compiled: Any) -> Callable[[Any], Logits]:
    request = compiled.create_infer_request()

    def run(pictures: Logits) -> Logits:
        request.infer([pictures], share_inputs=True)
        answer: Logits = request.output_tensors[0].data.copy()
        return answer

    return run


def _in_parallel(compiled: Any) -> Callable[[Any], Logits]:
    """Compute pictures one by one, with OpenVINO's number of parallel requests."""
    import openvino as ov

    queue = ov.AsyncInferQueue(compiled)
    answers: dict[int, Logits] = {}

    def keep(request: Any, index: int) -> None:
        answers[index] = request.output_tensors[0].data[0].copy()

    queue.set_callback(keep)

    def run(pictures: Logits) -> Logits:
        for index in range(len(pictures)):
            queue.start_async([pictures[index : index + 1]], index)
        queue.wait_all()
        return np.stack([answers[index] for index in range(len(pictures))])

    return run


def _onnxruntime_export(material: Material, options: RunnerOptions) -> Runner:
    torch = _torch(options)
    import onnxruntime as ort

    model = _timm_model(material, conv_mlp=True)
    example = torch.zeros(options.batch, 3, material.side, material.side)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (example,), file, dynamo=False, input_names=["pictures"])
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = options.use_threads
    session = ort.InferenceSession(
        file.getvalue(), session_options, providers=["CPUExecutionProvider"]
    )

    def run(pictures: Logits) -> Logits:
        answer: Logits = session.run(None, {"pictures": pictures})[0]
        return answer

    return Runner(partial(_channels_first, material), run, "float32")


def _timm_model(material: Material, *, conv_mlp: bool | None = None) -> Any:
    """Load the weights into timm's model; without `conv_mlp`, their shapes decide it."""
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


def _torch(options: RunnerOptions) -> Any:
    """Import PyTorch, set its threads, and make torchvision importable.

    timm and transformers need only torchvision's transforms, but its import fails if its compiled
    operators do not match PyTorch. Declaring two of them is enough.
    """
    import torch

    torch.set_num_threads(options.use_threads)
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


ADAPTERS: Mapping[str, Callable[[Material, RunnerOptions], Runner]] = {
    **{name: _keras_applications for name in PEERS if name.startswith("keras.applications:")},
    "timm": _timm,
    "timm-compile": partial(_timm, compiled=True),
    "transformers": _transformers,
    "openvino-export:latency": partial(_openvino_export, throughput=False),
    "openvino-export:throughput": partial(_openvino_export, throughput=True),
    "onnxruntime-export": _onnxruntime_export,
}
"""Functions that load each of `PEERS`."""
