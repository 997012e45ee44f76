"""The ConvNeXt collection of TF-Hub, and further modules with the same interface.

    from convnext import hub
    hub.list_modules("convnextv2_*")
    model = hub.load("https://tfhub.dev/sayakpaul/convnext_tiny_1k_224/1", trainable=False)

A module takes float32 pictures of one size, channels last, normalised with ImageNet's mean and
standard deviation. Its output is logits or, of a feature extractor (`..._fe`), the layer-normalised
mean of the last feature map.

`collection` lists the modules, `loading` makes Keras models of them, and `publishing` writes
SavedModels and their `pages`. Keras is imported only when a module is loaded.
"""

from convnext.hub.collection import MODULES, HubModule, get_module, list_modules
from convnext.hub.loading import load

__all__ = ["MODULES", "HubModule", "get_module", "list_modules", "load"]
