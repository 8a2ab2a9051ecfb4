#!/usr/bin/env bash
# A grid on Slurm: a Ray node on each machine of one allocation, the driver on the first of them.
#
#   sbatch cluster/slurm.sh grid.yaml --store /shared/paper
#
# Submit it at the top of the checkout, whose .venv (`make setup`) all machines see, as they see the
# store. What follows the script goes to `prunegrid run`. Options of sbatch go before it, and
# override the lines below: sbatch --nodes=8 --partition=gpu --gpus-per-node=4 cluster/slurm.sh ...
#
# Three minutes before the time limit Slurm sends SIGUSR1: tasks save their state, and the job goes
# back into the queue, where it resumes. So it does after a preemption, or the loss of a machine.
# docs/slurm.md says what a cluster must allow; `make test-cluster` runs this very file.

#SBATCH --job-name=prunegrid
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=prunegrid-%j.log

set -uo pipefail
export PATH="${PRUNEGRID_BIN:-$PWD/.venv/bin}:$PATH"
unset PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS # workers set their own
export RAY_USAGE_STATS_ENABLED=0
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=1 # tasks that asked for no GPU see none
# The cluster's password, of this start alone: others may use the same machines.
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE RAY_AUTH_TOKEN

ip=$(hostname -I | awk '{print $1}')
PRUNEGRID_HEAD=$ip:$((20000 + SLURM_JOB_ID % 20000)) # two jobs may share a machine
PRUNEGRID_TEMP=/tmp/prunegrid-$SLURM_JOB_ID          # short: sockets are in it
export PRUNEGRID_HEAD PRUNEGRID_TEMP
echo "$(date '+%F %T') job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)), on" \
  "$SLURM_JOB_NODELIST; Ray's head at $PRUNEGRID_HEAD"

# Runs once on each machine, as Ray's node there. A worker may be there before the head.
node='
if [ "$SLURM_PROCID" = 0 ]; then
  exec ray start --head --block --port="${PRUNEGRID_HEAD##*:}" --num-cpus="$SLURM_CPUS_ON_NODE" \
    --temp-dir="$PRUNEGRID_TEMP" --include-dashboard=false --disable-usage-stats
fi
until ray health-check --address "$PRUNEGRID_HEAD"; do sleep 1; done
exec ray start --block --address="$PRUNEGRID_HEAD" --num-cpus="$SLURM_CPUS_ON_NODE" \
  --disable-usage-stats'
ulimit -n "$(ulimit -Hn)"
srun --kill-on-bad-exit=0 bash -c "$node" >"prunegrid-$SLURM_JOB_ID.ray.log" 2>&1 &

end_s=$((SECONDS + 300))
until ray health-check --address "$PRUNEGRID_HEAD" >/dev/null 2>&1; do
  if [ $SECONDS -gt $end_s ]; then
    echo "Ray's head did not start within 5 minutes: see prunegrid-$SLURM_JOB_ID.ray.log"
    exit 1
  fi
  sleep 1
done

driver=
stopped=
stop() {
  echo "$(date '+%F %T') Slurm says that the job is to end"
  stopped=yes
  [ -n "$driver" ] && kill -USR1 "$driver"
}
trap stop USR1 TERM
prunegrid run "$@" --address "$PRUNEGRID_HEAD" &
driver=$!
code=0
wait "$driver" || code=$?
while kill -0 "$driver" 2>/dev/null; do # a signal ends `wait`, not the driver
  code=0
  wait "$driver" || code=$?
done
trap - USR1 TERM

# 130: all has saved its state. More: the signal came before the driver heard signals, or after.
if [ -n "$stopped" ] && [ "$code" -gt 128 ]; then
  echo "$(date '+%F %T') the job goes back into the queue"
  trap 'exit 130' TERM # which Slurm sends next
  scontrol requeue "$SLURM_JOB_ID" && sleep 60
fi
exit "$code"
