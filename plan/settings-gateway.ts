import { z } from "zod";
import { setting } from "./setting";

const tlsSettings = z
  .strictObject({
    mode: setting(z.enum(["off", "self-signed", "files", "acme"]).optional(), {
      doc: "Where the certificate comes from: none is used, the machine makes its own (its fingerprint is an output), files on the machine, or an ACME authority such as Let's Encrypt, which must reach the machine's port 80.",
      allowed: "off, self-signed, files or acme",
      otherwise: "`self-signed` with `exposure: private`, `off` where only the machine itself can connect",
      example: "acme",
    }),
    certificate: setting(z.string().startsWith("/").optional(), {
      doc: "The certificate of `mode: files` with its chain, in PEM. Read again when the stack is brought up.",
      allowed: "an absolute path on the machine",
      example: "/etc/ssl/tandem/fullchain.pem",
    }),
    key: setting(z.string().startsWith("/").optional(), {
      doc: "The certificate's private key, in PEM.",
      allowed: "an absolute path on the machine",
      example: "/etc/ssl/tandem/privkey.pem",
    }),
    domain: setting(
      z
        .string()
        .regex(/^(?=.{1,253}$)([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$/i)
        .optional(),
      {
        doc: "The name that clients call the machine by. ACME proves it, and the outputs' addresses use it.",
        allowed: "a domain name",
        otherwise: "the machine's address",
        example: "llm.example.com",
      },
    ),
    email: setting(z.email().optional(), {
      doc: "Where the ACME authority writes when a certificate is about to expire.",
      allowed: "an e-mail address",
      example: "ops@example.com",
    }),
    directory: setting(z.url({ protocol: /^https$/ }).optional(), {
      doc: "The ACME authority: where its directory is, e.g. your company's own.",
      allowed: "an address that starts with https://",
      otherwise: "Let's Encrypt",
      example: "https://ca.example.com/acme/acme/directory",
    }),
    directoryCa: setting(z.string().startsWith("/").optional(), {
      doc: "Whom the machine trusts when it asks that authority: the root certificate of the authority's own server, in PEM.",
      allowed: "an absolute path on the machine",
      otherwise: "the certificates that the machine trusts anyway",
      example: "/etc/ssl/company-root.pem",
    }),
  })
  .prefault({});

const limitSettings = z
  .strictObject({
    requestsPerSecond: setting(z.number().int().min(1).max(100_000).default(2000), {
      doc: "How many requests a second one key may send; twice as many may come at once.",
      allowed: "a whole number from 1",
      example: 200,
    }),
    connections: setting(z.number().int().min(1).max(16_384).default(2048), {
      doc: "How many requests of one key are answered at once.",
      allowed: "a whole number from 1 to 16384",
      example: 512,
    }),
    bodyMiB: setting(z.number().int().min(1).max(1024).default(32), {
      doc: "The largest request that is no file, in MiB.",
      allowed: "a whole number from 1 to 1024",
      example: 32,
    }),
    fileMiB: setting(z.number().int().min(1).max(102_400).default(512), {
      doc: "The largest training file, in MiB.",
      allowed: "a whole number from 1",
      example: 512,
    }),
  })
  .prefault({});

/** An address range of IPv4 or IPv6, or the word that opens the service to the whole internet. */
const range = z.union([z.cidrv4(), z.cidrv6(), z.literal("anywhere")]).refine((value) => !/\/0$/.test(value), {
  error: "opens the service to the whole internet: write `anywhere` if that is meant",
});

/** Settings of the gateway in front of vLLM and the trainer. */
export const gatewaySettings = z
  .strictObject({
    enabled: setting(z.boolean().default(true), {
      doc: "Put a gateway in front: one address for serving and training, an allow-list of routes, keys with names, limits and TLS. Without it vLLM listens on loopback itself, and guards only some of its routes.",
      allowed: "true or false; with false only the machine itself can connect",
      example: false,
    }),
    keys: setting(
      z
        .record(z.string().regex(/^[a-z0-9][a-z0-9-]{0,31}$/), z.number().int().min(1))
        .refine((keys) => "default" in keys, "has no key called `default`, which is the output `apiKey`")
        .default({ default: 1 }),
      {
        doc: "Names of API keys. Each gets a key of its own; the access log tells them apart. Raise a name's number to replace its key, leave a name out to take its key away; neither interrupts anybody else.",
        allowed:
          "names of lower-case letters, digits and dashes, each with a whole number from 1; `default` is one of them",
        example: { default: 1, alice: 2 },
      },
    ),
    allowedCidrs: setting(z.array(range).default([]), {
      doc: "Who may connect with `exposure` private or public; everybody else's connections are closed without an answer.",
      allowed: "a list of address ranges, or `anywhere`",
      otherwise: "private address ranges with `exposure: private`; `public` needs it",
      example: ["203.0.113.0/24"],
    }),
    servingPort: setting(z.number().int().min(1).max(65535).optional(), {
      doc: "Port of vLLM behind the gateway, on loopback.",
      allowed: "a whole number from 1 to 65535",
      otherwise: "the second one after `port`",
      example: 8002,
    }),
    tls: tlsSettings,
    limits: limitSettings,
  })
  .prefault({});
