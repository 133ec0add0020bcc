#!/bin/sh
# Makes an environment for the trainer on the pod's volume: the image's own packages (PyTorch, Megatron-Bridge) and those of its service.
# Made once for each list of packages and image's Python; a half-made one is made anew.
# TANDEM_ENVIRONMENT   where to
set -eu
here=$(dirname "$0")
wanted=$(cat "$here/requirements-trainer.txt"; python3 -c 'import sys; print(sys.executable, sys.version)')
if [ "$(cat "$TANDEM_ENVIRONMENT/.made-of" 2> /dev/null)" = "$wanted" ]; then
  echo "the trainer's environment is there"
  exit 0
fi
rm -rf "$TANDEM_ENVIRONMENT"
echo "making the trainer's environment"
python3 -m venv --system-site-packages "$TANDEM_ENVIRONMENT"
"$TANDEM_ENVIRONMENT/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir -r "$here/requirements-trainer.txt"
printf '%s\n' "$wanted" > "$TANDEM_ENVIRONMENT/.made-of"
