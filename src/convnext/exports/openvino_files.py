"""OpenVINO's files, .xml and .bin: built from the weights by the graphs room, run by OpenVINO."""

from __future__ import annotations

from pathlib import Path

from convnext.engines.quantizing import calibration_of
from convnext.errors import ExportError
from convnext.exports.job import Answer, Array, Job
from convnext.graphs.openvino import Product, build, product
from convnext.graphs.untracked_openvino import core, ov
from convnext.int8.openvino import rounded

__all__ = ["RUNTIME", "opened", "write"]

RUNTIME = f"OpenVINO {ov.__version__.partition('-')[0]}"


def write(job: Job, target: Path) -> None:
    """Write the model."""
    linear: Product = product
    if job.precision == "int8":
        linear = rounded(calibration_of(job.network, job.calibration))
    model = build(
        job.network,
        (job.output,),
        input=job.dtype.name,  # type: ignore[arg-type]
        batch=job.batch,
        softmax=job.softmax,
        product=linear,
    )
    for name, value in job.network.weights.info.to_metadata().items():
        model.set_rt_info(value, name.split("."))
    try:
        ov.save_model(model, str(target), compress_to_fp16=job.precision == "float16")
    except RuntimeError as error:  # which says nothing of why: a full disk, most of all
        raise ExportError(
            f"OpenVINO could not write {target.name} ({error}). Is there room on the disk? Nothing "
            "was left behind."
        ) from error


def opened(job: Job, target: Path) -> Answer:
    """The files in OpenVINO, on the CPU in float32 wherever they do not say otherwise."""
    model = core().read_model(str(target))
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": ov.Type.f32})

    def answer(batch: Array) -> Array:
        values: Array = compiled([batch])[job.output]
        return values

    return answer
