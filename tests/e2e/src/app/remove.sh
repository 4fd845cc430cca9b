begin "$@"
stop
