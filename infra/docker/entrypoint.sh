#!/bin/sh
# Prefect's Helm charts start every image by this path.
exec "$@"
