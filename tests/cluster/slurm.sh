#!/usr/bin/env bash
# A real Slurm of two nodes on one machine, for tests: slurm.sh start | stop | kill-node n2 | up n2. It needs root and
# Debian's slurm-wlm and munge. State lies in $SLURM_HOME, which must be set; ports are counted from $SLURM_PORTS
# (default 26810). `start` prints the line that clients need.
set -euo pipefail
home=${SLURM_HOME:?is the folder of its state}; export SLURM_CONF=$home/slurm.conf
host=$(hostname -s) port=${SLURM_PORTS:-26810}

end() { # kill by a file with a process id, and wait
  [ -s "$1" ] || return 0
  local pid; pid=$(cat "$1"); kill "$2" "$pid" 2>/dev/null || true
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  rm -f "$1"
}
kill_jobs() { # all that ran on a node, step daemons and what is below them, at one blow: one that outlived the others
  # would take the same step of the job that was put back into the queue for its own, and cancel it
  local p pp found
  while :; do
    found=""
    for p in /proc/[0-9]*; do
      grep -qszx "SLURMD_NODENAME=$1" "$p/environ" && grep -qszx "SLURM_CONF=$SLURM_CONF" "$p/environ" || continue
      found+=" ${p#/proc/}"
      pp=$(awk '{print $4}' "$p/stat" 2>/dev/null || true)
      [ "$(cat "/proc/$pp/comm" 2>/dev/null)" = slurmstepd ] && found=" $pp$found"
    done
    [ -n "$found" ] || break
    kill -KILL $found 2>/dev/null || true
    sleep 0.2
  done
}
case "${1:-}" in
start)
  mkdir -p "$home"/state "$home"/spool "$home"/log /run/munge
  [ -f /etc/munge/munge.key ] || mungekey
  chown munge: /etc/munge/munge.key /run/munge
  if ! munge -n >/dev/null 2>&1; then
    runuser -u munge -- munged
    cp /run/munge/munged.pid "$home/munged.pid" # which `stop` ends, since it began here
  fi
  cat >"$SLURM_CONF" <<C
ClusterName=two_nodes
SlurmctldHost=$host
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool/%n
SlurmctldLogFile=$home/log/ctld.log
SlurmdLogFile=$home/log/%n.log
SlurmctldPidFile=$home/ctld.pid
SlurmdPidFile=$home/%n.pid
SlurmctldPort=$port
SlurmdTimeout=10
KillWait=5
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
NodeName=n1 NodeHostname=$host Port=$((port + 1)) CPUs=1
NodeName=n2 NodeHostname=$host Port=$((port + 2)) CPUs=1
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
C
  slurmctld; slurmd -N n1; slurmd -N n2
  for _ in $(seq 60); do # until both can take a job
    [ "$(sinfo --noheader --Node --states=idle --format=%N 2>/dev/null | sort -u | wc -l)" = 2 ] && break
    sleep 0.5
  done
  sinfo >&2
  echo "export SLURM_CONF=$SLURM_CONF" ;;
kill-node) end "$home/$2.pid" -KILL; kill_jobs "$2" ;;
up) slurmd -N "$2"; sleep 1; scontrol update nodename="$2" state=resume 2>/dev/null || true ;;
stop)
  scancel --user=root >/dev/null 2>&1 || true
  for name in n1 n2; do end "$home/$name.pid" -TERM; kill_jobs "$name"; done
  end "$home/ctld.pid" -TERM
  end "$home/munged.pid" -TERM ;;
*) sed -n 2,4p "$0"; exit 2 ;;
esac
