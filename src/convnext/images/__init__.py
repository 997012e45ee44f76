"""Reading pictures, and their preprocessing."""
