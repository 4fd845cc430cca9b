dir=@DIR@ world=@WORLD@ tag=@TAG@ node=@NODE@

say() {
    echo "$(date +%s%N) $*" >> "$dir/log"
}

# Does process $1 live, and was it started from folder $2? A number alone may be somebody else's by now.
lives() {
    read -r stat < "/proc/$1/stat" || return 1
    case ${stat##*) } in [ZX]*) return 1 ;; esac
    case $(tr '\0' ' ' < "/proc/$1/cmdline") in *"$2"*) return 0 ;; esac
    return 1
} 2> /dev/null

# Does the application run here? Then $pid is its process.
runs() {
    read -r pid < "$dir/pid" && lives "$pid" "$dir"
} 2> /dev/null

begin() {
    : > "$dir/running/$program.$$"
    say begin "$program" "$$" "$@"
    trap 'code=$?; say end "$program" "$$" "$code"; rm -f "$dir/running/$program.$$"' EXIT
    # After this one was written down: of two that begin together, one sees the other.
    for other in "$dir"/running/*; do
        [ "${other##*.}" = "$$" ] && continue
        lives "${other##*.}" "$dir" && say OVERLAP "$program" "$$ with ${other##*/}"
    done
    if [ -e "$dir/knob-$program" ]; then . "$dir/knob-$program"; fi
}

start() {
    runs && return
    # As it is often done: in the background, with whatever output was given, and no further care.
    "$dir/daemon" &
    until runs; do sleep 0.02; done
}

stop() {
    runs || return 0
    kill "$pid"
    while lives "$pid" "$dir"; do sleep 0.02; done
}
