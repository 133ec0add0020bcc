import { exposureOf, isExposed, tlsMode } from "./exposure";
import type { Problem } from "./problem";
import { servingPort } from "./serving-port";
import type { Settings } from "./settings";
import { trainingPort } from "./training-port";

type Rule = (settings: Settings) => Problem | undefined;

/** Problems between the settings of the gateway and others. */
export const GATEWAY_RULES: readonly Rule[] = [
  needsGateway,
  needsRanges,
  needsTrustedTls,
  needsFiles,
  needsDomain,
  leadsToOneHost,
  portsDiffer,
];

function needsGateway(settings: Settings): Problem | undefined {
  if (!isExposed(settings) || settings.gateway.enabled) return undefined;
  return {
    setting: "gateway.enabled",
    what: `is off, and with \`exposure: ${exposureOf(settings)}\` others can connect: vLLM guards only some of its routes`,
    value: "false",
    fix: "set it to true, or `exposure` to tunnel",
  };
}

function needsRanges(settings: Settings): Problem | undefined {
  if (exposureOf(settings) !== "public" || settings.gateway.allowedCidrs.length > 0) return undefined;
  return {
    setting: "gateway.allowedCidrs",
    what: "is missing, and `exposure: public` needs it",
    allowed: "the address ranges of those who may connect, or `anywhere`",
    fix: 'set it to your own address, such as ["203.0.113.7/32"]',
  };
}

function needsTrustedTls(settings: Settings): Problem | undefined {
  const mode = tlsMode(settings);
  if (exposureOf(settings) !== "public" || mode === "acme" || mode === "files") return undefined;
  return {
    setting: "gateway.tls.mode",
    what: "does not protect keys and prompts on their way through the internet",
    value: mode,
    allowed: "acme or files with `exposure: public`",
    fix: "set it to acme and `gateway.tls.domain` to the machine's name, or `exposure` to tunnel",
  };
}

function needsFiles({ gateway: { tls } }: Settings): Problem | undefined {
  if (tls.mode !== "files" || (tls.certificate !== undefined && tls.key !== undefined)) return undefined;
  return {
    setting: tls.certificate === undefined ? "gateway.tls.certificate" : "gateway.tls.key",
    what: "is missing, and `gateway.tls.mode: files` needs it",
    allowed: "the path of a PEM file on the machine",
    fix: "set it, or `gateway.tls.mode` to acme or self-signed",
  };
}

function needsDomain({ gateway: { tls } }: Settings): Problem | undefined {
  if (tls.mode !== "acme" || tls.domain !== undefined) return undefined;
  return {
    setting: "gateway.tls.domain",
    what: "is missing, and `gateway.tls.mode: acme` needs it",
    allowed: "the domain name that leads to the machine",
    fix: "set it, or `gateway.tls.mode` to files",
  };
}

/** The authority asks the machine that the name leads to, and that is one. */
function leadsToOneHost({ target, ssh, gateway: { tls } }: Settings): Problem | undefined {
  const count = target === "ssh" ? (ssh?.hosts?.length ?? 0) : 1;
  if (tls.mode !== "acme" || count < 2) return undefined;
  return {
    setting: "gateway.tls.mode",
    what: `is acme, whose one name leads to one machine, and there are ${count}`,
    value: "acme",
    allowed: "acme with one host; files or self-signed with several",
    fix: "set it to files, with a certificate that is good for all of them, or give each host a stack of its own",
  };
}

function portsDiffer(settings: Settings): Problem | undefined {
  if (!settings.gateway.enabled) return undefined;
  const serving = servingPort(settings);
  const others = [settings.port, ...(settings.training.backend === "off" ? [] : [trainingPort(settings)])];
  if (!others.includes(serving)) return undefined;
  return {
    setting: "gateway.servingPort",
    what: "is the port of the gateway or of the trainer as well",
    value: String(serving),
    fix: "choose another, or leave it out",
  };
}
