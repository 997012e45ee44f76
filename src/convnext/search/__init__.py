"""Search among stored vectors, exactly: the files of `convnext embed`, read in pieces."""

from convnext.search.files import Vectors, open_vectors
from convnext.search.nearest import Hit, Pair, near_duplicates, nearest

__all__ = ["Hit", "Pair", "Vectors", "near_duplicates", "nearest", "open_vectors"]
