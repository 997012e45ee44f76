"""The server that most people would write: FastAPI, an upload, timm on PyTorch.

What `serving.py` compares with. It answers one picture at a time, each in a thread of FastAPI's
pool, and bounds nothing.

    python benchmarks/plain_server.py FOLDER PRECISION PORT
"""

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, UploadFile
from loading import torch_with_torchvision
from PIL import Image
from safetensors.torch import load_file

from convnext import VARIANTS

torch = torch_with_torchvision()

from timm.data import create_transform  # noqa: E402 - after torchvision can be imported
from timm.models.convnext import ConvNeXt  # noqa: E402


def build(folder: Path, dtype: torch.dtype) -> FastAPI:
    variant = VARIANTS[(folder / "variant").read_text()]
    state = load_file(folder / "timm.safetensors")
    model = ConvNeXt(
        depths=variant.depths,
        dims=variant.dims,
        use_grn=variant.has_grn,
        ls_init_value=variant.layer_scale_init_value,
        conv_mlp=state["stages.0.blocks.0.mlp.fc1.weight"].ndim == 4,
    ).eval()
    model.load_state_dict(state)
    model = model.to(dtype)
    transform = create_transform(224, interpolation="bicubic", crop_pct=0.875)
    app = FastAPI()

    @app.get("/readyz")
    def ready() -> dict:
        return {}

    @app.post("/classify")
    def classify(picture: UploadFile) -> dict:
        image = Image.open(picture.file).convert("RGB")
        with torch.inference_mode():
            logits = model(transform(image)[None].to(dtype))
        best = logits.float().softmax(-1)[0].topk(5)
        return {"classes": best.indices.tolist(), "probabilities": best.values.tolist()}

    return app


if __name__ == "__main__":
    folder, precision, port = sys.argv[1:]
    app = build(Path(folder), getattr(torch, precision))
    uvicorn.run(app, port=int(port), log_level="warning", access_log=False)
