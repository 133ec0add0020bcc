#!/bin/sh
# Brings the model's weights to the pod's volume, with the access to them checked first, and links /cache/model to them.
# TANDEM_WEIGHTS   what weights.py is asked for, as JSON
# HUB_TOKEN        of the model hub; may be empty
# TANDEM_CACHE_DIR where to, TANDEM_MODEL_LINK the link: for tests
# Exit status: weights.py's.
set -eu
here=$(dirname "$0")
cache=${TANDEM_CACHE_DIR:-/cache}
link=${TANDEM_MODEL_LINK:-$cache/model}
step=$cache/.weights
mkdir -p "$step" "${HOME:-$cache/home}"
printf '%s\n' "$TANDEM_WEIGHTS" > "$step/request.json"
TANDEM_CACHE_DIR=$cache TANDEM_STEP_DIR=$step TANDEM_REQUEST=$step/request.json
export TANDEM_CACHE_DIR TANDEM_STEP_DIR TANDEM_REQUEST
# Python writes no compiled files beside scripts that it may only read.
PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE
python3 - << 'PYTHON' | python3 "$here/weights.py" apply > "$step/answer.json"
import json, os
token = os.environ.get("HUB_TOKEN")
print(json.dumps({"hubToken": token} if token else {}))
PYTHON
path=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["path"])' "$step/answer.json")
ln -sfn "$path" "$link"
echo "the model is at $path"
