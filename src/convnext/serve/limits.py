"""Limits on the memory, time and sockets that clients can use: flag defaults and fixed limits."""

from __future__ import annotations

__all__ = [
    "BODY_SECONDS",
    "DEADLINE_SECONDS",
    "DRAIN_SECONDS",
    "FETCH_SECONDS",
    "HEADER_SECONDS",
    "IDLE_SECONDS",
    "LINGER_SECONDS",
    "MAX_BATCH",
    "MAX_BODY_BYTES",
    "MAX_BYTES_IN_FLIGHT",
    "MAX_CONNECTIONS",
    "MAX_EXPLAIN_SIDE",
    "MAX_HEADER_BYTES",
    "MAX_ID_LENGTH",
    "MAX_JSON_BYTES",
    "MAX_LABELS",
    "MAX_LABEL_LENGTH",
    "MAX_PICTURES",
    "MAX_PICTURE_BYTES",
    "MAX_PIPELINED",
    "MAX_PIXELS",
    "MAX_QUEUE",
    "MAX_WAIT_MS",
    "RELOAD_SECONDS",
    "SEND_STALL_SECONDS",
    "STALL_SECONDS",
]

MIB = 2**20

# Batching. On a CPU, a picture in a batch of eight is hardly faster than one alone, so by default a
# batch does not wait to fill: it takes the pictures that arrived during the previous batch.
MAX_BATCH = 8
MAX_WAIT_MS = 0.0
MAX_QUEUE = 64  # pictures of one model between being accepted and being answered
DEADLINE_SECONDS = 10.0  # from the end of a request's body to its answer

# One request.
MAX_BODY_BYTES = 32 * MIB
MAX_JSON_BYTES = 8 * MIB  # parsing holds Python's lock: 0.2 s for the worst of this length
MAX_PICTURES = 32
MAX_PICTURE_BYTES = 16 * MIB  # hostile files take 0.3 s of one processor a megabyte
MAX_PIXELS = 8192 * 6144  # decoding takes up to 16 bytes of memory each, in as many threads as run
MAX_ID_LENGTH = 256  # characters of a client's id for a picture
MAX_EXPLAIN_SIDE = 1024
MAX_LABELS = 100  # of classes named by a client: seconds of a text tower for as many long ones
MAX_LABEL_LENGTH = 100  # characters

# One connection.
MAX_PIPELINED = 16  # requests waiting behind the one being answered

# All requests of one process.
MAX_CONNECTIONS = 1024
MAX_BYTES_IN_FLIGHT = 256 * MIB  # of received bodies whose requests are not answered yet

# Time-outs for clients.
HEADER_SECONDS = 10.0  # to send a request's first line and headers
MAX_HEADER_BYTES = 32 * 2**10
BODY_SECONDS = 60.0  # to send a whole body
STALL_SECONDS = 10.0  # without sending a byte of the body
SEND_STALL_SECONDS = 20.0  # without reading a byte of the answer
IDLE_SECONDS = 15.0  # between two requests on one connection
LINGER_SECONDS = 2.0  # reading on after a body is refused, so that the client reads the error
FETCH_SECONDS = 5.0  # to download a picture by its URL

# The server itself.
DRAIN_SECONDS = 30.0  # to answer accepted requests after the server is stopped
RELOAD_SECONDS = 5.0  # between two checks of the model files
