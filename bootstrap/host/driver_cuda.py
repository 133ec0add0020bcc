"""Initialises CUDA as a program would and counts the GPUs: `cuInit` and `cuDeviceGetCount` of libcuda.

Prints one word and a number: `ok COUNT`, `error CODE` (a CUresult), or `missing 0` without libcuda.so.1.
"""

import ctypes
import sys


def main() -> str:
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "missing 0"
    code = cuda.cuInit(0)
    if code != 0:
        return f"error {code}"
    count = ctypes.c_int(0)
    code = cuda.cuDeviceGetCount(ctypes.byref(count))
    return f"error {code}" if code != 0 else f"ok {count.value}"


if __name__ == "__main__":
    sys.stdout.write(main() + "\n")
