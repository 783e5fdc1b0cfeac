#!/bin/sh
# Runs once, on an empty data directory: the three roles of docs/operators/servers.md, and the database that the owner owns.
set -eu
psql --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres --no-password --no-psqlrc \
    --set=owner="$OWNER_PASSWORD" --set=web="$WEB_PASSWORD" --set=worker="$WORKER_PASSWORD" <<'SQL'
CREATE ROLE compliance_owner LOGIN PASSWORD :'owner';
CREATE ROLE compliance_web LOGIN PASSWORD :'web';
CREATE ROLE compliance_worker LOGIN PASSWORD :'worker';
CREATE DATABASE compliance OWNER compliance_owner ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0;
SQL
