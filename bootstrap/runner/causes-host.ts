import type { KnownCause } from "./causes";

const DRIVER_AGAIN = "Reboot the host; `tandem doctor` says what is still wrong with the driver.";
const CLOCK = "Set the host's clock: sudo timedatectl set-ntp true; `tandem doctor` compares it with this client's.";

/**
 * What hosts themselves fail with. The words are those of apt 2.4 to 3.0, dpkg, sudo, glibc, pip, OpenSSL, the Linux kernel, and
 * NVIDIA's driver, CUDA and container toolkit (their documentation, and recorded on Debian 12: see the tests). `$1` in a text is
 * what the pattern's first group has caught.
 */
export const HOST_CAUSES: readonly KnownCause[] = [
  // Package manager
  {
    pattern: /Could not get lock \S+?\.? +It is held by process (\d+) \(([^)]+)\)/,
    cause: "The package manager is busy: process $1 ($2) holds its lock.",
    cure: "Wait until it ends, often some minutes after the first boot, and run again.",
  },
  {
    pattern:
      /(?:Could not get lock|Unable to (?:acquire|lock)) .*\/(?:dpkg|apt)\/|dpkg frontend lock was locked by another process|Waiting for cache lock/,
    cause: "The package manager is busy: another program holds its lock.",
    cure: "See who with `tandem doctor`, wait until it ends, and run again.",
  },
  {
    pattern:
      /dpkg was interrupted, you must manually run|Unmet dependencies\. Try '(?:apt|sudo apt) --fix-broken install'|package is in a very bad inconsistent state/,
    cause: "An earlier installation of packages stopped half-way.",
    cure: "On the host: sudo dpkg --configure -a && sudo apt-get --fix-broken install; then run again.",
  },
  {
    pattern:
      /Release file for \S+ is (?:not valid yet|expired)|Not live until|signatures? (?:made|created) in the future/i,
    cause: "apt refuses a package list whose date does not agree with the host's clock.",
    cure: CLOCK,
  },
  {
    pattern: /NO_PUBKEY ([0-9A-F]+)|The repository '[^']+' is not signed|(?:BADSIG|EXPKEYSIG|invalid signature)/,
    cause: "apt can't verify the signature of a package list: its key is missing or has expired.",
    cure: "Renew that repository's key on the host, or remove the repository from /etc/apt/sources.list.d.",
  },
  {
    pattern: /Unable to locate package (\S+)|Package '?([\w.+-]+)'? has no installation candidate/,
    cause: "The distribution's repositories that are set up on the host have no package $1$2.",
    cure: "Add the repository that has it, or install what is needed by hand; `tandem doctor` names it.",
  },
  // Clock, names, network, TLS
  {
    pattern:
      /certificate (?:is not yet valid|has expired|is expired)|certificate verify failed: (?:certificate|cert) (?:is not yet valid|has expired)/i,
    cause: "A server's certificate is outside its dates, which mostly means that the host's clock is wrong.",
    cure: CLOCK,
  },
  {
    pattern:
      /self[- ]signed certificate|unable to get (?:local )?issuer certificate|CERTIFICATE_VERIFY_FAILED|SSL certificate problem|UnknownIssuer/i,
    cause: "TLS goes through something that signs with a certificate of its own, most often a company's proxy.",
    cure: "Install that certificate on the host (/usr/local/share/ca-certificates, update-ca-certificates), and set SSL_CERT_FILE for Python.",
  },
  {
    pattern: /407 Proxy Authentication Required|Cannot connect to proxy|ProxyError|Tunnel connection failed/,
    cause: "The proxy refuses or does not answer.",
    cure: "Check HTTPS_PROXY and NO_PROXY on the host.",
  },
  {
    pattern:
      /Temporary failure (?:in name resolution|resolving)|Could not resolve|Name or service not known|Failed to resolve|nodename nor servname|getaddrinfo ENOTFOUND|dns error/i,
    cause: "A name can't be resolved: the host's DNS does not answer.",
    cure: "Check /etc/resolv.conf on the host (resolvectl status), or bring model and runtime as archives.",
  },
  {
    pattern: /Network is unreachable|No route to host|ENETUNREACH|EHOSTUNREACH/,
    cause: "The host has no route to where it must go.",
    cure: "Check its gateway and firewall (ip route), set HTTPS_PROXY, or bring model and runtime as archives.",
  },
  {
    pattern:
      /Max retries exceeded with url|Failed to establish a new connection|ConnectTimeoutError|Connection timed out|ReadTimeoutError/,
    cause: "A server does not answer from this host.",
    cure: "Check the host's firewall and proxy, then run again: what was downloaded is kept.",
  },
  {
    pattern: /429 (?:Client Error: )?Too Many Requests/,
    cause: "The server asks for fewer requests.",
    cure: "Wait some minutes and run again; with a hubToken the hub allows more.",
  },
  // Rights and disks
  {
    pattern:
      /sudo: (?:a password is required|a terminal is required|no tty present)|is not in the sudoers file|sudo: (?:command )?not found/,
    cause: "This needs root, and sudo asks for a password or is not there.",
    cure: "Log in as root, or let sudo do without a password for this user (NOPASSWD in /etc/sudoers.d).",
  },
  {
    pattern: /Read-only file system|EROFS/,
    cause: "A file system of the host is read-only, often after disk errors.",
    cure: "See why with `tandem doctor`, mend it, then: sudo mount -o remount,rw on it.",
  },
  {
    pattern: /shared memory segment|insufficient shared memory|\/dev\/shm\/\S+.*No space left/i,
    cause: "The shared memory (/dev/shm) is too small for GPUs that work together.",
    cure: "sudo mount -o remount,size=16G /dev/shm; in a container: --shm-size 16g.",
  },
  {
    pattern: /Disk quota exceeded|EDQUOT/,
    cause: "This user's quota on the disk is used up.",
    cure: "Free some space, or set XDG_CACHE_HOME to a disk without that quota.",
  },
  {
    pattern: /Too many open files|EMFILE/,
    cause: "The limit of open files is too low for the service.",
    cure: "Raise it for this user (LimitNOFILE, /etc/security/limits.d), or work as root, whose services have a high one.",
  },
  {
    pattern: /Failed to connect to (?:the )?(?:user scope )?bus/,
    cause: "This user has no systemd of its own to run a service under.",
    cure: "sudo loginctl enable-linger for that user, or work as root.",
  },
  // Driver
  {
    pattern: /Driver\/library version mismatch/,
    cause: "The driver was upgraded under the running system: kernel module and libraries differ.",
    cure: "Reboot the host, and hold the driver's packages against unattended upgrades.",
  },
  {
    pattern: /fallen off the bus|GPU is lost|Unable to determine the device handle for GPU/,
    cause: "A GPU has fallen off the bus (Xid 79).",
    cure: "Power the host off and on; when it comes back, have the GPU, its riser or its power supply checked.",
  },
  {
    pattern: /[Ee]rror 802|system not yet initialized/i,
    cause: "The NVLink fabric is not set up: the fabric manager does not run, or is not of the driver's version.",
    cure: "sudo systemctl restart nvidia-fabricmanager on the host; its log says why it stopped.",
  },
  {
    pattern: /Key was rejected by service|Required key not available|Loading of unsigned module is rejected/,
    cause: "Secure Boot refuses the driver's kernel module, which is not signed by a key that the host knows.",
    cure: "Enrol the key (sudo mokutil --import /var/lib/dkms/mok.pub, then confirm at the console), or switch Secure Boot off.",
  },
  {
    pattern: /Nouveau kernel driver is currently in use|Try unloading the conflicting kernel module/,
    cause: "The kernel's own driver nouveau holds the GPU.",
    cure: "With driver.policy ensure `tandem up` switches it off and reboots; or blacklist nouveau and reboot.",
  },
  {
    pattern:
      /(?:kernel headers|Kernel headers|linux-headers) (?:for|for kernel|for target kernel) ?\S*.* (?:can ?not|could not) be found/,
    cause: "The headers of the running kernel are missing, so the driver's module can't be built.",
    cure: 'On the host: sudo apt-get install "linux-headers-$(uname -r)"; when there is no such package any more, upgrade the kernel and reboot.',
  },
  {
    pattern:
      /could not select device driver "" with capabilities: \[\[gpu\]\]|unknown runtime specified nvidia|unresolvable CDI devices/,
    cause: "The container runtime knows nothing of the GPUs: NVIDIA's container toolkit is missing or not set up.",
    cure: "Install nvidia-container-toolkit on the host, and: sudo nvidia-ctk runtime configure && sudo systemctl restart docker.",
  },
  {
    pattern: /uncorrectable ECC error encountered/,
    cause: "The GPU's memory has an error that can't be corrected.",
    cure: "Reset the GPU (sudo nvidia-smi -r) or reboot; have it replaced when it comes back.",
  },
  {
    pattern: /all CUDA-capable devices are busy or unavailable|CUDA-capable device\(s\) is\/are busy/,
    cause: "The GPU lets no further program in: compute mode Exclusive, or a program that hangs.",
    cure: "sudo nvidia-smi -c DEFAULT on the host, and see with nvidia-smi who is on the GPU.",
  },
  {
    pattern: /no kernel image is available for execution on the device/,
    cause: "The GPU is older than this build of PyTorch and vLLM supports.",
    cure: "Use a GPU of compute capability 7.5 or newer.",
  },
  {
    pattern:
      /couldn't communicate with the NVIDIA driver|NVIDIA driver is not loaded|could not insert 'nvidia'|no CUDA-capable device is detected|Found no NVIDIA driver on your system/,
    cause: "The NVIDIA driver does not run on the host.",
    cure: DRIVER_AGAIN,
  },
  // Programs
  {
    pattern: /version `GLIBC_([\d.]+)' not found/,
    cause: "The host's glibc is older than $1, which this build needs.",
    cure: "Use a newer distribution (Debian 12, Ubuntu 22.04 or newer), or the container runtime.",
  },
  {
    pattern: /No matching distribution found for (\S+)|no version of (\S+) which/,
    cause: "The package index has no build of $1$2 for this Python and machine.",
    cure: "Use Python 3.12 on x86_64 or aarch64; if the index is a mirror, see whether it has that version.",
  },
];

/** Too general to stand before anything else. */
export const GENERAL_CAUSES: readonly KnownCause[] = [
  {
    pattern: /Permission denied|EACCES|Operation not permitted|EPERM/,
    cause: "This user may not do that on the host.",
    cure: "See which file the line names and who owns it; a folder of another user's is never touched.",
  },
  {
    pattern: /Cannot allocate memory|ENOMEM|MemoryError/,
    cause: "The machine's memory ran out.",
    cure: "Choose a smaller serving.maxModelLen or model, or stop other programs.",
  },
];
