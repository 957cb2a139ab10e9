#!/bin/sh
# ComfyUI with the arguments given, in the place of this shell. It refuses folders that are not there, and /work is empty
# when a pod starts. Nodes that send work to others' servers are left out.
set -eu
mkdir -p /work/input /work/output /work/user
exec /opt/comfyui-venv/bin/python /opt/comfyui/main.py --disable-auto-launch --disable-api-nodes "$@"
