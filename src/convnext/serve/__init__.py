"""Classification over HTTP: a server with limits on every resource, and a web page.

Usually started by `convnext serve`. From Python, `workers.serve` runs a server with given
`settings.Settings` until it is stopped.
"""
