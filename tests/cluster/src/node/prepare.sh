#!/bin/sh
# Makes a nested machine look like a whole one to containerd and the kubelet.
set -eu

# Mounts of pods must reach the containers that ask for them.
mount --make-rshared /

# The cgroups are the node's own (a cgroup namespace), yet come mounted read-only.
awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts | while read -r hierarchy; do
    mount -o remount,bind,rw "$hierarchy"
done

# Only the network's settings are the node's own; the others are the machine's and stay
# read-only. The kubelet insists on some of those, so it is shown what it wants to see.
mkdir -p /run/node/proc /run/node/settings
mount -t proc proc /run/node/proc
mount --bind /run/node/proc/sys/net /proc/sys/net
umount --lazy /run/node/proc
while read -r setting value; do
    file=/run/node/settings/$(echo "$setting" | tr / -)
    echo "$value" >"$file"
    mount --bind "$file" "/proc/sys/$setting"
done <<SETTINGS
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
SETTINGS

echo 1 >/proc/sys/net/ipv4/ip_forward
# A pod's answers to another pod on the same bridge must pass the Service rules too.
if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then
    echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
fi
