#!/bin/sh
# The functions' own login, made once, when the database is: they are not the schema's owner.
set -eu
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set password="$FUNCTIONS_PASSWORD" <<'SQL'
CREATE ROLE generator_app NOLOGIN;
CREATE ROLE functions LOGIN PASSWORD :'password' IN ROLE generator_app;
SQL
