#!/usr/bin/env bash
# This machine as a whole Slurm cluster, to try and to test what runs on one. All that it keeps is
# in one folder, it needs no root, and leaves a Slurm that is set up here alone.
#
#   apt-get install slurm-wlm munge
#   infra/slurm/one-node.sh start /tmp/slurm      # then: export SLURM_CONF=/tmp/slurm/slurm.conf
#   infra/slurm/one-node.sh stop /tmp/slurm
set -euo pipefail
PATH=$PATH:/usr/sbin

usage="usage: $0 start|stop FOLDER"
action=${1:?$usage} folder=${2:?$usage}
user=$(id --user --name) host=$(hostname --short)

configure() {
    # Munge wants a way to its socket that all may walk, and a key for its owner alone.
    install --directory --mode=755 "$folder"
    (umask 077 && head --bytes=1024 /dev/urandom >"$folder/munge.key")
    read -r controller node < <(python3 -c '
import socket
ends = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(end.getsockname()[1] for end in ends))')
    local cores memory
    cores=$(nproc)
    memory=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
    cat >"$folder/slurm.conf" <<END
ClusterName=onenode
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
SlurmdPort=$node
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/controller
SlurmdSpoolDir=$folder/node
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# Jobs share one core where there is but one.
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$((cores > 2 ? cores : 2)) RealMemory=$memory State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
}

start() {
    for command in munged slurmctld slurmd; do
        command -v "$command" >/dev/null || fail "no $command: apt-get install slurm-wlm munge"
    done
    configure
    munged --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
        --seed-file="$folder/munged.seed" >>"$folder/start.log" 2>&1
    export SLURM_CONF=$folder/slurm.conf
    slurmctld >>"$folder/start.log" 2>&1
    slurmd >>"$folder/start.log" 2>&1
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --format=%T 2>>"$folder/start.log")" = idle ] && return
        sleep 0.5
    done
    tail --lines=5 "$folder"/*.log >&2
    fail "expected the node to be idle within 30 s: see $folder/*.log"
}

stop() {
    for daemon in slurmd slurmctld munged; do
        [ -f "$folder/$daemon.pid" ] || continue
        local id
        id=$(<"$folder/$daemon.pid")
        kill "$id" 2>/dev/null || continue
        for _ in $(seq 100); do kill -0 "$id" 2>/dev/null || break; sleep 0.1; done
    done
}

fail() { echo "$0: $1" >&2; exit 1; }

case $action in
start) start ;;
stop) stop ;;
*) fail "$usage" ;;
esac
