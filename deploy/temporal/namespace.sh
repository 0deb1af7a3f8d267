#!/bin/sh
# Makes the namespace once the server serves. Closed workflows are kept for 90
# days, because reports of operations are read from them.
# The server comes from TEMPORAL_ADDRESS, the namespace from TEMPORAL_NAMESPACE.
set -eu
attempt=0
until temporal operator cluster health >/dev/null 2>&1; do
	attempt=$((attempt + 1))
	if [ "$attempt" -ge 60 ]; then
		echo "no Temporal server answers at $TEMPORAL_ADDRESS" >&2
		exit 1
	fi
	sleep 1
done
if temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
	echo "namespace $TEMPORAL_NAMESPACE is there"
else
	temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention 90d
fi
