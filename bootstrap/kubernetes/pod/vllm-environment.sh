#!/bin/sh
# Makes vLLM's own environment on the pod's volume, apart from the image's packages: the trainer's image pins another PyTorch.
# Made once for each version; a half-made one is made anew.
# TANDEM_ENVIRONMENT    where to
# TANDEM_VLLM_VERSION   of vLLM
set -eu
wanted="vllm==$TANDEM_VLLM_VERSION $(python3 -c 'import sys; print(sys.executable, sys.version)')"
if [ "$(cat "$TANDEM_ENVIRONMENT/.made-of" 2> /dev/null)" = "$wanted" ]; then
  echo "vLLM's environment is there"
  exit 0
fi
rm -rf "$TANDEM_ENVIRONMENT"
echo "making an environment with vLLM $TANDEM_VLLM_VERSION"
python3 -m venv "$TANDEM_ENVIRONMENT"
# The image may pin packages for all of pip's work (PIP_CONSTRAINT); those are its own PyTorch's.
unset PIP_CONSTRAINT || :
"$TANDEM_ENVIRONMENT/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir "vllm==$TANDEM_VLLM_VERSION"
printf '%s\n' "$wanted" > "$TANDEM_ENVIRONMENT/.made-of"
