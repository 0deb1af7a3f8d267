#!/bin/sh
# Brings Temporal's two databases to the schema of this release. Every step may
# be repeated: an existing database is left as it is, an older one is migrated.
# The connection comes from SQL_HOST, SQL_PORT, SQL_USER, SQL_PASSWORD and SQL_PLUGIN.
set -eu
schema=${TEMPORAL_SCHEMA:-/etc/temporal/schema}/postgresql/v12
for pair in temporal:temporal temporal_visibility:visibility; do
	database=${pair%%:*}
	echo "schema of $database"
	temporal-sql-tool --db "$database" create-database
	temporal-sql-tool --db "$database" setup-schema --version 0.0
	temporal-sql-tool --db "$database" update-schema --schema-dir "$schema/${pair##*:}/versioned"
done
