#!/usr/bin/env bash
# A compute service in a container, on one machine with a GPU and the NVIDIA Container Toolkit.
#
#   deploy/examples/hosts/docker.sh check
#   deploy/examples/hosts/docker.sh
#
# One container uses one GPU. For a second one: GPU=1 deploy/examples/hosts/docker.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

IMAGE=${IMAGE:-registry.example.org/alchemiscale/worker:v0.1.0}
GPU=${GPU:-0}
SETTINGS=${SETTINGS:-$here/settings.yaml}
CREDENTIALS=${COMPUTEPOOL_CREDENTIALS:-$HOME/.config/alchemiscale-compute}
SCRATCH=${COMPUTEPOOL_SCRATCH:-/var/tmp/alchemiscale-compute-$(id -u)}
mkdir -p "$SCRATCH"

if [ "${1:-}" = check ]; then
  command=(check -c /etc/computepool/settings.yaml "${@:2}")
else
  command=(compute synchronous -c /etc/computepool/settings.yaml "$@")
fi

# As in a pool: your own user, nothing but the scratch folder is writable, no capabilities. `docker
# stop` waits a minute, so that the Task is given back before the end.
exec docker run --rm --init --stop-timeout=60 \
  --gpus="device=$GPU" \
  --hostname="$(hostname)" \
  --user="$(id -u):$(id -g)" \
  --read-only --cap-drop=ALL --security-opt=no-new-privileges \
  --tmpfs=/tmp \
  --volume="$SETTINGS:/etc/computepool/settings.yaml:ro" \
  --volume="$CREDENTIALS:/etc/computepool/credentials:ro" \
  --volume="$SCRATCH:/scratch" \
  --env=COMPUTEPOOL_CREDENTIALS=/etc/computepool/credentials \
  --env=COMPUTEPOOL_SCRATCH=/scratch \
  "$IMAGE" "${command[@]}"
