#!/bin/sh
# Stands in for `k2` and `k2-operator` in the images' `dev` stage: starts the real one of /opt/app/once, and again whenever it
# ends, because `tilt up` copies changed code into the running container and then ends it (its pid is in /tmp/k2-dev.pid).
# What ends by itself (a load, a command that a person types) is run once.
set -u
real=/opt/app/once/$(basename "$0")
case "$(basename "$0") $*" in
  "k2 run sink"* | "k2 run producer"* | "k2 run query"* | k2-operator*) ;;
  *) exec "$real" "$@" ;;
esac
child=
stop() { [ -n "$child" ] && kill -TERM "$child" 2>/dev/null && wait "$child"; exit 0; }
trap stop TERM INT
while :; do
  "$real" "$@" &
  child=$!
  echo "$child" > /tmp/k2-dev.pid
  wait "$child"
  echo "ended with $?, starting again" >&2
  sleep 1
done
