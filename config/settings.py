"""Settings, all from environment variables: plain, in `.env`, or from files (`NAME_FILE`).

Comments here explain the less obvious ones; docs/reference/settings.md lists them all.

With neither `DATABASE_URL` nor `SECRET_KEY` this is a development copy: DEBUG is on, keys are generated once into
`VAR_DIR/keys.env`, and PostgreSQL and an S3 server run embedded under `VAR_DIR`. Importing this module starts
nothing: the entry points call `devservers.control.start()`.
"""

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from marshmallow.validate import OneOf, Range, Regexp

from config.database import connecting
from config.env import BASE_DIR, development_keys, env
from config.openapi.document import SPECTACULAR_SETTINGS  # noqa: F401  drf-spectacular reads it
from devservers import control

# --- Development or production -----------------------------------------------------------------------

# For everything that the service writes to disk.
VAR_DIR = Path(env.str("VAR_DIR", str(BASE_DIR / "var"))).resolve()
# The image of production lacks the sample data: there, missing settings are errors.
DEVELOPMENT = not (env.str("DATABASE_URL", "") or env.str("SECRET_KEY", "")) and (BASE_DIR / "devdata").is_dir()
EMBEDDED_POSTGRES = not env.str("DATABASE_URL", "")
EMBEDDED_S3 = DEVELOPMENT and not env.str("S3_ENDPOINT_URL", "") and not env.str("S3_ACCESS_KEY_ID", "")
_generated = development_keys(VAR_DIR) if DEVELOPMENT else []

DEBUG = env.bool("DEBUG", DEVELOPMENT)
SECRET_KEY = env.str("SECRET_KEY")
# They sign nothing, but their former signatures are valid. An empty one would let any caller sign.
_fallbacks: list[str] = env.list("SECRET_KEY_FALLBACKS", [])
SECRET_KEY_FALLBACKS = [key.strip() for key in _fallbacks if key.strip()]
_local_hosts = ["localhost", "127.0.0.1", "[::1]"]
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", _local_hosts) if DEVELOPMENT else env.list("ALLOWED_HOSTS")
# Port of the web server, unless WEB_BIND is set.
PORT = env.int("PORT", 8000, validate=Range(1, 65535))

# Addresses of the web server: `0.0.0.0:8000` for all networks, `unix:/run/web.sock` for a socket; comma-separated.
WEB_BIND = env.list("WEB_BIND", [f"127.0.0.1:{PORT}"])
# Processes of the web server, and threads that run the application in each.
WEB_WORKERS = env.int("WEB_WORKERS", 2, validate=Range(1, 64))
WEB_THREADS = env.int("WEB_THREADS", 4, validate=Range(1, 64))

# `<id>:<urlsafe base64 of 32 bytes>`, comma-separated, newest first: AES-256-GCM keys for secrets at rest.
ENCRYPTION_KEYS: dict[str, bytes] = env.key_ring("ENCRYPTION_KEYS")
# One such entry: the HMAC key of digests. It never rotates; back it up apart from the database.
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
    "common.logs.RequestIdMiddleware",
    "config.probes.ProbesMiddleware",
    "config.middleware.PagePolicyMiddleware",
    "config.middleware.FormsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "accounts.refusing.LockoutMiddleware",
    # Before anything reads a session or a key.
    "compliance.ledger.middleware.ClosedMiddleware",
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
FORMAT_MODULE_PATH = "config.formats"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
# The pictures of the console's help are those of the documentation.
STATICFILES_DIRS = [BASE_DIR / "static", ("help", BASE_DIR / "docs" / "images")]
APPEND_SLASH = False

AUTHENTICATION_BACKENDS = ["accounts.login.StaffBackend"]

PASSWORD_HASHERS = ["accounts.hashing.SerialHasher"]
PASSWORD_RESET_TIMEOUT = 72 * 3600  # of a link by which a user sets a password
AUTH_PASSWORD_VALIDATORS: list[dict[str, Any]] = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- Database ----------------------------------------------------------------------------------------

DATABASES: dict[str, dict[str, Any]] = {
    "default": control.database(VAR_DIR) if EMBEDDED_POSTGRES else env.postgres_url("DATABASE_URL") or {},
}
# Shorter than a lease (compliance.work.claims): once that is over, another worker must find the claim unlocked.
IDLE_TRANSACTION_SECONDS = env.int("IDLE_TRANSACTION_SECONDS", 60, validate=Range(0, 80))
DATABASES["default"] |= connecting(DATABASES["default"], idle_seconds=IDLE_TRANSACTION_SECONDS)

