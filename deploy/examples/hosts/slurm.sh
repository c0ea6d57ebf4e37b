#!/usr/bin/env bash
# Compute services as jobs of an HPC cluster: each takes one Task, computes it, and ends. Change the
# lines below to what your cluster has, and then:
#
#   sbatch --chdir=deploy/examples/hosts deploy/examples/hosts/slurm.sh
#
#SBATCH --job-name=alchemiscale
#SBATCH --array=1-20%5
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --output=alchemiscale-%A-%a.log
# A Task in hand is given back two minutes before the job's time is up, or when it is preempted.
#SBATCH --signal=B:TERM@120
#SBATCH --no-requeue
set -euo pipefail

# Local to the node, and large: a Task may leave many gigabytes there until it ends.
LOCAL=${TMPDIR:-/tmp}
SETTINGS=${SETTINGS:-$PWD/slurm-settings.yaml}
ENVIRONMENT=${ENVIRONMENT:-alchemiscale-worker}
export COMPUTEPOOL_CREDENTIALS=${COMPUTEPOOL_CREDENTIALS:-$HOME/.config/alchemiscale-compute}
export COMPUTEPOOL_SPOOL=${COMPUTEPOOL_SPOOL:-$HOME/alchemiscale-spool}

# AmberTools and others need a large stack; not every cluster allows it.
ulimit -s unlimited 2>/dev/null || true

COMPUTEPOOL_SCRATCH=$(mktemp -d "$LOCAL/alchemiscale-$SLURM_JOB_ID.XXXXXX")
export COMPUTEPOOL_SCRATCH
trap 'rm -rf --one-file-system "$COMPUTEPOOL_SCRATCH"' EXIT

# The scripts that conda runs here use variables that are not set.
set +u
eval "$(conda shell.bash hook)"
conda activate "$ENVIRONMENT"
set -u

# Slurm signals this script, and this script the service. `wait` returns early when it does so.
computepool-worker compute synchronous -c "$SETTINGS" &
service=$!
trap 'kill -TERM "$service" 2>/dev/null || true' TERM INT
status=0
wait "$service" || status=$?
while kill -0 "$service" 2>/dev/null; do
  status=0
  wait "$service" || status=$?
done
exit "$status"
