"""Batches ahead of the step: which example comes when, read and augmented in processes."""
