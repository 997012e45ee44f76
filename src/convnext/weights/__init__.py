"""Find, download, load, convert and save weights, in every published layout."""
