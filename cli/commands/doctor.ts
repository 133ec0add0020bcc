import { createColors } from "picocolors";
import { examineHost, worst, type Diagnosis, type Verdict } from "../../bootstrap/runner/doctor";
import type { HostTarget } from "../../bootstrap/runner/request";
import { hostTargets, targetName } from "../../bootstrap/runner/targets";
import { nearestName } from "../../plan/nearest";
import type { Console } from "../console";
import { refuseCluster } from "../cluster";
import { findEnvironment } from "../environments";
import { CommandError, EXIT } from "../exit";
import { formatSeconds } from "../progress";
import type { Report } from "../report";
import { resolveSettings } from "../settings";
import type { SettingOptions } from "./options";

/** `tandem doctor`: examines the environment's hosts side by side, changing nothing. */
export async function doctor(wanted: string | undefined, options: SettingOptions, console: Console): Promise<Report> {
  const environment = findEnvironment(options.env);
  refuseCluster(environment, "describe pods; tandem preview judges the cluster's nodes");
  const { settings } = resolveSettings(environment, options, console.say);
  const targets = chosenTargets(hostTargets(settings), wanted);
  const names = targets.map(targetName);
  console.say(`examining ${names.length === 1 ? (names[0] ?? "") : `${names.length} hosts: ${names.join(", ")}`} …`);
  const hosts = await Promise.all(targets.map((target) => examineHost(target, settings, environment.name)));
  const status = worst(hosts.map((host) => ({ verdict: host.status })));
  return {
    status: status === "fail" ? EXIT.unhealthy : EXIT.ok,
    document: { status, hosts },
    text: hosts.map((host) => renderDiagnosis(host, process.stdout)).join("\n\n"),
  };
}

function chosenTargets(targets: readonly HostTarget[], wanted: string | undefined): readonly HostTarget[] {
  if (wanted === undefined) return targets;
  const found = targets.filter(
    (target) => targetName(target) === wanted || (target.kind === "ssh" && target.host === wanted),
  );
  if (found.length > 0) return found;
  const names = targets.map(targetName);
  const fix = `tandem doctor ${nearestName(wanted, names) ?? names[0] ?? ""}, or --set target=ssh --set ssh.hosts='["${wanted}"]'`;
  throw new CommandError(
    `no host of this name in the settings — got ${wanted} — allowed: ${names.join(", ")} — fix: ${fix}`,
    EXIT.usage,
  );
}

/** One line a verdict; the cure of what is not well below it. */
function renderDiagnosis({ host, seconds, verdicts }: Diagnosis, stream: NodeJS.WriteStream): string {
  const colors = createColors(stream.isTTY && process.env["NO_COLOR"] === undefined);
  const paint = { ok: colors.green, warn: colors.yellow, fail: colors.red };
  const width = Math.max(...verdicts.map(({ check }) => check.length));
  const lines = verdicts.flatMap(({ check, verdict, text, cure }) => [
    `  ${paint[verdict](verdict.padEnd(4))}  ${check.padEnd(width)}  ${text}`,
    ...(cure === undefined || verdict === "ok" ? [] : [`        ${"".padEnd(width)}  ${colors.bold("cure:")} ${cure}`]),
  ]);
  return [`${host}: ${summary(verdicts)} (${formatSeconds(seconds)})`, ...lines].join("\n");
}

function summary(verdicts: readonly Verdict[]): string {
  const count = (level: string) => verdicts.filter(({ verdict }) => verdict === level).length;
  const [fails, warnings] = [count("fail"), count("warn")];
  if (fails + warnings === 0) return `all ${verdicts.length} checks are well`;
  const parts = [
    ...(fails === 0 ? [] : [`${fails} ${fails === 1 ? "check fails" : "checks fail"}`]),
    ...(warnings === 0 ? [] : [`${warnings} ${warnings === 1 ? "warning" : "warnings"}`]),
  ];
  return parts.join(", ");
}
