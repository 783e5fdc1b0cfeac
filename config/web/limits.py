"""How much and how long the web server waits for, whoever calls."""

# A body up to this long is read before it is known who calls. A longer one is read once the application has said that
# its caller may send it. Calls of the API that say nothing else take no longer one (`chatbots.api.views`).
SMALL_BODY_BYTES = 64 * 1024
# First line and headers together.
HEAD_BYTES = 32 * 1024

# From the first byte of a request, or the begin of a connection, to the end of its headers.
HEAD_SECONDS = 10
# Between two requests on one connection.
IDLE_SECONDS = 20
# For a body, and for an answer to be taken; a second more for each SLOWEST_BYTES that went over.
BODY_SECONDS = 20
SLOWEST_BYTES = 16 * 1024
# How long what a refused caller still sends is thrown away, so that they get to read why.
LINGER_SECONDS = 10
# How long a process that stops waits for a request on a connection that is open.
STOPPING_SECONDS = 2

# Of one process. When they are all taken, whoever has been sending a request for the longest time makes room.
CONNECTIONS = 500
# An answer of which more than this is not taken is kept on the disk.
ANSWER_BYTES_IN_MEMORY = 1024 * 1024
# Of all connections of a process together. Beyond it, who has taken nothing for the longest time is cut off.
UNREAD_BYTES_IN_MEMORY = 32 * 1024 * 1024
# So many requests may come on a connection before the first of them is answered.
AT_ONCE = 16
# So much of the answers to requests that came at once, and are not taken, ends the connection.
UNREAD_BYTES = 16 * 1024 * 1024
