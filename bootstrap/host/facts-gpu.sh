# shellcheck shell=sh
# Sourced by facts.sh: the NVIDIA GPUs of a host as members of HostFacts, from nvidia-smi, and from the bus whatever it says.
# shellcheck source=gpu-bus.sh
. "$TANDEM_SCRIPTS_DIR/gpu-bus.sh"

# A driver in trouble makes nvidia-smi hang; the whole of the facts must come in seconds.
ask_smi() { timeout -k 1 6 nvidia-smi "$@" 2>/dev/null; }

# Prints `,"gpus":[...],"gpuLink":...` and what else is known. A host without an answering driver has no GPUs.
gpu_facts_json() {
  rows=''
  if command -v nvidia-smi >/dev/null 2>&1; then
    code=0
    rows="$(ask_smi --query-gpu=index,uuid,name,memory.total,memory.used,compute_cap --format=csv,noheader,nounits)" || code=$?
    # Drivers before 510 do not know compute_cap.
    if [ "$code" -ne 0 ] && [ "$code" -ne 124 ]; then
      code=0
      rows="$(ask_smi --query-gpu=index,uuid,name,memory.total,memory.used --format=csv,noheader,nounits)" || code=$?
    fi
    case "$code" in
      0) ;;
      124 | 137)
        rows=''
        say "nvidia-smi does not answer within 6 s: the driver hangs — fix: reboot"
        ;;
      *) rows='' ;;
    esac
    [ -n "$rows" ] || [ "$code" -eq 124 ] || say "nvidia-smi is there but finds no GPUs — fix: look at 'nvidia-smi' and the kernel's log"
  fi
  if [ -z "$rows" ]; then
    printf ',"gpus":[],"gpuLink":"unknown"'
  else
    printf ',"gpus":[%s],"gpuLink":"%s"' "$(printf '%s' "$rows" | gpu_rows_json)" "$(gpu_link "$rows")"
  fi
  bus_facts_json
  [ -n "$rows" ] || return 0
  peer_access_json
  ask_smi | LC_ALL=C awk '
    match($0, /Driver Version: *[0-9.]+/) { split(substr($0, RSTART, RLENGTH), word, ": *"); printf ",\"driverVersion\":\"%s\"", word[2] }
    match($0, /CUDA Version: *[0-9.]+/) { split(substr($0, RSTART, RLENGTH), word, ": *"); printf ",\"cudaVersion\":\"%s\"", word[2] }' || :
}

# `,"busGpus":[...],"nvSwitches":...,"secureBoot":...`; in an application container the bus tells nothing.
bus_facts_json() {
  if in_application_container; then return 0; fi
  printf ',"busGpus":[%s],"nvSwitches":%s,"secureBoot":%s' "$(bus_gpus | LC_ALL=C awk '{
    printf "%s{\"address\":\"%s\",\"deviceId\":\"%s\"%s}", separator, $1, $2, ($3 == "-" ? "" : ",\"driver\":\"" $3 "\"")
    separator = ","
  }')" "$(bus_nvswitch_count)" "$(if secure_boot_is_on; then echo true; else echo false; fi)"
}

# nvidia-smi counts in MiB.
gpu_rows_json() {
  LC_ALL=C awk -F', *' 'NF >= 5 {
    gsub(/["\\]/, "", $3)
    printf "%s{\"index\":%d,\"uuid\":\"%s\",\"model\":\"%s\",\"memoryGiB\":%.2f,\"memoryUsedGiB\":%.2f", separator, $1, $2, $3, $4 / 1024, $5 / 1024
    if ($6 ~ /^[0-9]+\.[0-9]+$/) printf ",\"computeCapability\":\"%s\"", $6
    printf "}"
    separator = ","
  }'
}

# The slowest link between any two GPUs, from the matrix of `nvidia-smi topo -m`: NV# is NVLink; PIX and PXB cross PCIe switches
# only, PHB the CPU, NODE several bridges of one socket, SYS another socket.
gpu_link() {
  if [ "$(printf '%s\n' "$1" | grep -c .)" -lt 2 ]; then
    echo unknown
    return
  fi
  ask_smi topo -m | LC_ALL=C awk '
    { gsub(/\033\[[0-9;]*m/, "") }
    # The heading comes first: how many columns are GPUs.
    !columns && /GPU0/ { for (i = 1; i <= NF; i++) if ($i ~ /^GPU[0-9]+$/) columns++; next }
    columns && $1 ~ /^GPU[0-9]+$/ {
      for (i = 2; i <= columns + 1; i++) {
        rank = 0
        if ($i ~ /^NV/) rank = 1
        else if ($i == "PIX" || $i == "PXB") rank = 2
        else if ($i == "PHB" || $i == "NODE") rank = 3
        else if ($i == "SYS") rank = 4
        if (rank > worst) worst = rank
      }
    }
    END {
      split("nvlink pcie-switch pcie-host pcie-socket", name, " ")
      print worst ? name[worst] : "unknown"
    }'
}

# Whether every GPU can read the memory of every other one; left out when the driver can't be asked or there is one GPU.
peer_access_json() {
  ask_smi topo -p2p r | LC_ALL=C awk '
    { gsub(/\033\[[0-9;]*m/, "") }
    !columns && /GPU0/ { for (i = 1; i <= NF; i++) if ($i ~ /^GPU[0-9]+$/) columns++; next }
    columns && $1 ~ /^GPU[0-9]+$/ {
      for (i = 2; i <= columns + 1; i++) {
        if ($i == "X") continue
        asked++
        if ($i != "OK") refused++
      }
    }
    END { if (asked) printf ",\"peerAccess\":%s", refused ? "false" : "true" }'
}
