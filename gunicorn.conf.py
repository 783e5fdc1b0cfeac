# gunicorn reads this file by itself where it is started: there is but one web server, however it is called.
from config.web_server import *  # noqa: F403
