"""`create_convnext_v1`, which is defined in `convnext.create`."""

from convnext.create import create_convnext_v1

__all__ = ["create_convnext_v1"]
