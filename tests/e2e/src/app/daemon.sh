say start "$node" "$$"
for other in "$world"/serving/"$tag".*; do
    [ "$other" = "$world/serving/$tag.$node" ] && continue
    read -r other_pid 2> /dev/null < "$other" || continue
    lives "$other_pid" "/app/$tag/daemon" && say TWICE "$node" "$$ while ${other##*/} runs as $other_pid"
done
echo "$$" > "$world/serving/$tag.$node"
echo "$$" > "$dir/pid.new" && mv "$dir/pid.new" "$dir/pid"
# It goes on writing where it was told to: if that is a pipe that nobody reads any more, it dies of it.
while :; do
    echo "serving"
    sleep 0.5
done
