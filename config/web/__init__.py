"""The web server: gunicorn's processes, each with waitress inside (ADR 0032).

One thread of a process reads requests and writes responses for all connections. The others run the application, for
complete requests only, so that a slow client occupies a connection for a bounded time, and never a thread.
"""
