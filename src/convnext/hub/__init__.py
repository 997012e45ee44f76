"""Door: the ConvNeXt collection of TF-Hub, and in the same contract what it never had.

    from convnext import hub
    hub.list_modules("convnextv2_*")
    model = hub.load("https://tfhub.dev/sayakpaul/convnext_tiny_1k_224/1", trainable=False)

A module takes pictures as float32, channels last, of one size, already normalised with ImageNet's
mean and deviation. It gives logits, or as a feature extractor (`..._fe`) the layer-normalised mean
of the last feature map.

`collection` holds the modules as data, `loading` makes Keras models of them, `publishing` writes
them as SavedModels, with the `pages` that describe them. Nothing here imports Keras before a module
is loaded.
"""

from convnext.hub.collection import MODULES, HubModule, get_module, list_modules
from convnext.hub.loading import load

__all__ = ["MODULES", "HubModule", "get_module", "list_modules", "load"]
