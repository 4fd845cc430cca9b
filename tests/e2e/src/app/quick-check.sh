begin "$@"
runs || { echo "it does not run" >&2; exit 1; }