# --- Object storage: the operator's bucket --------------------------------------------------------------------

# Empty for AWS.
S3_ENDPOINT_URL: str | None = (
    control.s3_endpoint(VAR_DIR) if EMBEDDED_S3 else (env.str("S3_ENDPOINT_URL", "") or None)
)
# Where browsers reach the storage, if elsewhere: download links use it.
S3_PUBLIC_ENDPOINT_URL: str | None = env.str("S3_PUBLIC_ENDPOINT_URL", "") or S3_ENDPOINT_URL
S3_REGION = env.str("S3_REGION", "us-east-1")
S3_ACCESS_KEY_ID = env.str("S3_ACCESS_KEY_ID")
S3_SECRET_ACCESS_KEY = env.str("S3_SECRET_ACCESS_KEY")
# Hosted files of all chatbots, and uploads under a prefix of their own.
S3_BUCKET = env.str("S3_BUCKET", "data-compliance") if DEVELOPMENT else env.str("S3_BUCKET")

# --- Clients' credentials for the operator's bucket -------------------------------------------------------

# An identity that manages IAM users and does nothing else. Without it credentials are made by hand.
_iam = control.iam_key(S3_SECRET_ACCESS_KEY) if EMBEDDED_S3 else ("", "")
IAM_ACCESS_KEY_ID = env.str("IAM_ACCESS_KEY_ID", _iam[0])
IAM_SECRET_ACCESS_KEY = env.str("IAM_SECRET_ACCESS_KEY", _iam[1])
# Some stores other than AWS have IAM and S3 at one address.
IAM_ENDPOINT_URL: str | None = env.str("IAM_ENDPOINT_URL", "") or S3_ENDPOINT_URL
IAM_REGION = env.str("IAM_REGION", "") or S3_REGION
# A managed policy that limits what any of these users can be granted.
IAM_BOUNDARY_ARN = env.str(
    "IAM_BOUNDARY_ARN",
    "",
    validate=Regexp(
        r"(arn:aws[a-z-]*:iam::(\d{12}|aws):policy/[!-~]+)?\Z", error="Must be the ARN of a managed policy."
    ),
)
# Whether superusers issue and revoke credentials in the console. Otherwise its web server needs none of these.
IAM_CONSOLE = env.bool("IAM_CONSOLE", DEVELOPMENT)

# --- Clients' buckets ----------------------------------------------------------------------------------

# Private networks where clients' buckets are allowed, such as `10.1.0.0/16`; comma-separated.
BUCKET_PRIVATE_NETWORKS = env.networks("BUCKET_PRIVATE_NETWORKS", "127.0.0.0/8,::1/128" if DEVELOPMENT else "")
# Our identity at STS, for assuming clients' roles. The ARN is printed in the trust policy for clients.
STS_ACCESS_KEY_ID = env.str("STS_ACCESS_KEY_ID", "")
STS_SECRET_ACCESS_KEY = env.str("STS_SECRET_ACCESS_KEY", "")
STS_IDENTITY_ARN = env.str("STS_IDENTITY_ARN", "")
STS_REGION = env.str("STS_REGION", "") or S3_REGION
STS_ENDPOINT_URL: str | None = env.str("STS_ENDPOINT_URL", "") or None

# --- Callbacks -----------------------------------------------------------------------------------------

# Private networks where clients' receivers are allowed.
CALLBACK_PRIVATE_NETWORKS = env.networks("CALLBACK_PRIVATE_NETWORKS", "127.0.0.0/8,::1/128" if DEVELOPMENT else "")
CALLBACK_DAYS = env.days("CALLBACK_DAYS", "30")

# --- Mails to officers -----------------------------------------------------------------------------------

# `submission://user:password@host:587` (STARTTLS) or `smtp://host:25`; with `?ssl=true` TLS throughout. Without it no
# mail is sent.
_mail: dict[str, Any] = (env.mail_url("EMAIL_URL") or {}) if env.str("EMAIL_URL", "") else {}
MAILS = bool(_mail)
EMAIL_BACKEND = _mail.get("EMAIL_BACKEND", "django.core.mail.backends.dummy.EmailBackend")
if EMAIL_BACKEND == "django.core.mail.backends.smtp.EmailBackend":
    EMAIL_BACKEND = "common.outbound.EmailBackend"
