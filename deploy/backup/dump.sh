#!/bin/sh
# Dump the database of DATABASE_URL into a folder, and remove dumps that are too old: dump.sh FOLDER
#
# A dump contains people who are erased after it, so none may be older than BACKUP_HORIZON_DAYS. It is removed a day
# before. Run it as the owner of the database; pass the password in PGPASSWORD, since other users can see arguments.
set -eu
umask 077
folder=${1:?usage: dump.sh FOLDER}
: "${DATABASE_URL:?}" "${BACKUP_HORIZON_DAYS:?}"
# First, so that old dumps are removed while no new one can be made, too.
find "$folder" -maxdepth 1 -name '*.dump' -mmin "+$(((BACKUP_HORIZON_DAYS - 1) * 1440))" -delete
file=$folder/$(date --utc +%Y-%m-%dT%H%M%SZ).dump
trap 'rm -f "$file.part"' EXIT
pg_dump --format=custom --file="$file.part" "$DATABASE_URL"
pg_restore --list "$file.part" >/dev/null
mv "$file.part" "$file"
