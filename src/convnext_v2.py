"""`create_convnext_v2`, which is defined in `convnext.create`."""

from convnext.create import create_convnext_v2

__all__ = ["create_convnext_v2"]
