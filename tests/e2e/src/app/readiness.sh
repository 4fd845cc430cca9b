begin "$@"
