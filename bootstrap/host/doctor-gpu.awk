# Judges the text of `nvidia-smi -q`, of drivers from branch 470 to 580: names of sections changed (Throttle became Event
# Reasons, Power Limit became Current Power Limit), and what a GPU does not have is N/A or missing, which is no defect.
# Output: lines of code, ok|warn|fail, text, cure with tabs between; nothing when there is no GPU in the text

function tell(code, word, text, cure) { printf "%s\t%s\t%s\t%s\n", code, word, text, cure }

# A value of the current GPU: first of the names that it has.
function at(gpu, names,    list, i) {
  split(names, list, "|")
  for (i = 1; i in list; i++) if ((gpu, list[i]) in value) return value[gpu, list[i]]
  return ""
}

# Adds the GPU to the list of those for which something holds.
function note(kind, gpu, more) { found[kind] = found[kind] (found[kind] == "" ? "" : ", ") gpu more; hits[kind]++ }
function has(kind) { return hits[kind] > 0 }
function list(kind,    text) { text = found[kind]; gsub(/ /, "", text); return text }
function gpus(kind) { return (hits[kind] == 1 ? "GPU " : "GPUs ") found[kind] }

/^GPU [0-9A-Fa-f]+:/ { gpu = seen++; depth = 0; split("", path); next }
!seen { next }
{
  match($0, /^ */)
  level = int(RLENGTH / 4)
  line = substr($0, RLENGTH + 1)
  split_at = index(line, ":")
  key = split_at ? substr(line, 1, split_at - 1) : line
  sub(/ +$/, "", key)
  path[level] = key
  full = path[1]
  for (i = 2; i <= level; i++) full = full "/" path[i]
  text = split_at ? substr(line, split_at + 2) : ""
  sub(/ +(<===.*)?$/, "", text)
  if (split_at) value[gpu, full] = text
}

END {
  if (!seen) exit
  for (g = 0; g < seen; g++) judge(g)
  report()
}

function judge(g,    volatile, mode, reason, current, standard, temperature, slowdown, margin) {
  volatile = at(g, "ECC Errors/Volatile/DRAM Uncorrectable") + at(g, "ECC Errors/Volatile/SRAM Uncorrectable") \
    + at(g, "ECC Errors/Volatile/SRAM Uncorrectable Parity") + at(g, "ECC Errors/Volatile/SRAM Uncorrectable SEC-DED") \
    + at(g, "ECC Errors/Volatile/Double Bit/Total")
  if (volatile > 0) note("ecc", g, " (" volatile ")")
  if (at(g, "Remapped Rows/Remapping Failure Occurred") == "Yes" || \
      at(g, "ECC Errors/Aggregate/SRAM Threshold Exceeded") == "Yes") note("worn", g)
  if (at(g, "Remapped Rows/Pending") == "Yes" || \
      at(g, "Retired Pages/Pending Page Blacklist|Retired Pages/Pending Retirement") == "Yes") note("remap", g)
  if (at(g, "Persistence Mode") == "Disabled") note("persistence", g)
  if (at(g, "MIG Mode/Current") == "Enabled") note("mig", g)
  mode = at(g, "Compute Mode")
  if (mode == "Prohibited") note("prohibited", g)
  else if (mode ~ /^Exclusive/) note("exclusive", g)
  for (reason in brakes)
    if (at(g, "Clocks Event Reasons/" reason "|Clocks Throttle Reasons/" reason) == "Active")
      note("throttled", g, " (" brakes[reason] ")")
  current = at(g, "GPU Power Readings/Current Power Limit|Power Readings/Enforced Power Limit|Power Readings/Power Limit") + 0
  standard = at(g, "GPU Power Readings/Default Power Limit|Power Readings/Default Power Limit") + 0
  if (current > 0 && current < standard - 1) note("power", g, " (" current " of " standard " W)")
  temperature = at(g, "Temperature/GPU Current Temp")
  slowdown = at(g, "Temperature/GPU Slowdown Temp")
  margin = at(g, "Temperature/GPU T.Limit Temp")
  # T.Limit counts down to 0, where the GPU slows down.
  if (temperature ~ /^[0-9]/ && ((slowdown ~ /^[0-9]/ && temperature + 5 >= slowdown + 0) || \
      (margin ~ /^-?[0-9]/ && margin + 0 <= 5))) note("hot", g, " (" temperature ")")
  if (at(g, "Fabric/State") ~ /^(In Progress|Not Started)$/) note("fabric", g, " (" at(g, "Fabric/State") ")")
  else if (at(g, "Fabric/State") == "Completed" && \
      at(g, "Fabric/Status") !~ /^(Success|N\/A|)$/) note("fabric", g, " (" at(g, "Fabric/Status") ")")
  if (at(g, "GPU Reset Status/Reset Required") == "Yes" || at(g, "GPU Recovery Action") ~ /Reset|Reboot/) note("reset", g)
}

