"""Limits of the web server, for all clients."""

# Bodies up to this size are read before the caller is known, longer ones once the application permits it. It is also
# the default limit of API calls (`chatbots.api.views`).
SMALL_BODY_BYTES = 64 * 1024
# Request line and headers together.
HEAD_BYTES = 32 * 1024

# From the first byte of a request, or the start of a connection, to the end of the headers.
HEAD_SECONDS = 10
# Between two requests on one connection.
IDLE_SECONDS = 20
# For receiving a body, and for sending a response; one second more for each SLOWEST_BYTES transferred.
BODY_SECONDS = 20
SLOWEST_BYTES = 16 * 1024
# How long the rest of a refused request is discarded, so that the client can read the response.
LINGER_SECONDS = 10
# How long a stopping process waits for requests on open connections.
STOPPING_SECONDS = 2

# Per process. Beyond it, the connection that has been sending a request for the longest time is closed.
CONNECTIONS = 500
# The unread rest of a response beyond this is kept on disk.
ANSWER_BYTES_IN_MEMORY = 1024 * 1024
# Unread responses of all connections of a process. Beyond it, the connection idle for the longest time is closed.
UNREAD_BYTES_IN_MEMORY = 32 * 1024 * 1024
# The number of pipelined requests before the first is answered.
AT_ONCE = 16
# Unread responses to pipelined requests beyond this close the connection.
UNREAD_BYTES = 16 * 1024 * 1024
