"""Settings: one file, every value from the environment (see docs/operating.md for the list).

With neither `DATABASE_URL` nor `SECRET_KEY` this is a development copy: DEBUG is on, keys are made once
into `VAR_DIR/keys.env`, and PostgreSQL and an S3 server run embedded under `VAR_DIR`. Importing this
module starts nothing: `devservers.control.start()` does, from the entry points.
"""

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from marshmallow.validate import OneOf, Range, Regexp

from config.env import BASE_DIR, development_keys, env
from config.openapi.document import SPECTACULAR_SETTINGS  # noqa: F401  drf-spectacular reads it
from devservers import control

# --- What kind of copy this is -----------------------------------------------------------------------

VAR_DIR = Path(env.str("VAR_DIR", str(BASE_DIR / "var"))).resolve()
DEVELOPMENT = not (env.str("DATABASE_URL", "") or env.str("SECRET_KEY", ""))
EMBEDDED_POSTGRES = not env.str("DATABASE_URL", "")
EMBEDDED_S3 = DEVELOPMENT and not env.str("S3_ENDPOINT_URL", "") and not env.str("S3_ACCESS_KEY_ID", "")
_made_here = development_keys(VAR_DIR) if DEVELOPMENT else []

DEBUG = env.bool("DEBUG", DEVELOPMENT)
SECRET_KEY = env.str("SECRET_KEY")
_local_hosts = ["localhost", "127.0.0.1", "[::1]"]
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", _local_hosts) if DEVELOPMENT else env.list("ALLOWED_HOSTS")
PORT = env.int("PORT", 8000, validate=Range(1, 65535))

# `0.0.0.0:8000` for all networks, `unix:/run/web.sock` for a socket, several separated by commas.
WEB_BIND = env.list("WEB_BIND", [f"127.0.0.1:{PORT}"])
WEB_WORKERS = env.int("WEB_WORKERS", 2, validate=Range(1, 64))
WEB_THREADS = env.int("WEB_THREADS", 4, validate=Range(1, 64))

# AES-256-GCM keys for secrets at rest, newest first; HMAC key for digests, which never rotates.
ENCRYPTION_KEYS: dict[str, bytes] = env.key_ring("ENCRYPTION_KEYS")
DIGEST_KEY: bytes = env.single_key("DIGEST_KEY")

# --- Django ------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "accounts",
    "chatbots",
    "conversations",
    "compliance",
    "console",
    "console.apps.ConsoleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_q",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    *(["devdata"] if DEVELOPMENT else []),
]

