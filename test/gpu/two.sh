#!/bin/sh
# Real deployments on a GPU machine that reaches no registry and no model hub: one GPU, two, four or more, by what it finds.
#
#   two.sh prepare PIECES ROOT                    unpacks what lies in PIECES into ROOT; again with more pieces adds them
#   two.sh models ROOT                            writes the model directories (make_shapes.py); a minute, may run beside `prepare`
#   two.sh run ROOT OUT [options of cases.py]     deploys and measures, writes results.json, table.txt, case-logs.tar.gz to OUT
#   two.sh both ROOT OUT [options of both.py]     the same with the trainer beside vLLM, on the same GPUs
#
# PIECES holds any of: site*.tar.xz (Python packages with vLLM), trainer*.tar.xz (those of requirements-megatron-bridge.txt that
# the machine lacks), node.xz (Node 22), pulumi.xz (the Pulumi CLI), nginx.tar.xz (pack-nginx.sh), program.tar.xz
# (pack-program.sh). The machine has python3 with PyTorch, transformers and aiohttp, and a C compiler.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

prepare() {
  pieces=$1 root=$2
  mkdir -p "$root/site" "$root/trainer-site" "$root/bin" "$root/program"
  for piece in "$pieces"/*.xz; do
    case ${piece##*/} in
      site*.tar.xz) tar -C "$root/site" -xJf "$piece" & ;;
      trainer*.tar.xz) tar -C "$root/trainer-site" -xJf "$piece" & ;;
      nginx*.tar.xz) tar -C "$root/bin" -xJf "$piece" & ;;
      program*.tar.xz) tar -C "$root/program" -xJf "$piece" & ;;
      node.xz | pulumi.xz)
        binary=$(basename "$piece" .xz)
        (xz -dc "$piece" >"$root/bin/$binary.new" && chmod 755 "$root/bin/$binary.new" && mv "$root/bin/$binary.new" "$root/bin/$binary") &
        ;;
      *) echo "not a piece: $piece" >&2 ;;
    esac
    running="${running:-} $!"
  done
  for process in $running; do wait "$process"; done
  if [ -d "$root/site/vllm" ] && ! [ -e "$root/runtime/.compiled" ]; then make_runtime "$root" runtime site; fi
  if [ -d "$root/trainer-site/megatron" ] && ! [ -e "$root/trainer/.compiled" ]; then make_runtime "$root" trainer trainer-site; fi
}

# An environment of Python that sees the unpacked packages first and those of the machine's own python3 behind them, like the
# environments that `tandem` makes: found by its path alone, without a variable.
# make_runtime ROOT ENVIRONMENT PACKAGES, both in ROOT
make_runtime() {
  root=$1 environment=$1/$2 packages=$1/$3
  rm -rf "$environment"
  mkdir -p "$environment/bin"
  python3 - "$environment" "$packages" <<'PYTHON'
import os, sys
environment, unpacked = map(os.path.abspath, sys.argv[1:])
base = sys._base_executable
os.symlink(base, f"{environment}/bin/python")
version = ".".join(map(str, sys.version_info[:3]))
with open(f"{environment}/pyvenv.cfg", "w") as file:
    file.write(f"home = {os.path.dirname(base)}\ninclude-system-site-packages = false\nversion = {version}\n")
packages = f"{environment}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
os.makedirs(packages)
own = [path for path in sys.path if path and path.endswith(("site-packages", "dist-packages"))]
with open(f"{packages}/machine.pth", "w") as file:
    file.write(f"{unpacked}\n")
    # addsitedir reads the .pth files of the machine's packages, too.
    file.write(f"import site; [site.addsitedir(path) for path in {own!r}]\n")
PYTHON
  # Otherwise each process of the first start compiles every module for itself.
  "$environment/bin/python" -m compileall -q -j 0 "$packages" >/dev/null 2>&1 || :
  touch "$environment/.compiled"
}

models() {
  root=$1
  mkdir -p "$root/models"
  rm -f "$root/models/.complete"
  python3 "$here/make_shapes.py" "$root/models" Qwen3-0.6B SmolLM2-135M Llama-3.2-1B --placeholder Llama-3.1-8B
  touch "$root/models/.complete"
}

run() { measure cases.py "$@"; }

both() {
  root=$1
  measure both.py "$@" --trainer-runtime "$root/trainer/bin/python"
}

measure() {
  script=$1 root=$2 out=$3
  shift 3
  PATH=$root/bin:$PATH
  waited=0
  until [ -e "$root/models/.complete" ] || [ "$waited" -ge 60 ]; do
    sleep 1
    waited=$((waited + 1))
  done
  # Virtual machines that share a host's GPUs must leave NVLink multicast alone: one that uses it can take all of them out of service.
  export NCCL_NVLS_ENABLE="${NCCL_NVLS_ENABLE:-0}" TORCH_SYMM_MEM_DISABLE_MULTICAST="${TORCH_SYMM_MEM_DISABLE_MULTICAST:-1}"
  export NVSHMEM_DISABLE_NVLS="${NVSHMEM_DISABLE_NVLS:-1}" PATH
  exec python3 "$here/$script" --tandem "$root/program/bin/tandem" --runtime "$root/runtime/bin/python" --models "$root/models" \
    --out "$out" "$@"
}

case ${1:-} in
  prepare | models | run | both) "$@" ;;
  *)
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
