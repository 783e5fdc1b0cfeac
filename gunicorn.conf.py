# gunicorn reads this file by itself where it is started: there is but one web server, however it is called.
from config.web.settings import *  # noqa: F403
