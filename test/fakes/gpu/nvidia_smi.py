#!/usr/bin/python3
"""Stands for nvidia-smi, which needs NVIDIA's hardware: the calls that Tandem's scripts and people make of it.

Compared with what the real one printed on 2 x H100 (driver 580.159.04), test/host/fixtures/nvidia-smi-2xh100: the
default table, --query-gpu, topo -m and topo -p2p r are the same byte for byte for a machine like that
(test/fakes/gpu/nvidia-smi.test.ts); the rows of processes in the table were not recorded.
The words of the failures are those of public reports and were not seen by us on hardware.

The machine's GPUs are in /etc/fakegpu.json. The driver is what packages made by driver-package.sh have installed:
the "module" counts as loaded when /proc/driver/nvidia/version is there, which their boot unit sees to, so that an
upgrade without a reboot is a mismatch, as it is with the real driver.
"""

import json
import os
import sys
import time
from pathlib import Path

# Elsewhere only in the test that compares this program with recordings.
ROOT = Path(os.environ.get("FAKEGPU_ROOT", "/"))
MACHINE = ROOT / "etc/fakegpu.json"
MODULE = ROOT / "proc/driver/nvidia/version"
LIBRARY = ROOT / "usr/lib/fakegpu/library-version"
# What -q prints, whole: a test writes it.
QUERY_TEXT = ROOT / "etc/fakegpu-query.txt"
CUDA_OF_BRANCH = {"470": "11.4", "535": "12.2", "550": "12.4", "570": "12.8", "580": "13.0"}
UNITS = ("MiB", "%", "W")


def machine():
    """The GPUs with their defaults; see `FakeGpus` in gpus.ts for every member."""
    facts = {
        "count": 8,
        "name": "NVIDIA H100 80GB HBM3",
        "memoryMiB": 81559,
        "link": "NV18",
        "nvswitches": 0,
        "computeCapability": "9.0",
        "processes": [],
        "faults": {},
    }
    if MACHINE.exists():
        facts.update(json.loads(MACHINE.read_text()))
    return facts


def module_version():
    try:
        words = MODULE.read_text().split("\n")[0].split()
    except OSError:
        return None
    return next((word for word in words if word[0].isdigit() and word.count(".") in (1, 2)), None)


def library_version():
    return LIBRARY.read_text().strip() if LIBRARY.exists() else module_version()


class Machine:
    def __init__(self):
        self.facts = machine()
        self.faults = self.facts["faults"]
        self.driver = library_version()
        self.lost = set(self.faults.get("lost", []))
        hidden = set(self.faults.get("missing", []))
        self.all = [i for i in range(self.facts["count"]) if i not in hidden]

    def cuda(self):
        return self.facts.get("cuda") or CUDA_OF_BRANCH.get((self.driver or "").split(".")[0], "13.0")

    def uuid(self, i):
        given = self.facts.get("uuids", [])
        return given[i] if i < len(given) else f"GPU-{0xA0000000 + i:08x}-feed-beef-cafe-{i:012x}"

    def bus(self, i):
        given = self.facts.get("busIds", [])
        return given[i] if i < len(given) else f"00000000:{0x10 + i:02X}:00.0"

    def used(self, i):
        return sum(int(process["usedMiB"]) for process in self.facts["processes"] if process.get("gpu", 0) == i)

    def reading(self, name, i, otherwise):
        values = self.facts.get(name, [])
        return values[i] if i < len(values) else otherwise

    def field(self, i, name):
        total = self.facts["memoryMiB"]
        errors = self.faults.get("ecc", {}).get(str(i), 0)
        values = {
            "index": i,
            "count": len(self.all),
            "name": self.facts["name"],
            "uuid": self.uuid(i),
            "driver_version": self.driver,
            "pci.bus_id": self.bus(i),
            "memory.total": f"{total} MiB",
            "memory.used": f"{self.used(i)} MiB",
            "memory.free": f"{total - self.used(i)} MiB",
            "utilization.gpu": "0 %",
            "temperature.gpu": self.reading("temperaturesC", i, 34),
            "compute_cap": self.facts["computeCapability"],
            "compute_mode": "Default",
            "mig.mode.current": "Disabled",
            "persistence_mode": "Enabled",
            "power.draw": f"{self.reading('powerWatts', i, 91):.2f} W",
            "power.limit": "700.00 W",
            "ecc.mode.current": "Enabled",
            "ecc.errors.uncorrected.volatile.total": errors,
            "pstate": "P0",
            "vbios_version": "96.00.74.00.01",
        }
        aliases = {"gpu_name": "name", "gpu_uuid": "uuid", "gpu_bus_id": "pci.bus_id"}
        key = aliases.get(name, name)
        if key not in values:
            fail(f'Field "{name}" is not a valid field to query.\n', 2)
        return str(values[key])


