import { describe, expect, it } from "vitest";
import { findKnownCause } from "../../bootstrap/runner/causes";

/** Lines as vLLM printed them (0.26.0 on 2 H100, 0.32.0 on a CPU, November 2026), and what a user must be told to do. */
const SEEN: readonly [line: string, cure: RegExp][] = [
  ["ValueError: Total number of attention heads (9) must be divisible by tensor parallel size (2).", /tensorParallel/],
  ["RuntimeError: Failed: Cuda error custom_all_reduce.cuh:434 'invalid argument'", /--disable-custom-all-reduce/],
  [
    "ValueError: Free memory on device cuda:0 (10.1/79.18 GiB) on startup is less than desired GPU memory utilization (0.4, 31.67 GiB).",
    /nvidia-smi/,
  ],
  ["ValueError: World size (4) is larger than the number of available GPUs (2) in this node.", /gpus/],
  ["OSError: [Errno 98] Address already in use", /--port/],
  ["api_server.py: error: unrecognized arguments: --no-such-flag", /serving\.extraArgs/],
  [
    "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name'",
    /hub id/,
  ],
  [
    "ValueError: User-specified max_model_len (4096) is greater than the derived max_model_len (max_position_embeddings=2048.0)",
    /serving\.maxModelLen/,
  ],
  ["ValueError: LoRA rank 32 is greater than max_lora_rank 16.", /lora\.maxRank/],
  ["importlib.metadata.PackageNotFoundError: No package metadata was found for vllm", /runtime step/],
];

/** Words of apt, dpkg, sudo, pip, OpenSSL, the kernel and NVIDIA's driver; those of a Debian host are recorded anew by `doctor.slow.test.ts`. */
const HOST_FAILURES: readonly [line: string, cause: RegExp, cure: RegExp][] = [
  [
    "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 2156 (unattended-upgr)",
    /process 2156 \(unattended-upgr\) holds its lock/,
    /Wait/,
  ],
  [
    "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?",
    /busy/,
    /doctor/,
  ],
  [
    "E: dpkg was interrupted, you must manually run 'sudo dpkg --configure -a' to correct the problem.",
    /half-way/,
    /--configure -a/,
  ],
  [
    "E: Release file for http://deb.example.org/debian/dists/bookworm-updates/InRelease is not valid yet (invalid for another 59min 10s). Updates for this repository will not be applied.",
    /clock/,
    /timedatectl/,
  ],
  [
    "W: GPG error: http://r.example InRelease: The following signatures couldn't be verified because the public key is not available: NO_PUBKEY A4B469963BF863CC",
    /signature/,
    /key/,
  ],
  ["E: Unable to locate package nvidia-driver-580-server", /no package nvidia-driver-580-server/, /repository/],
  [
    "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate is not yet valid (_ssl.c:1006)",
    /clock/,
    /timedatectl/,
  ],
  [
    "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in certificate chain (_ssl.c:1006)",
    /proxy/,
    /SSL_CERT_FILE/,
  ],
  ["OSError: Tunnel connection failed: 407 Proxy Authentication Required", /proxy/, /HTTPS_PROXY/],
  [
    "W: Failed to fetch http://deb.example.org/dists/x/InRelease  Temporary failure resolving 'deb.example.org'",
    /resolved/,
    /resolv/,
  ],
  ["curl: (6) Could not resolve host: example.org", /resolved/, /resolv/],
  ["OSError: [Errno 101] Network is unreachable", /route/, /gateway/],
  ["sudo: a password is required", /root/, /NOPASSWD/],
  ["ops is not in the sudoers file.", /root/, /NOPASSWD/],
  ["mkdir: cannot create directory '/var/lib/tandem': Read-only file system", /read-only/, /remount,rw/],
  ["Error while creating shared memory segment /dev/shm/nccl-8DrZ3A (size 9637888)", /shared memory/, /shm/],
  ["Failed to initialize NVML: Driver/library version mismatch", /upgraded under/, /Reboot/],
  [
    "NVRM: Xid (PCI:0000:86:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
    /fallen off the bus/,
    /Power the host off/,
  ],
  [
    "Unable to determine the device handle for GPU 0000:86:00.0: GPU is lost.  Reboot the system to recover this GPU",
    /fallen off/,
    /Power/,
  ],
  [
    "NVRM: Xid (PCI:0000:3b:00): 119, pid=1, name=x, Timeout after 6s of waiting for RPC response from GPU0 GSP!",
    /Xid 119: .*GSP/,
    /reset/,
  ],
  [
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
    /fabric/,
    /nvidia-fabricmanager/,
  ],
  ["modprobe: ERROR: could not insert 'nvidia': Key was rejected by service", /Secure Boot/, /mokutil/],
  ["ERROR: The Nouveau kernel driver is currently in use by your system.", /nouveau/, /blacklist/],
  [
    "Error! Your kernel headers for kernel 6.1.0-18-amd64 cannot be found at /lib/modules/6.1.0-18-amd64/build",
    /headers/,
    /linux-headers/,
  ],
  [
    'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].',
    /container toolkit/,
    /nvidia-ctk/,
  ],
  ["RuntimeError: CUDA error: uncorrectable ECC error encountered", /memory has an error/, /Reset/],
  ["RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable", /no further program/, /-c DEFAULT/],
  [
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.",
    /does not run/,
    /Reboot/,
  ],
  [
    "ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.35' not found (required by x.so)",
    /older than 2\.35/,
    /distribution/,
  ],
  ["ERROR: No matching distribution found for vllm==0.32.0", /no build of vllm==0\.32\.0/, /Python 3\.12/],
  ["Out of memory: Killed process 4242 (python) total-vm:90000000kB", /memory ran out/, /smaller/],
  ["requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for url: https://example.org", /fewer/, /Wait/],
  ["PermissionError: [Errno 13] Permission denied: '/opt/models'", /may not/, /owns/],
];

describe("known causes", () => {
  it.each(HOST_FAILURES)("knows of hosts: %s", (line, cause, cure) => {
    const found = findKnownCause(`some lines before\n${line}\nsome after`);
    expect(found?.cause).toMatch(cause);
    expect(found?.cure).toMatch(cure);
  });

  it("takes a GPU error of a program's own for no cause", () => {
    expect(findKnownCause("NVRM: Xid (PCI:0000:3b:00): 45, pid=1, name=python, Ch 00000008")).toBeUndefined();
  });

  it.each(SEEN)("knows: %s", (line, cure) => {
    expect(findKnownCause(`some lines before\n${line}\nsome after`)?.cure).toMatch(cure);
  });

  it("knows nothing of an ordinary line", () => {
    expect(findKnownCause("INFO 11-25 Application startup complete.")).toBeUndefined();
  });
});
