# Reads lines `+ WHAT` and `- WHAT` until the test that writes them is gone; then ends what is left of it.
# WHAT is the name of an environment variable, or a folder; anything else is not taken.
#
# As in processes.rs, everything is stopped before anything is killed, so that nothing starts a further
# process, and none loses the parent by which it is known.

nl='
'
list=$nl
while read -r sign what; do
  case "$sign $what" in
    "+ MAINSTAY_TEST_GUARD_"?* | "+ /"*/ms-??????) list="$list$what$nl" ;;
    "- "*)
      case "$list" in
        *"$nl$what$nl"*) list="${list%%"$nl$what$nl"*}$nl${list#*"$nl$what$nl"}" ;;
      esac
      ;;
  esac
done

variables=$(printf %s "$list" | grep '^MAINSTAY_TEST_GUARD_')
folders=$(printf %s "$list" | grep '^/')
[ -n "$variables$folders" ] || exit 0

# Patterns come by standard input, so that no grep finds itself.
marked() {
  [ -z "$variables" ] || printf '%s\n' "$variables" | grep -lsaF -f - /proc/[0-9]*/environ
  [ -z "$folders" ] || printf '%s\n' "$folders" | sed 's,$,/,' | grep -lsaF -f - /proc/[0-9]*/cmdline
}

# Children of what was found already.
descendants() {
  for stat in /proc/[0-9]*/stat; do
    read -r line 2> /dev/null < "$stat" || continue
    set -- ${line##*) }
    case "$found" in *" $2 "*) echo "$stat" ;; esac
  done
}

found=' '
rounds=0
again=1
while [ "$again" = 1 ] && [ "$rounds" -lt 100 ]; do
  again=0
  rounds=$((rounds + 1))
  for path in $(marked; descendants); do
    pid=${path#/proc/}
    pid=${pid%%/*}
    [ "$pid" != 1 ] && [ "$pid" != "$$" ] || continue
    case "$found" in
      *" $pid "*) ;;
      *)
        kill -s STOP "$pid" && again=1
        found="$found$pid "
        ;;
    esac
  done
done
[ "$found" = ' ' ] || kill -s KILL $found

[ -n "$KEEP_FOLDERS" ] || printf '%s\n' "$folders" | while read -r folder; do
  [ -z "$folder" ] || rm -rf -- "$folder"
done