def fail(text, status):
    print(text)
    sys.exit(status)


def lost_line(gpus, i):
    what = "GPU is lost.  Reboot the system to recover this GPU"
    return f"Unable to determine the device handle for GPU{i}: {gpus.bus(i)}: {what}"


def print_csv(gpus, fields, rows, style):
    if "noheader" not in style:
        print(", ".join(fields))
    for row in rows:
        if isinstance(row, str):
            print(row)
            continue
        cells = [cell.split(" ")[0] if "nounits" in style and cell.split(" ")[-1] in UNITS else cell for cell in row]
        print(", ".join(cells))


def query_gpu(gpus, selected, fields, style):
    rows = [lost_line(gpus, i) if i in gpus.lost else [gpus.field(i, field) for field in fields] for i in selected]
    print_csv(gpus, fields, rows, style)


def query_apps(gpus, fields, style):
    rows = []
    for process in gpus.facts["processes"]:
        gpu = process.get("gpu", 0)
        values = {
            "pid": str(process["pid"]),
            "process_name": process.get("name", "python3"),
            "name": process.get("name", "python3"),
            "used_memory": f"{process['usedMiB']} MiB",
            "used_gpu_memory": f"{process['usedMiB']} MiB",
            "gpu_uuid": gpus.uuid(gpu),
            "gpu_bus_id": gpus.bus(gpu),
            "gpu_name": gpus.facts["name"],
        }
        rows.append([values.get(field, "[N/A]") for field in fields])
    print_csv(gpus, fields, rows, style)


def link(gpus, i, j):
    """`link` is one word for all pairs, or a matrix with a word for each."""
    links = gpus.facts["link"]
    return links if isinstance(links, str) else links[i][j]


def topology(gpus):
    names = "\t".join(f"GPU{i}" for i in gpus.all)
    print(f"\t\033[4m{names}\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\033[0m")
    for i in gpus.all:
        row = "\t".join(" X " if i == j else link(gpus, i, j) for j in gpus.all)
        print(f"GPU{i}\t{row}\t{gpus.facts.get('cpuAffinity', '0-31')}\t0\t\tN/A")
    print(
        """
Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes (e.g., QPI/UPI)
  NODE = Connection traversing PCIe as well as the interconnect between PCIe Host Bridges within a NUMA node
  PHB  = Connection traversing PCIe as well as a PCIe Host Bridge (typically the CPU)
  PXB  = Connection traversing multiple PCIe bridges (without traversing the PCIe Host Bridge)
  PIX  = Connection traversing at most a single PCIe bridge
  NV#  = Connection traversing a bonded set of # NVLinks"""
    )


def peer_access(gpus):
    names = "\t".join(f"GPU{i}" for i in gpus.all)
    print(f" \t\033[4m{names}\t\033[0m")
    answer = gpus.facts.get("peerAccess", "OK")
    for i in gpus.all:
        row = "\t".join("X" if i == j else answer for j in gpus.all)
        print(f" GPU{i}\t{row}\t")
    print(
        """
Legend:

  X    = Self
  OK   = Status Ok
  CNS  = Chipset not supported
  GNS  = GPU not supported
  TNS  = Topology not supported
  NS   = Not supported
  U    = Unknown"""
    )


