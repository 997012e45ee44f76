"""What a request may cost at most: the defaults of the flags, and the limits that have no flag.

Why it exists: every one of these numbers bounds memory, time or sockets that a stranger can take.
They stand together so that it can be seen what all of them come to.
"""

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

# Batching. On a CPU a batch of eight is hardly faster for each picture than one, so that nothing is
# waited for unless asked: a batch is whatever came while the one before was computed.
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
MAX_ID_LENGTH = 256  # characters of what a client calls a picture
MAX_EXPLAIN_SIDE = 1024

# One connection.
MAX_PIPELINED = 16  # requests that wait behind the one that is answered

# All requests of one process.
MAX_CONNECTIONS = 1024
MAX_BYTES_IN_FLIGHT = 256 * MIB  # of bodies that have arrived and are not answered yet

# Time that a client may take.
HEADER_SECONDS = 10.0  # for a request's first line and headers
MAX_HEADER_BYTES = 32 * 2**10
BODY_SECONDS = 60.0  # for a whole body
STALL_SECONDS = 10.0  # without a byte of it
SEND_STALL_SECONDS = 20.0  # without taking a byte of the answer
IDLE_SECONDS = 15.0  # between two requests on one connection
LINGER_SECONDS = 2.0  # for the rest of a body that is refused, so that the refusal can be read
FETCH_SECONDS = 5.0  # for a picture that is named by its URL

# The server itself.
DRAIN_SECONDS = 30.0  # for what is accepted when the server is told to stop
RELOAD_SECONDS = 5.0  # between two looks at the models' files
