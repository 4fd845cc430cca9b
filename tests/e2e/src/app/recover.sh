begin "$@"
stop
start
