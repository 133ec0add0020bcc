import { z } from "zod";
import { setting } from "./setting";

/** Settings of `target: ssh`. */
export const sshSettings = z
  .strictObject({
    host: setting(z.string().min(1), {
      doc: "Name or address of the machine, or an alias of your SSH configuration.",
      allowed: "a host name or address",
      example: "gpu1.example.com",
    }),
    user: setting(z.string().min(1).optional(), {
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
    jumpHost: setting(z.string().min(1).optional(), {
      doc: "Machine to go through.",
      allowed: "host, user@host or user@host:port",
      example: "bastion.example.com",
    }),
  })
  .optional();

/** Settings of `target: ec2`. */
export const ec2Settings = z
  .strictObject({
    region: setting(z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d$/), {
      doc: "Region of the instance.",
      allowed: "a region's name",
      example: "us-east-1",
    }),
    instanceType: setting(z.string().regex(/^[a-z0-9-]+\.[a-z0-9-]+$/), {
      doc: "Type of the instance; one with NVIDIA GPUs.",
      allowed: "an instance type",
      example: "g6.12xlarge",
    }),
  })
  .optional();

/** Settings of `target: kubernetes`. */
export const kubernetesSettings = z
  .strictObject({
    context: setting(z.string().min(1).optional(), {
      doc: "Context of the kubeconfig.",
      allowed: "a context's name",
      otherwise: "the current context",
      example: "my-cluster",
    }),
    namespace: setting(
      z
        .string()
        .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/)
        .default("tandem"),
      {
        doc: "Namespace that everything goes into.",
        allowed: "lower-case letters, digits and dashes",
        example: "tandem",
      },
    ),
  })
  .optional();
