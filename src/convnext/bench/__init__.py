"""How fast, how large and how exact: our engines beside each other and beside our peers."""
