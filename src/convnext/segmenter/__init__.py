"""The class of each pixel of a picture."""
