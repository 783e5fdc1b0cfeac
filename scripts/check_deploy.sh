#!/bin/sh
# Django's deployment checks, under an environment like that of production; its values are made up here.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
random() {
    "$python" -c 'import base64, secrets, sys
print(base64.urlsafe_b64encode(secrets.token_bytes(int(sys.argv[1]))).decode())' "$1"
}

# With env -i no variable of the developer's decides the outcome.
exec env -i PATH="$PATH" \
    SECRET_KEY="$(random 48)" \
    ENCRYPTION_KEYS="k1:$(random 32)" \
    DIGEST_KEY="k1:$(random 32)" \
    ALLOWED_HOSTS=compliance.example.com \
    DATABASE_URL=postgresql://nobody@localhost/none \
    S3_ENDPOINT_URL=https://s3.example.com \
    S3_ACCESS_KEY_ID=none \
    S3_SECRET_ACCESS_KEY="$(random 30)" \
    S3_BUCKET=none \
    BACKUP_HORIZON_DAYS=30 \
    "$python" manage.py check --deploy --fail-level WARNING
