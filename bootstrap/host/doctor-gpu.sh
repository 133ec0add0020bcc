# shellcheck shell=sh
# Sourced by doctor.sh: the NVIDIA GPUs. driver-verdict.sh, which the driver step goes by too, judges bus, driver, fabric manager
# and who else uses the GPUs; here is their health and how they are linked.
# Reads: TANDEM_GPUS     how many GPUs are wanted: all or a number
#        DRIVER_FLOOR    see driver-verdict.sh
# shellcheck source=driver-verdict.sh
. "$TANDEM_SCRIPTS_DIR/driver-verdict.sh"

check_driver() {
  case "${TANDEM_GPUS:-all}" in
    all) ;;
    *) export DRIVER_EXPECTED_GPUS="$TANDEM_GPUS" ;;
  esac
  # Without GPUs the model is served on the CPU, unless GPUs were asked for.
  if [ -z "$(bus_gpus)" ] && ! command -v nvidia-smi >/dev/null 2>&1 && [ "${DRIVER_EXPECTED_GPUS:-0}" -eq 0 ]; then
    verdict no-gpu ok "no NVIDIA GPU on the bus: the model is served on the CPU"
    return
  fi
  driver_verdicts
}

# What the driver does not tell at all, driver_verdicts has told already.
check_gpu() {
  command -v nvidia-smi >/dev/null 2>&1 || return 0
  nvidia-smi -q 2>/dev/null | LC_ALL=C awk -f "$TANDEM_SCRIPTS_DIR/doctor-gpu.awk"
}

# Each pair of GPUs with what `nvidia-smi topo -m` says of it: "0-1:NV18 0-2:SYS".
check_links() {
  command -v nvidia-smi >/dev/null 2>&1 || return 0
  pairs="$(nvidia-smi topo -m 2>/dev/null | LC_ALL=C awk '
    { gsub(/\033\[[0-9;]*m/, "") }
    !columns && /GPU0/ { for (i = 1; i <= NF; i++) if ($i ~ /^GPU[0-9]+$/) column[++columns] = substr($i, 4); next }
    columns && $1 ~ /^GPU[0-9]+$/ {
      row = substr($1, 4)
      for (i = 1; i <= columns; i++) if (row + 0 < column[i] + 0) printf "%s%s-%s:%s", (n++ ? " " : ""), row, column[i], $(i + 1)
    }')"
  [ -z "$pairs" ] || verdict links data "$pairs"
}
