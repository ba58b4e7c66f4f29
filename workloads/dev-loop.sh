#!/bin/sh
# Runs a command, and again whenever it ends: `tilt up` copies changed code into the running container and then ends the
# command (its pid is in /tmp/k2-dev.pid). Only in the images' `dev` stage. Usage: k2-dev-loop COMMAND [ARGUMENT…]
set -u
child=
stop() { [ -n "$child" ] && kill -TERM "$child" 2>/dev/null && wait "$child"; exit 0; }
trap stop TERM INT
while :; do
  "$@" &
  child=$!
  echo "$child" > /tmp/k2-dev.pid
  wait "$child"
  echo "k2-dev-loop: ended with $?, starting again" >&2
  sleep 1
done
