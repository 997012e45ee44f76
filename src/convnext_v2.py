"""The door `convnext_v2`: everything is in `convnext.create`."""

from convnext.create import create_convnext_v2

__all__ = ["create_convnext_v2"]
