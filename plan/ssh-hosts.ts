import type { Settings } from "./settings";

/** One machine of `ssh.hosts` with everything that applies to it. */
export interface SshHost {
  /** Lower-case letters, digits and dashes; unique in the stack. */
  readonly name: string;
  readonly host: string;
  readonly user?: string;
  readonly port?: number;
  readonly identityFile?: string;
  readonly jumpHost?: string;
  readonly hostKey?: string;
}

type Entry = NonNullable<NonNullable<Settings["ssh"]>["hosts"]>[number];

/** The machines of `target: ssh` in the order of the settings, the block's values filled in. */
export function sshHosts({ ssh }: Pick<Settings, "ssh">): SshHost[] {
  if (ssh?.hosts === undefined) return [];
  const { user, port, identityFile, jumpHost } = ssh;
  return ssh.hosts.map(written).map((entry) => ({
    user,
    port,
    identityFile,
    jumpHost,
    ...defined(entry),
    host: entry.host,
    name: entry.name ?? nameOf(entry.host),
  }));
}

/** Names that more than one machine has. */
export function sameNames(hosts: readonly SshHost[]): string[] {
  const names = hosts.map(({ name }) => name);
  return [...new Set(names.filter((name, index) => names.indexOf(name) !== index))];
}

function written(entry: Entry): Exclude<Entry, string> {
  if (typeof entry !== "string") return entry;
  const match = /^(?:(?<user>[^@]+)@)?(?:\[(?<bracketed>[^\]]+)\]|(?<plain>.+?))(?::(?<port>\d+))?$/.exec(entry);
  const { user, bracketed, plain = entry, port } = match?.groups ?? {};
  return {
    host: bracketed ?? plain,
    ...(user !== undefined && { user }),
    ...(port !== undefined && { port: Number(port) }),
  };
}

/** An address makes a name too: `10.0.0.2` is called `10-0-0-2`. */
function nameOf(host: string): string {
  return host
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, "-")
    .replaceAll(/^-+|-+$/g, "");
}

function defined<Value extends object>(value: Value): Partial<Value> {
  return Object.fromEntries(Object.entries(value).filter(([, part]) => part !== undefined)) as Partial<Value>;
}
