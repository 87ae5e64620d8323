#!/bin/sh
# Start the explorer for a proxy in front of it: on all interfaces, and for the proxy's own names (EIGENPRUNE_HOSTS).
set -eu
home="$(python -P -c 'from explorer.core.config import HOME; print(HOME)')"
first=""
set --
for host in $(echo "${EIGENPRUNE_HOSTS:-localhost}" | tr ',' ' '); do
    first="${first:-$host}"
    set -- "$@" --server.allowedHosts "$host" --server.corsAllowedOrigins "https://$host"
done
exec python -P -m streamlit run "$home/app.py" --server.address 0.0.0.0 --server.port "${PORT:-8501}" \
    --server.fileWatcherType none --browser.serverAddress "$first" "$@"