EMAIL_HOST, EMAIL_PORT = _mail.get("EMAIL_HOST"), _mail.get("EMAIL_PORT")
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail.get("EMAIL_HOST_USER"), _mail.get("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS, EMAIL_USE_SSL = _mail.get("EMAIL_USE_TLS", False), _mail.get("EMAIL_USE_SSL", False)
EMAIL_FILE_PATH = _mail.get("EMAIL_FILE_PATH")
# For connecting; the limit of a whole mail is in common/outbound.py.
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL") if MAILS else env.str("DEFAULT_FROM_EMAIL", "")
# Where staff reach the console, for the links in mails.
CONSOLE_URL = env.origin("CONSOLE_URL") if env.str("CONSOLE_URL", "") else ""

# --- Data: values, files, periods -------------------------------------------------------------------------

# Values that broken integrations send for a missing id. They identify no chatter.
UCI_PLACEHOLDERS = frozenset({"", *env.list("UCI_PLACEHOLDERS", ["null", "undefined", "None", "anonymous"])})
# Whether CSV cells that a spreadsheet would run as formulas get a leading apostrophe.
CSV_FORMULA_GUARD = env.bool("CSV_FORMULA_GUARD", True)
# How long values of variables other than the UCI are kept.
VARIABLE_DAYS = env.days("VARIABLE_DAYS", "7")
# How long digests of erased chatters and conversations are kept, to refuse late data and survive a restore.
ERASURE_LEDGER_DAYS = env.days("ERASURE_LEDGER_DAYS", "90")
# How old a backup can be when it is restored: at most as old as the ledger's entries about erased chatters.
BACKUP_HORIZON_DAYS = env.days("BACKUP_HORIZON_DAYS", "30") if DEVELOPMENT else env.days("BACKUP_HORIZON_DAYS")
# How long a finished export outlives a later deletion of the chatter.
EXPORT_GRACE_DAYS = env.days("EXPORT_GRACE_DAYS", "7")
# How long exports and extracts stay in the operator's bucket.
HOSTED_FILE_DAYS = env.days("HOSTED_FILE_DAYS", "40")
# How long after a chatbot's midnight its extract begins, so that the last documents of the day can arrive.
EXTRACT_DELAY = timedelta(minutes=env.int("EXTRACT_DELAY_MINUTES", 10, validate=Range(0, 24 * 60)))

# --- API -----------------------------------------------------------------------------------------------

# The time limit of an SQL statement of the web server; 0 for none. Workers and commands have none.
WEB_STATEMENT_SECONDS = env.int("WEB_STATEMENT_SECONDS", 30, validate=Range(min=0))
# The maximum size of a body or form.
MAX_BODY_BYTES = env.int("MAX_BODY_BYTES", 10 * 1024 * 1024, validate=Range(min=1))
# Forms and their files stay in memory: none is written to disk.
DATA_UPLOAD_MAX_MEMORY_SIZE = FILE_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
# The rate limit of keys without one of their own. 0 switches all limits off.
RATE_LIMIT_PER_MINUTE = env.int("RATE_LIMIT_PER_MINUTE", 6_000, validate=Range(0, 1_000_000))
# The maximum size of an uploaded file, which is streamed.
UPLOAD_MAX_BYTES = env.int("UPLOAD_MAX_BYTES", 25 * 1024 * 1024, validate=Range(min=1))
# The media types of uploaded files; `*` matches any characters.
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
    "DEFAULT_RENDERER_CLASSES": ["config.openapi.operations.ModelRenderer"],
    "DEFAULT_PARSER_CLASSES": [],
    "DEFAULT_SCHEMA_CLASS": "config.openapi.schema.CallSchema",
    "EXCEPTION_HANDLER": "common.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "UNICODE_JSON": True,
    "URL_FORMAT_OVERRIDE": None,
}

# --- Workers -------------------------------------------------------------------------------------------

