begin "$@"
start
