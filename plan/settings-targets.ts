import { z } from "zod";
import { setting } from "./setting";

/** `[user@]host[:port]`; an IPv6 address stands in brackets. Nothing may look like an option of OpenSSH. */
const SSH_DESTINATION = /^(?:[^@\s-][^@\s]*@)?(?:\[[0-9a-fA-F:]+\]|[^@\s[\]:-][^@\s[\]:]*)(?::\d{1,5})?$/;

const word = z.string().regex(/^[^\s-]\S*$/);

/** One machine of `ssh.hosts`, written out. */
const sshHost = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/)
    .optional(),
  host: word,
  user: word.optional(),
  port: z.number().int().min(1).max(65535).optional(),
  identityFile: z.string().min(1).optional(),
  jumpHost: z.string().regex(SSH_DESTINATION).optional(),
  hostKey: z
    .string()
    .regex(/^(?:SHA256:[A-Za-z0-9+/]{43}|(?:ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+)/)
    .optional(),
});

/** Settings of `target: ssh`. */
export const sshSettings = z
  .strictObject({
    hosts: setting(
      z
        .union([
          z.array(z.union([z.string().regex(SSH_DESTINATION), sshHost])).min(1),
          z
            .string()
            .regex(SSH_DESTINATION)
            .transform((host) => [host]),
        ])
        .optional(),
      {
        doc:
          "The machines. Each is `[user@]host[:port]` (an alias of your SSH configuration will do), or an object with `host` and, where they " +
          "differ from the block's, `name`, `user`, `port`, `identityFile`, `jumpHost` and `hostKey` (its public key, or the key's `SHA256:…` fingerprint).",
        allowed: "a list of [user@]host[:port] or of objects with `host`",
        otherwise: "there is nothing to reach: `target: ssh` needs it",
        example: ["gpu1.example.com", { name: "gpu2", host: "10.0.0.2", port: 2222 }],
      },
    ),
    user: setting(word.optional(), {
      doc: "User to log in as.",
      allowed: "a user name",
      otherwise: "what your SSH configuration says",
      example: "ubuntu",
    }),
    port: setting(z.number().int().min(1).max(65535).optional(), {
      doc: "Port of the SSH server.",
      allowed: "a whole number from 1 to 65535",
      otherwise: "what your SSH configuration says",
      example: 22,
    }),
    identityFile: setting(z.string().min(1).optional(), {
      doc: "Private key file to log in with.",
      allowed: "a path",
      otherwise: "what your SSH agent and configuration offer",
      example: "~/.ssh/id_ed25519",
    }),
    jumpHost: setting(z.string().regex(SSH_DESTINATION).optional(), {
      doc: "Machine to go through.",
      allowed: "host, user@host or user@host:port",
      otherwise: "what your SSH configuration says",
      example: "bastion.example.com",
    }),
    hostKeys: setting(z.enum(["known-hosts", "accept-new"]).default("known-hosts"), {
      doc: "What to do with a machine whose key is not known: refuse it, or trust it this once, say so, and hold it to that key from then on.",
      allowed: "known-hosts or accept-new",
      example: "known-hosts",
    }),
    sudo: setting(z.enum(["auto", "always", "never"]).default("auto"), {
      doc:
        "Whether to work as root. `auto` does where `sudo` asks for no password, else everything runs as the user, who can't install a driver; " +
        "`always` refuses such a machine.",
      allowed: "auto, always or never",
      example: "auto",
    }),
  })
  .optional();
