/** A fault that another test makes happen: its file, its title, and what it holds the message to. */
export interface ProvenElsewhere {
  readonly fault: string;
  readonly step: string;
  readonly message: string;
  readonly ended: string;
  readonly file: string;
  readonly title: string;
}

const REFUSALS = "test/runner/ssh-refusals.slow.test.ts";
const DRIVER = "test/host/driver.slow.test.ts";
const LEASE = "test/host/lease-hosts.slow.test.ts";

export const ELSEWHERE: readonly ProvenElsewhere[] = [
  {
    fault: "disk full",
    step: "lease",
    message: "Tandem's scripts can't be put there — … No space left … — the disk is full — fix: free some space there",
    ended: "up converges",
    file: REFUSALS,
    title: "says so when the scripts find no room, and goes on when there is some",
  },
  {
    fault: "disk read-only",
    step: "lease",
    message:
      "Tandem's scripts can't be put there — … — the file system is read-only — fix: look for disk errors (dmesg), mount it writable",
    ended: "up converges",
    file: REFUSALS,
    title: "says so when the scripts find no room, and goes on when there is some",
  },
  {
    fault: "host key not known",
    step: "up",
    message:
      "its host key is not known — it has ssh-ed25519 SHA256:… — fix: compare that fingerprint with the machine's own …",
    ended: "nothing was done",
    file: REFUSALS,
    title: "refuses a host that nobody knows, with its fingerprint and the way to trust it",
  },
  {
    fault: "name does not resolve",
    step: "up",
    message: "its name does not resolve — … fix: check the name in ssh.hosts …",
    ended: "nothing was done",
    file: REFUSALS,
    title: "says why a host can't be reached, and what to do",
  },
  {
    fault: "machine still sets itself up",
    step: "up",
    message: "is not ready: cloud-init has not finished within 1 s (modules-final) — fix …",
    ended: "up converges",
    file: REFUSALS,
    title: "waits for a machine that sets itself up, and says what it is doing",
  },
  {
    fault: "dpkg lock held",
    step: "driver",
    message: "dpkg is still in use after 2 s, by process … (/usr/bin/dpkg -i …)",
    ended: "up converges, destroy leaves a clean host",
    file: DRIVER,
    title: "waits for another user of dpkg, names it when the limit is over, and finishes what a killed dpkg had begun",
  },
  {
    fault: "dpkg half-finished",
    step: "driver",
    message: "finishing what an interrupted dpkg left",
    ended: "up converges, destroy leaves a clean host",
    file: DRIVER,
    title: "waits for another user of dpkg, names it when the limit is over, and finishes what a killed dpkg had begun",
  },
  {
    fault: "two stacks at the same moment",
    step: "lease",
    message: "this host is taken by the stack …, since …, by … — fix: destroy …",
    ended: "destroy leaves a clean host",
    file: LEASE,
    title: "goes to exactly one of two stacks that come at once, and names it to the other",
  },
  {
    fault: "others compute on the GPUs",
    step: "lease",
    message: "process … of guest (/usr/bin/train) holds 2048 MiB of GPU 0",
    ended: "up converges",
    file: LEASE,
    title: "is refused where somebody else's program computes on the GPUs, and names it; sharing goes on",
  },
  {
    fault: "power loss and client killed",
    step: "installing packages",
    message: "nothing: both ended",
    ended: "destroy leaves a clean host",
    file: LEASE,
    title: "after a power loss in the middle of its apply",
  },
  {
    fault: "dpkg killed while it unpacks",
    step: "installing packages",
    message: "nothing: the package goes",
    ended: "destroy leaves a clean host",
    file: LEASE,
    title: "gives back a host whose dpkg was killed while it unpacked a package",
  },
  {
    fault: "user may not restart the host",
    step: "driver",
    message: "can't be restarted — … guest may not do that — fix: connect as root …",
    ended: "destroy leaves a clean host",
    file: "test/runner/ssh-faults.slow.test.ts",
    title: "a user who may not restart the host: it says so",
  },
  {
    fault: "unreachable",
    step: "preview",
    message: "h5 is not checked: …",
    ended: "up converges",
    file: "test/hosts/up.slow.test.ts",
    title: "leaves alone a host that does not answer, and says so",
  },
];
