"""Classification over HTTP: a server with bounded everything, and a page for people.

`convnext serve` is the usual door. From Python, `Settings` says what is wanted and `serve` runs
until it is told to stop; both are imported from their modules, because a web framework comes along.
"""