# A task only wakes a worker: the rows of ComplianceRequest are the queue. Claims have retries and time limits of
# their own, so django-q2's are set so that they never act. Its scheduler, which runs any row of its table, is off.
Q_CLUSTER = {
    "name": "data-compliance",
    "orm": "default",
    "broker_class": "compliance.cluster.broker.Broker",
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
# Whether a reverse proxy terminates TLS and sets X-Forwarded-For and X-Forwarded-Proto.
BEHIND_PROXY = env.bool("BEHIND_PROXY", False)
# The networks of our proxies: X-Forwarded headers of other callers are removed.
PROXY_NETWORKS = env.networks("PROXY_NETWORKS", "127.0.0.0/8,::1/128")
# How many of them append their caller's address to X-Forwarded-For.
PROXY_COUNT = env.int("PROXY_COUNT", 1, validate=Range(1, 10))
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
# Short at first: no browser can be made to forget it. `compliance.I001` replaces Django's warning about this.
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", 0 if DEVELOPMENT else 3_600)
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("SECURE_HSTS_INCLUDE_SUBDOMAINS", False)
SECURE_HSTS_PRELOAD = env.bool("SECURE_HSTS_PRELOAD", False)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"

# For all HTML (config/middleware.py): nothing inline, nothing from other hosts.
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

# --- Log-in ------------------------------------------------------------------------------------

# A session ends this long after the log-in, or after the last page (accounts/sessions.py).
SESSION_COOKIE_AGE = 8 * 3600
SESSION_IDLE = timedelta(minutes=env.int("SESSION_IDLE_MINUTES", 30, validate=Range(1, 8 * 60)))
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEVELOPMENT
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
# Not "Strict": a link in a mail would lead to the log-in page.
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
# Browsers accept the prefix `__Host-` only from this host, over HTTPS.
SESSION_COOKIE_NAME = "sessionid" if DEVELOPMENT else "__Host-sessionid"
CSRF_COOKIE_NAME = "csrftoken" if DEVELOPMENT else "__Host-csrftoken"

SECOND_FACTOR_REQUIRED = env.bool("SECOND_FACTOR_REQUIRED", not DEVELOPMENT)
OTP_TOTP_ISSUER = "Data Compliance"

# Failed log-ins before a lock-out: for a name from one address, for a name, for an address; and how long it lasts.
LOGIN_FAILURES = env.int("LOGIN_FAILURES", 5, validate=Range(1, 100))
LOGIN_FAILURES_PER_NAME = env.int("LOGIN_FAILURES_PER_NAME", 10, validate=Range(1, 1_000))
LOGIN_FAILURES_PER_ADDRESS = env.int("LOGIN_FAILURES_PER_ADDRESS", 30, validate=Range(1, 10_000))
LOGIN_COOLOFF = timedelta(minutes=env.int("LOGIN_COOLOFF_MINUTES", 15, validate=Range(1, 24 * 60)))
LOGIN_RECORD_DAYS = env.days("LOGIN_RECORD_DAYS", "30")

# --- Metrics and canary -----------------------------------------------------------------------------------

# The bearer token for /metrics. Without one, /metrics does not exist.
METRICS_TOKEN = env.str(
    "METRICS_TOKEN",
    "",
    validate=Regexp(r"([!-~]{16,})?\Z", error="Must be at least 16 ASCII characters without spaces."),
)
# The interval of the canary's turns, 0 for none; the address for clients; patterns of logs to be searched.
_canary_minutes = env.int("CANARY_MINUTES", 0, validate=Range(0, 7 * 24 * 60))
CANARY_EVERY = timedelta(minutes=max(10, _canary_minutes)) if _canary_minutes else None
CANARY_URL = env.own_origin("CANARY_URL") if env.str("CANARY_URL", "") else ""
CANARY_LOG_FILES: list[str] = env.list("CANARY_LOG_FILES", [])

# --- Letters -------------------------------------------------------------------------------------------

# A folder with templates that replace those of `templates/letters/`. Empty: none.
LETTER_TEMPLATES = env.str("LETTER_TEMPLATES", "")

# --- Logs ----------------------------------------------------------------------------------------------

LOG_FORMAT = env.str("LOG_FORMAT", "line", validate=OneOf(["line", "json"]))
_LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"paths": {"()": "common.logs.WithoutPaths"}},
    "formatters": {"line": {"()": "common.logs.SafeFormatter"}, "json": {"()": "common.logs.JsonFormatter"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT or "line", "filters": ["paths"]}
    },
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", "INFO", validate=OneOf(_LEVELS))},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.server": {"handlers": [], "level": "INFO", "propagate": True},
        # It warns of unknown paths, which may contain anything.
        "django.request": {"level": "ERROR"},
        # Their lower levels log buckets, keys and parameters.
        "botocore": {"level": "WARNING"},
        "boto3": {"level": "WARNING"},
        # It warns of broken headers, with the URL.
        "urllib3": {"level": "ERROR"},
        "django.db.backends": {"level": "WARNING"},
    },
}

if LOG_FORMAT == "json":
    # Otherwise Python would print them as text.
    logging.captureWarnings(capture=True)

env.seal()
# A child process is a development copy too, so it must not find a SECRET_KEY.
for _name in _generated:
    del os.environ[_name]
