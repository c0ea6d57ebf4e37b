#!/usr/bin/env bash
# A compute service in a conda environment, on one machine with a GPU. Once, in this repository:
#
#   mamba env create --name alchemiscale-worker --file worker/environment.yaml
#   mamba run --name alchemiscale-worker pip install '.[worker]'
#
# Then see whether all is well, and start it. Ctrl-C, or SIGTERM, gives the Task back and ends it.
#
#   deploy/examples/hosts/conda.sh check
#   deploy/examples/hosts/conda.sh
#
# One service uses one GPU. For a second one: CUDA_VISIBLE_DEVICES=1 deploy/examples/hosts/conda.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

ENVIRONMENT=${ENVIRONMENT:-alchemiscale-worker}
SETTINGS=${SETTINGS:-$here/settings.yaml}
export COMPUTEPOOL_CREDENTIALS=${COMPUTEPOOL_CREDENTIALS:-$HOME/.config/alchemiscale-compute}
export COMPUTEPOOL_SCRATCH=${COMPUTEPOOL_SCRATCH:-/var/tmp/alchemiscale-compute-$(id -u)}
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}

if [ "${CONDA_DEFAULT_ENV:-}" != "$ENVIRONMENT" ]; then
  # The scripts that conda runs here use variables that are not set.
  set +u
  eval "$(conda shell.bash hook)"
  conda activate "$ENVIRONMENT"
  set -u
fi

if [ "${1:-}" = check ]; then
  exec computepool-worker check -c "$SETTINGS" "${@:2}"
fi
exec computepool-worker compute synchronous -c "$SETTINGS" "$@"
