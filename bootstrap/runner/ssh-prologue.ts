import { randomBytes } from "node:crypto";
import type { HostScripts } from "./ssh-scripts";
import type { HostCall } from "./transport";

/**
 * A prologue is the shell text that goes ahead of a call's input on standard input, so that nothing of a call is in a command line. It prints
 * its mark on both outputs before the script starts, so that what a login shell printed can be left out, and on standard error
 * when it has ended: `<mark> <exit status>`, or `<mark> missing` when the host does not have this version of the scripts.
 * A call without that last mark lost its link.
 */
export interface Prologue {
  readonly mark: string;
  readonly text: string;
}

/** How the scripts get to the host when it does not have them: for good, or for this call only. */
export type Placing = "use" | "install" | "for-this-call";

/** A word that no program prints by chance. */
export function newMark(): string {
  return `tandem-${randomBytes(12).toString("hex")}`;
}

/** The command line on the host: the same for every call, and the same to every login shell. */
export function remoteCommand({ text }: Prologue, asRoot: boolean): string {
  // dd takes no byte more than it is told to; the rest of the input is the script's.
  const read = `eval "$(dd bs=1 count=${Buffer.byteLength(text)} 2>/dev/null)"`;
  return `exec ${asRoot ? "sudo -n -H " : ""}/bin/sh -c '${read}'`;
}

/** What the probe asks a host once a connection: `name=value` lines. */
export function probePrologue(mark: string): Prologue {
  const text = `${opening(mark)}
printf 'uid=%s\\n' "$(id -u)"
printf 'user=%s\\n' "$(id -un)"
printf 'boot=%s\\n' "$(cat /proc/sys/kernel/random/boot_id)"
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then printf 'sudo=there is no sudo\\n'
  elif said="$(sudo -n -H /bin/sh -c : 2>&1 </dev/null)"; then printf 'sudo=yes\\n'
  else printf 'sudo=%s\\n' "$(printf '%s' "$said" | tail -n 1)"; fi
fi
if [ -e /run/cloud-init/enabled ] && [ ! -e /run/cloud-init/result.json ]; then printf 'cloud-init=running\\n'; fi
printf '%s 0\\n' ${mark} >&2
`;
  return { mark, text };
}

/** Runs a script of the host's own version of the scripts, which is put there first where `placing` says so. */
export function callPrologue(
  mark: string,
  call: HostCall,
  scripts: HostScripts,
  placing: Placing,
  archiveBytes: number,
): Prologue {
  const words = call.argv.map(quoted).join(" ");
  const text = `${opening(mark)}
${Object.entries(call.environment)
  .map(([name, value]) => `export ${name}=${quoted(value)}`)
  .join("\n")}
intact() { [ "$(sha256sum <"$1/SHA256SUMS")" = '${scripts.digest}  -' ] && (cd "$1" && sha256sum -c --status SHA256SUMS); } 2>/dev/null
finish() { printf '%s %s\\n' ${mark} "$1" >&2; exit 0; }
run() { code=0; TANDEM_SCRIPTS_DIR="$1" sh "$1/${call.script}" ${words} || code=$?; }
host="\${TANDEM_HOST_DIR:-}"
if [ -z "$host" ]; then
  if [ "$(id -u)" -eq 0 ]; then host=/var/lib/tandem; else host="\${XDG_STATE_HOME:-$HOME/.local/state}/tandem/host"; fi
fi
place="$host/scripts/${scripts.digest}"
${placingText(placing, archiveBytes)}
finish "$code"
`;
  return { mark, text };
}

function opening(mark: string): string {
  return `umask 077; printf '%s\\n' ${mark}; printf '%s\\n' ${mark} >&2`;
}

function placingText(placing: Placing, archiveBytes: number): string {
  const unpack = `head -c ${archiveBytes} | tar -xzf - --no-same-owner --no-same-permissions -m -C "$new" || finish unplaced
intact "$new" || finish unplaced`;
  switch (placing) {
    case "use":
      return `if intact "$place"; then run "$place"; else finish missing; fi`;
    case "install":
      // The name appears when all is there and on the disk. Somebody else may have been faster.
      return `mkdir -p "$host/scripts" || finish unplaced
if [ -L "$host" ] || [ "$(stat -c %u "$host")" != "$(id -u)" ]; then echo "$host belongs to another user" >&2; finish unplaced; fi
new="$(mktemp -d "$host/scripts/.new.XXXXXXXX")" || finish unplaced
trap 'rm -rf "$new"' EXIT
${unpack}
sync "$new"/* "$new" 2>/dev/null || sync
if ! intact "$place"; then
  rm -rf "$place"
  mv -T "$new" "$place" || intact "$place" || finish unplaced
fi
TANDEM_SCRIPTS_DIR="$place" sh "$place/scripts-folder.sh" tidy
run "$place"`;
    case "for-this-call":
      return `new=''
for folder in "\${TMPDIR:-/tmp}" /dev/shm /run; do
  new="$(mktemp -d "$folder/tandem.XXXXXXXX")" && break
done
[ -n "$new" ] || finish unplaced
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM PIPE
${unpack}
run "$new"`;
    default:
      throw new Error(`unknown placing ${JSON.stringify(placing satisfies never)}`);
  }
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