function report() {
  if (has("reset")) tell("reset", "fail",
    gpus("reset") ": the driver asks for a reset",
    "stop what runs on it, then: sudo nvidia-smi -r -i " list("reset") ", or reboot")
  if (has("ecc")) tell("ecc", "fail",
    gpus("ecc") ": uncorrectable memory errors since the driver was loaded",
    "reset the GPU (sudo nvidia-smi -r) or reboot; have it replaced when they come back")
  if (has("worn")) tell("ecc", "fail",
    gpus("worn") ": its memory has no spare rows left for the bad ones",
    "have the GPU replaced")
  if (has("remap")) tell("ecc", "warn",
    gpus("remap") ": bad memory rows wait to be replaced by spare ones",
    "reset the GPU (sudo nvidia-smi -r) or reboot at the next occasion")
  if (!has("ecc") && !has("worn") && !has("remap")) tell("ecc", "ok",
    "no uncorrectable memory error, no row waits for remapping",
    "")
  if (has("persistence")) tell("persistence", "warn",
    gpus("persistence") ": persistence is off, so the driver starts anew for every first program",
    "sudo nvidia-smi -pm 1, for good: sudo systemctl enable --now nvidia-persistenced")
  if (has("mig")) tell("mig", "fail",
    gpus("mig") ": split into MIG instances, which tensor parallelism and the plan can't use",
    "sudo nvidia-smi -mig 0 -i " list("mig") ", then reset or reboot")
  if (has("prohibited")) tell("mode", "fail",
    gpus("prohibited") ": compute mode Prohibited, no program may use it",
    "sudo nvidia-smi -c DEFAULT")
  if (has("exclusive")) tell("mode", "warn",
    gpus("exclusive") ": compute mode Exclusive, so serving and training can't share it",
    "sudo nvidia-smi -c DEFAULT")
  if (has("throttled")) tell("clocks", "warn",
    gpus("throttled") ": clocks are held down",
    "check cooling and power supply of the host")
  else tell("clocks", "ok", "clocks are not held down by heat or power supply", "")
  if (has("power")) tell("power", "warn",
    gpus("power") ": power limit below its default",
    "sudo nvidia-smi -pl WATTS, if nobody set it on purpose")
  if (has("hot")) tell("temperature", "warn",
    gpus("hot") ": close to the temperature at which it slows down",
    "check fans and air flow")
  if (has("fabric")) tell("fabric", "fail",
    gpus("fabric") ": the NVLink fabric is not set up; CUDA fails with error 802",
    "sudo systemctl restart nvidia-fabricmanager, of the driver's own version")
}

BEGIN {
  brakes["HW Slowdown"] = "hardware slowdown"
  brakes["HW Slowdown/HW Thermal Slowdown"] = "too hot"
  brakes["HW Slowdown/HW Power Brake Slowdown"] = "power brake"
  brakes["SW Thermal Slowdown"] = "too hot, by software"
}
