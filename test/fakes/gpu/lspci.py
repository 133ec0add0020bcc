#!/usr/bin/python3
"""Stands for lspci of pciutils, which reads real hardware: the devices of /etc/fakegpu.json.

Understands -n -nn -D -mm and -d VENDOR:[DEVICE][:CLASS]. The forms are those of lspci(8); not compared on GPU hardware.
"""

import json
import sys
from pathlib import Path

facts = {"count": 8, "pciName": "GH100 [H100 SXM5 80GB]", "pciId": "2330", "nvswitches": 0}
machine = Path("/etc/fakegpu.json")
if machine.exists():
    facts.update(json.loads(machine.read_text()))

NVIDIA = ("NVIDIA Corporation", "10de")
devices = [("00:00.0", "Host bridge", "0600", "Intel Corporation", "8086", "Device", "09a2", "04")]
for i in range(facts["count"]):
    devices.append((f"{0x10 + i:02x}:00.0", "3D controller", "0302", *NVIDIA, facts["pciName"], facts["pciId"], "a1"))
for i in range(facts["nvswitches"]):
    devices.append((f"{0x60 + i:02x}:00.0", "Bridge", "0680", *NVIDIA, "GH100 [H100 NVSwitch]", "22a3", "a1"))

arguments = sys.argv[1:]
flags = "".join(word[1:] for word in arguments if word.startswith("-") and not word.startswith("-d"))
wanted = next((word[2:] for word in arguments if word.startswith("-d") and len(word) > 2), "")
if "-d" in arguments[:-1]:
    wanted = arguments[arguments.index("-d") + 1]

for slot, kind, kind_id, vendor, vendor_id, name, name_id, revision in devices:
    vendor_wanted, name_wanted, kind_wanted = (wanted.lower() + "::").split(":")[:3]
    if vendor_wanted not in ("", vendor_id) or name_wanted not in ("", name_id):
        continue
    if not kind_id.startswith(kind_wanted[:4]):
        continue
    place = ("0000:" if "D" in flags else "") + slot
    if "nn" in flags:
        print(f"{place} {kind} [{kind_id}]: {vendor} {name} [{vendor_id}:{name_id}] (rev {revision})")
    elif "n" in flags:
        print(f"{place} {kind_id}: {vendor_id}:{name_id} (rev {revision})")
    elif "mm" in flags:
        print(f'{place} "{kind}" "{vendor}" "{name}" -r{revision} "" ""')
    else:
        print(f"{place} {kind}: {vendor} {name} (rev {revision})")