MIDDLEWARE = [
    "common.request_id.RequestIdMiddleware",
    "config.probes.ProbesMiddleware",
    "config.middleware.PagePolicyMiddleware",
    "config.middleware.FormsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "accounts.refusing.LockoutMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.sessions.SessionMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
APPEND_SLASH = False

AUTHENTICATION_BACKENDS = ["accounts.backends.StaffBackend"]

PASSWORD_HASHERS = ["accounts.hashing.OneAtATime"]

AUTH_PASSWORD_VALIDATORS: list[dict[str, Any]] = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- Database ----------------------------------------------------------------------------------------

DATABASES: dict[str, dict[str, Any]] = {
    "default": control.database(VAR_DIR) if EMBEDDED_POSTGRES else env.postgres_url("DATABASE_URL") or {},
}
# Connections live on: django-q2 closes the caller's connection after an enqueue when they do not.
DATABASES["default"] |= {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}
DATABASES["default"].setdefault("OPTIONS", {})["application_name"] = "data-compliance-api"

# --- Object storage (hosted bucket) --------------------------------------------------------------------

S3_ENDPOINT_URL: str | None = (
    control.s3_endpoint(VAR_DIR) if EMBEDDED_S3 else (env.str("S3_ENDPOINT_URL", "") or None)
)
S3_PUBLIC_ENDPOINT_URL: str | None = env.str("S3_PUBLIC_ENDPOINT_URL", "") or S3_ENDPOINT_URL
S3_REGION = env.str("S3_REGION", "us-east-1")
S3_ACCESS_KEY_ID = env.str("S3_ACCESS_KEY_ID")
S3_SECRET_ACCESS_KEY = env.str("S3_SECRET_ACCESS_KEY")
S3_BUCKET = env.str("S3_BUCKET", "data-compliance") if DEVELOPMENT else env.str("S3_BUCKET")

# --- Clients' buckets ----------------------------------------------------------------------------------

# Private networks in which clients' buckets may lie all the same.
BUCKET_PRIVATE_NETWORKS = env.networks("BUCKET_PRIVATE_NETWORKS", "127.0.0.0/8,::1/128" if DEVELOPMENT else "")
# Who we are to STS, when it is to lend us clients' roles.
STS_ACCESS_KEY_ID = env.str("STS_ACCESS_KEY_ID", "")
STS_SECRET_ACCESS_KEY = env.str("STS_SECRET_ACCESS_KEY", "")
STS_IDENTITY_ARN = env.str("STS_IDENTITY_ARN", "")
STS_REGION = env.str("STS_REGION", "") or S3_REGION
STS_ENDPOINT_URL: str | None = env.str("STS_ENDPOINT_URL", "") or None

# --- Callbacks -----------------------------------------------------------------------------------------

# Private networks in which clients' receivers may lie all the same.
CALLBACK_PRIVATE_NETWORKS = env.networks("CALLBACK_PRIVATE_NETWORKS", "127.0.0.0/8,::1/128" if DEVELOPMENT else "")
CALLBACK_DAYS = env.days("CALLBACK_DAYS", "30")

# --- Mails to officers -----------------------------------------------------------------------------------

# Off where no server for mail is named.
_mail: dict[str, Any] = (env.mail_url("EMAIL_URL") or {}) if env.str("EMAIL_URL", "") else {}
MAILS = bool(_mail)
EMAIL_BACKEND = _mail.get("EMAIL_BACKEND", "django.core.mail.backends.dummy.EmailBackend")
if EMAIL_BACKEND == "django.core.mail.backends.smtp.EmailBackend":
    EMAIL_BACKEND = "common.mail.EmailBackend"
EMAIL_HOST, EMAIL_PORT = _mail.get("EMAIL_HOST"), _mail.get("EMAIL_PORT")
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail.get("EMAIL_HOST_USER"), _mail.get("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS, EMAIL_USE_SSL = _mail.get("EMAIL_USE_TLS", False), _mail.get("EMAIL_USE_SSL", False)
EMAIL_FILE_PATH = _mail.get("EMAIL_FILE_PATH")
# To connect; what a mail takes as a whole is in common/outbound.py.
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL") if MAILS else env.str("DEFAULT_FROM_EMAIL", "")
# Where people reach the console: what a mail's links begin with.
CONSOLE_URL = env.origin("CONSOLE_URL") if env.str("CONSOLE_URL", "") else ""

# --- What the product promises -------------------------------------------------------------------------

# Values that broken integrations send for "nobody": they identify no chatter.
UCI_PLACEHOLDERS = frozenset({"", *env.list("UCI_PLACEHOLDERS", ["null", "undefined", "None", "anonymous"])})
CSV_FORMULA_GUARD = env.bool("CSV_FORMULA_GUARD", True)
VARIABLE_DAYS = env.days("VARIABLE_DAYS", "7")
DUE_DAYS = env.days("DUE_DAYS", "30")
ERASURE_LEDGER_DAYS = env.days("ERASURE_LEDGER_DAYS", "90")
EXPORT_GRACE_DAYS = env.days("EXPORT_GRACE_DAYS", "7")
HOSTED_FILE_DAYS = env.days("HOSTED_FILE_DAYS", "40")
# How long after a chatbot's midnight its extract is begun: time for the last documents of the day.
EXTRACT_DELAY = timedelta(minutes=env.int("EXTRACT_DELAY_MINUTES", 10, validate=Range(0, 24 * 60)))

# --- API -----------------------------------------------------------------------------------------------

# What one statement of a web call may take; 0 for as long as it likes. Workers and commands are not bound by it.
WEB_STATEMENT_SECONDS = env.int("WEB_STATEMENT_SECONDS", 30, validate=Range(min=0))
MAX_BODY_BYTES = env.int("MAX_BODY_BYTES", 10 * 1024 * 1024, validate=Range(min=1))
# Forms are held in memory whole, their files too: nothing of them is written to a disk.
DATA_UPLOAD_MAX_MEMORY_SIZE = FILE_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
# Of one key that has no limit of its own. 0 switches all limits off.
RATE_LIMIT_PER_MINUTE = env.int("RATE_LIMIT_PER_MINUTE", 6_000, validate=Range(0, 1_000_000))
# Of one uploaded file, which is streamed: memory does not grow with it.
UPLOAD_MAX_BYTES = env.int("UPLOAD_MAX_BYTES", 25 * 1024 * 1024, validate=Range(min=1))
UPLOAD_TYPES: list[str] = env.media_types(
    "UPLOAD_TYPES",
    "image/avif,image/bmp,image/gif,image/heic,image/heif,image/jpeg,image/png,image/tiff,image/webp,audio/*,video/*,"
    "text/csv,text/plain,text/vcard,application/pdf,application/rtf,application/zip,application/msword,"
    "application/vnd.ms-excel,application/vnd.ms-powerpoint,application/vnd.openxmlformats-officedocument.*,"
    "application/vnd.oasis.opendocument.*",
)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": [],
    "DEFAULT_SCHEMA_CLASS": "config.openapi.schema.CallSchema",
    "EXCEPTION_HANDLER": "common.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "UNICODE_JSON": True,
    "URL_FORMAT_OVERRIDE": None,
}

# --- Workers -------------------------------------------------------------------------------------------

# A task is only a nudge: the rows of ComplianceRequest are the queue. Retries and time limits are our own (claims),
# so django-q2's are set where they never act. Its scheduler, which makes a task of any row of its table, is off.
Q_CLUSTER = {
    "name": "data-compliance",
    "orm": "default",
    "broker_class": "compliance.work.notify.Broker",
    "workers": env.int("WORKERS", 2, validate=Range(min=1)),
    "poll": 0.2,
    "queue_limit": 1,
    "bulk": 1,
    "max_attempts": 1,
    "timeout": 3600,
    "retry": 7200,
    "save_limit": -1,
    "scheduler": False,
    "recycle": 200,
    "label": "Tasks",
}

# --- Security ------------------------------------------------------------------------------------------

SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", not DEVELOPMENT)
BEHIND_PROXY = env.bool("BEHIND_PROXY", False)
# From where they call: what anybody else says of other addresses is not believed.
PROXY_NETWORKS = env.networks("PROXY_NETWORKS", "127.0.0.0/8,::1/128")
# How many of them add to X-Forwarded-For, each the address that called it.
PROXY_COUNT = env.int("PROXY_COUNT", 1, validate=Range(1, 10))
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", 0 if DEVELOPMENT else 31_536_000)
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("SECURE_HSTS_INCLUDE_SUBDOMAINS", not DEVELOPMENT)
SECURE_HSTS_PRELOAD = env.bool("SECURE_HSTS_PRELOAD", not DEVELOPMENT)
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"

# For everything that is HTML (config/middleware.py): nothing inline, nothing from elsewhere.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "font-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}

# --- Who may log in ------------------------------------------------------------------------------------

# A session ends so long after the log-in, and so long after the last page (accounts/sessions.py).
SESSION_COOKIE_AGE = 8 * 3600
SESSION_IDLE = timedelta(minutes=env.int("SESSION_IDLE_MINUTES", 30, validate=Range(1, 8 * 60)))
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEVELOPMENT
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
# Not "Strict": a link in a mail would lead to the log-in.
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
# Browsers take these names only from this very host, over HTTPS.
SESSION_COOKIE_NAME = "sessionid" if DEVELOPMENT else "__Host-sessionid"
CSRF_COOKIE_NAME = "csrftoken" if DEVELOPMENT else "__Host-csrftoken"

SECOND_FACTOR_REQUIRED = env.bool("SECOND_FACTOR_REQUIRED", not DEVELOPMENT)
OTP_TOTP_ISSUER = "Data Compliance"

LOGIN_FAILURES = env.int("LOGIN_FAILURES", 5, validate=Range(1, 100))
LOGIN_FAILURES_PER_NAME = env.int("LOGIN_FAILURES_PER_NAME", 10, validate=Range(1, 1_000))
LOGIN_FAILURES_PER_ADDRESS = env.int("LOGIN_FAILURES_PER_ADDRESS", 30, validate=Range(1, 10_000))
LOGIN_COOLOFF = timedelta(minutes=env.int("LOGIN_COOLOFF_MINUTES", 15, validate=Range(1, 24 * 60)))
LOGIN_RECORD_DAYS = env.days("LOGIN_RECORD_DAYS", "30")

# --- Watching ------------------------------------------------------------------------------------------

# Who may read /metrics; without one it is not there.
METRICS_TOKEN = env.str(
    "METRICS_TOKEN",
    "",
    validate=Regexp(r"([!-~]{16,})?\Z", error="Must be 16 characters or more, ASCII without white space."),
)

# --- Logs ----------------------------------------------------------------------------------------------

LOG_FORMAT = env.str("LOG_FORMAT", "line", validate=OneOf(["line", "json"]))
_LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "web": {"()": "common.logs.WithoutRequests"},
        "paths": {"()": "common.logs.WithoutPaths"},
    },
    "formatters": {"line": {"()": "common.logs.SafeFormatter"}, "json": {"()": "common.logs.JsonFormatter"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT or "line", "filters": ["paths"]}
    },
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", "INFO", validate=OneOf(_LEVELS))},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.server": {"handlers": [], "level": "INFO", "propagate": True},
        # It warns of each unknown path by name, and a caller may have put anything into one.
        "django.request": {"level": "ERROR"},
        # These name buckets, keys and parameters at their lower levels.
        "botocore": {"level": "WARNING"},
        "boto3": {"level": "WARNING"},
        # It warns of an answer with broken headers, and tells the address that was called.
        "urllib3": {"level": "ERROR"},
        "django.db.backends": {"level": "WARNING"},
        # The web server's: it names paths, and quotes what it cannot read.
        "waitress": {"filters": ["web"]},
        "waitress.queue": {"level": "ERROR"},
    },
}

if LOG_FORMAT == "json":
    # Else Python prints them.
    logging.captureWarnings(capture=True)

env.seal()
for _name in _made_here:
    del os.environ[_name]