def table(gpus, selected):
    edge = "+-----------------------------------------+------------------------+----------------------+"
    wide = "+-----------------------------------------------------------------------------------------+"
    print(time.strftime("%a %b %e %H:%M:%S %Y       "))
    print(wide)
    print(f"| NVIDIA-SMI {gpus.driver:<23}Driver Version: {gpus.driver:<15}CUDA Version: {gpus.cuda():<9}|")
    print(edge)
    print("| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |")
    print("| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |")
    print("|                                         |                        |               MIG M. |")
    print("|=========================================+========================+======================|")
    for i in selected:
        if i in gpus.lost:
            print(lost_line(gpus, i))
            continue
        errors = gpus.faults.get("ecc", {}).get(str(i), 0)
        temperature = gpus.reading("temperaturesC", i, 34)
        power = gpus.reading("powerWatts", i, 91)
        print(f"| {i:>3}  {gpus.facts['name'][:30]:<30} On  |   {gpus.bus(i)} Off | {errors:>20} |")
        print(
            f"| N/A {temperature:>4}C    P0 {power:>14}W /  700W |"
            f" {gpus.used(i):>7}MiB / {gpus.facts['memoryMiB']:>6}MiB |      0%      Default |"
        )
        print("|                                         |                        |             Disabled |")
        print(edge)
    process_table(gpus, wide)


def process_table(gpus, wide):
    print()
    print(wide)
    print("| Processes:                                                                              |")
    print("|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |")
    print("|        ID   ID                                                               Usage      |")
    print("|=========================================================================================|")
    if not gpus.facts["processes"]:
        print("|  No running processes found                                                             |")
    for process in gpus.facts["processes"]:
        name = process.get("name", "python3")[:36]
        used = f"{process['usedMiB']}MiB"
        print(f"| {process.get('gpu', 0):>4}   N/A  N/A {process['pid']:>16}      C   {name:<36}{used:>9} |")
    print(wide)


def cuda_state(gpus):
    """For the stand-in libcuda: result of cuInit and count of GPUs."""
    module = module_version()
    if module is None:
        return "999 0" if not gpus.all else "100 0"
    if module != gpus.driver:
        return "803 0"
    if gpus.facts["nvswitches"] and not Path("/run/fakegpu/fabric").exists():
        return "802 0"
    return f"{gpus.faults.get('cuda', 0)} {len([i for i in gpus.all if i not in gpus.lost])}"


def refuse_without_driver(gpus):
    if gpus.faults.get("hang"):
        time.sleep(3600)
    if module_version() is None:
        fail(
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
            "Make sure that the latest NVIDIA driver is installed and running.\n",
            9,
        )
    if gpus.faults.get("mismatch") or module_version() != gpus.driver:
        version = ".".join(gpus.driver.split(".")[:2])
        fail(f"Failed to initialize NVML: Driver/library version mismatch\nNVML library version: {version}", 18)
    if not gpus.all:
        fail("No devices were found", 6)


def select(gpus, arguments, options):
    wanted = options.get("-i") or options.get("--id")
    for name in ("-i", "--id"):
        if not wanted and name in arguments[:-1]:
            wanted = arguments[arguments.index(name) + 1]
    if not wanted:
        return gpus.all
    selected = [i for i in gpus.all if str(i) in wanted.split(",") or gpus.uuid(i) in wanted.split(",")]
    if not selected:
        fail("No devices were found", 6)
    return selected


def main():
    gpus = Machine()
    arguments = sys.argv[1:]
    if arguments == ["--fakegpu-cuda"]:
        print(cuda_state(gpus))
        return
    refuse_without_driver(gpus)
    options = dict(argument.split("=", 1) if "=" in argument else (argument, "") for argument in arguments)
    selected = select(gpus, arguments, options)
    style = options.get("--format", "").split(",")
    if "-L" in arguments or "--list-gpus" in arguments:
        for i in selected:
            print(lost_line(gpus, i) if i in gpus.lost else f"GPU {i}: {gpus.facts['name']} (UUID: {gpus.uuid(i)})")
    elif arguments[:2] == ["topo", "-m"]:
        topology(gpus)
    elif arguments[:3] == ["topo", "-p2p", "r"]:
        peer_access(gpus)
    elif "--query-gpu" in options:
        query_gpu(gpus, selected, options["--query-gpu"].split(","), style)
    elif "--query-compute-apps" in options:
        query_apps(gpus, options["--query-compute-apps"].split(","), style)
    elif "-q" in arguments and QUERY_TEXT.exists():
        sys.stdout.write(QUERY_TEXT.read_text())
    elif not arguments or arguments[0] in ("-i", "--id"):
        table(gpus, selected)
    else:
        fail("Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\n", 2)


if __name__ == "__main__":
    main()
