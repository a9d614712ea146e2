#!/bin/sh
# Answers requests on the machine's port "agent", one after the other. A request is a line
# `ID SECONDS SCRIPT INPUT` (the last two are lengths in bytes), the script and its standard input. The
# answer is a line `ID STATUS OUTPUT ERRORS` (lengths again), standard output and standard error.
set -u
port=$(cd /sys/class/virtio-ports && grep -lx agent -- */name) || exit 1
exec 3<>"/dev/${port%/name}"
cd /run/agent || exit 1
echo ready >&3
while read -r id seconds script input <&3; do
  # `head` reads no byte more from a port than it was asked for.
  head -c "$script" <&3 >script
  head -c "$input" <&3 >input
  (cd / && exec timeout --kill-after=5 "$seconds" sh /run/agent/script) <input >output 2>errors 3<&-
  status=$?
  echo "$id $status $(stat -c %s output) $(stat -c %s errors)" >&3
  cat output errors >&3
done
