#!/bin/sh
# Stands in for `k2` and `k2-operator` in the images' `dev` stage: starts the real one of /opt/app/once, and again whenever it
# ends, because `tilt up` copies changed code into the running container and then ends it (its pid is in /tmp/k2-dev.pid).
# The code that runs is a copy in /tmp, the one folder that every pod may write to: a container that starts anew still has it.
# What ends by itself (a load, a command that a person types) is run once.
set -u
app=${K2_DEV_APP:-/opt/app} tmp=${K2_DEV_TMP:-/tmp}
code=$tmp/k2-code
real=$app/once/$(basename "$0")
# Beside it the packages' metadata stay, and what an image without one of the packages does not have.
export PYTHONPATH="$code:$app"
case "$(basename "$0") $*" in
  "k2 run sink"* | "k2 run producer"* | "k2 run query"* | k2-operator*) ;;
  *) exec "$real" "$@" ;;
esac
if [ ! -d "$code" ]; then
  mkdir -p "$code.new"
  for package in k2 k2_operator k2_local; do
    [ ! -d "$app/$package" ] || cp -Rp "$app/$package" "$code.new/"
  done
  mv "$code.new" "$code"
fi
child=
stop() { [ -n "$child" ] && kill -TERM "$child" 2>/dev/null && wait "$child"; exit 0; }
trap stop TERM INT
while :; do
  "$real" "$@" &
  child=$!
  echo "$child" > "$tmp/k2-dev.pid"
  wait "$child"
  echo "ended with $?, starting again" >&2
  sleep 1
done
