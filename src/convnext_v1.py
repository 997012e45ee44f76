"""The door `convnext_v1`: everything is in `convnext.create`."""

from convnext.create import create_convnext_v1

__all__ = ["create_convnext_v1"]
