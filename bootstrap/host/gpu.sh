# shellcheck shell=sh
# Sourced: memory of NVIDIA GPUs, as nvidia-smi tells it. All of it is quiet on a host without GPUs.

# Runs nvidia-smi with a limit: a broken driver makes it hang.
ask_gpus() { timeout 10 nvidia-smi "$@" 2>/dev/null; }

has_gpus() { command -v nvidia-smi >/dev/null 2>&1 && ask_gpus -L >/dev/null; }

# "<index> <used MiB> <total MiB>" for each GPU.
gpu_remember_use() {
  if has_gpus; then ask_gpus --query-gpu=index,memory.used,memory.total --format=csv,noheader,nounits | tr -d ,; fi
}

# One line for each process that computes on a GPU and is not this stack's: gpu_strangers ["INDEX..."]; all GPUs without any.
gpu_strangers() {
  command -v nvidia-smi >/dev/null 2>&1 || return 0
  uuids="$(ask_gpus --query-gpu=index,uuid --format=csv,noheader | LC_ALL=C awk -F ', *' -v wanted="${1:-}" '
    BEGIN { n = split(wanted, index_of, " "); for (i = 1; i <= n; i++) want[index_of[i]] = 1 }
    n == 0 || ($1 in want) { print $2, $1 }')"
  [ -n "$uuids" ] || return 0
  ask_gpus --query-compute-apps=gpu_uuid,pid,used_memory,process_name --format=csv,noheader,nounits |
    while IFS=, read -r uuid pid used name; do
      gpu="$(printf '%s\n' "$uuids" | LC_ALL=C awk -v uuid="$uuid" '$1 == uuid { print $2 }')"
      pid="$(printf '%s' "$pid" | tr -d ' ')"
      if [ -z "$gpu" ] || is_own_process "$pid"; then continue; fi
      user="$(stat -c %U "/proc/$pid" 2>/dev/null || echo '?')"
      printf 'process %s of %s (%s) holds %s MiB of GPU %s\n' "$pid" "$user" "${name# }" "${used# }" "$gpu"
    done
}

# Whether a process bears this stack's mark: is_own_process PID
is_own_process() { grep -qzxF "TANDEM_STACK_DIR=$TANDEM_STACK_DIR" "/proc/$1/environ" 2>/dev/null; }

# Ends with 34 when others hold memory of the GPUs that the lease is for and the stack has the host for itself; where it shares
# it, they are only named, and vLLM decides whether the rest is enough.
gpu_require_free() {
  lease_exclusive=false lease_gpus=''
  if [ -f "$TANDEM_STACK_DIR/lease.json" ]; then eval "$(json_assignments lease_ <"$TANDEM_STACK_DIR/lease.json")"; fi
  strangers="$(gpu_strangers "$lease_gpus")"
  [ -n "$strangers" ] || return 0
  printf '%s\n' "$strangers" | sed 's/^/note: /' >&2
  [ "$lease_exclusive" != true ] || die 34 "other programs use the GPUs: $(printf '%s\n' "$strangers" | head -n 3 | paste -sd ';' -) — fix: end them, choose other GPUs with devices, or set exclusive to false"
}

# Waits until the GPUs are as they were before the unit started: the driver frees memory some seconds after a process ends.
# gpu_wait_for_release FILE, made by gpu_remember_use
gpu_wait_for_release() {
  [ -s "$1" ] || return 0
  rounds=0
  while [ "$rounds" -lt 60 ]; do
    held="$(gpu_remember_use | awk -v before="$1" '
      BEGIN { while ((getline line < before) > 0) { split(line, field, " "); used[field[1]] = field[2] } }
      $2 > used[$1] + 512 { printf "GPU %s holds %d MiB more than before. ", $1, $2 - used[$1] }')"
    [ -n "$held" ] || return 0
    rounds=$((rounds + 1))
    sleep 0.5
  done
  say "note: $held(another program may have taken it)"
}
