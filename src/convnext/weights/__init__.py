"""Published weights in, every layout out."""
