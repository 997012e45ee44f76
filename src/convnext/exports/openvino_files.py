"""Write OpenVINO's .xml and .bin with `convnext.graphs.openvino`, and run them in OpenVINO."""

from __future__ import annotations

from pathlib import Path

from convnext.engines.quantizing import calibration_of
from convnext.errors import ExportError
from convnext.exports.spec import Array, ExportSpec, Predict
from convnext.graphs.openvino import Product, build, product
from convnext.graphs.untracked_openvino import core, ov
from convnext.int8.openvino import rounded

__all__ = ["RUNTIME", "opened", "write"]

RUNTIME = f"OpenVINO {ov.__version__.partition('-')[0]}"


def write(spec: ExportSpec, target: Path) -> None:
    """Write the model."""
    linear: Product = product
    if spec.precision == "int8":
        linear = rounded(calibration_of(spec.network, spec.calibration))
    model = build(
        spec.network,
        (spec.output,),
        input=spec.dtype.name,  # type: ignore[arg-type]
        batch=spec.batch,
        softmax=spec.softmax,
        product=linear,
    )
    for name, value in spec.network.weights.info.to_metadata().items():
        model.set_rt_info(value, name.split("."))
    try:
        ov.save_model(model, str(target), compress_to_fp16=spec.precision == "float16")
    except RuntimeError as error:  # without a reason; mostly a full disk
        raise ExportError(
            f"OpenVINO could not write {target.name} ({error}). Free space on the disk. Nothing "
            "was kept."
        ) from error


def opened(spec: ExportSpec, target: Path) -> Predict:
    """Load the files in OpenVINO, on the CPU, in float32 except where they are int8."""
    model = core().read_model(str(target))
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": ov.Type.f32})

    def answer(batch: Array) -> Array:
        values: Array = compiled([batch])[spec.output]
        return values

    return answer
