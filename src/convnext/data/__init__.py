"""Labelled data sets: from a path or URL to pictures and labels by number. Knows no model."""
