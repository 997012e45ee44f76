"""A run: the loop, its state on disk, its metrics, and the folder of its result."""
