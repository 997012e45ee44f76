"""Several hosts and devices on one run."""
