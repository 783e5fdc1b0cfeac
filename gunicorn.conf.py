# gunicorn reads this file by itself where it is started.
logger_class = "config.web_logs.Logger"
