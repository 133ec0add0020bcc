import { extendOnHost } from "../../bootstrap/runner/extend";
import { targetName } from "../../bootstrap/runner/targets";
import { durationSeconds } from "../../plan/time";
import { cloudOwnerOf, regionsOf } from "../cloud-regions";
import type { Console } from "../console";
import { environmentTargets } from "../environment-hosts";
import { findEnvironment } from "../environments";
import { CommandError, EXIT, messageOf } from "../exit";
import { success, type Report } from "../report";
import type { CommonOptions } from "./options";

/**
 * `tandem extend`: moves the end of an environment that has one. The tags come first: a machine that ends itself too early leaks
 * nothing, but one that outlives its tags would be reaped.
 */
export async function extend(options: CommonOptions & { readonly ttl: string }, console: Console): Promise<Report> {
  const environment = findEnvironment(options.env);
  const ttlSeconds = durationSeconds(options.ttl);
  if (ttlSeconds === undefined) {
    throw new CommandError(
      `--ttl: not a duration — got ${options.ttl} — allowed: minutes, hours or days, such as 90m, 2h or 1d`,
      EXIT.usage,
    );
  }
  const ends: { where: string; expiresAt: string }[] = [];
  try {
    const regions = regionsOf(environment);
    const owner = cloudOwnerOf(environment);
    if (regions.length > 0) {
      const { extendTags } = await import("../../bootstrap/cloud/extend.js");
      for (const region of regions) {
        const extension = await extendTags(region, { name: environment.name, owner }, ttlSeconds);
        if (extension !== undefined)
          ends.push({ where: `tags in ${region}`, expiresAt: extension.expiresAt.toISOString() });
      }
    }
    for (const target of environmentTargets(environment)) {
      const expiresAt = await extendOnHost(target, environment.name, ttlSeconds, console.say);
      if (expiresAt !== undefined) ends.push({ where: targetName(target), expiresAt });
    }
  } catch (error) {
    throw new CommandError(`${environment.name} is not extended everywhere: ${messageOf(error)}`);
  }
  if (ends.length === 0) {
    throw new CommandError(
      `environment ${environment.name} has no end that could be moved — fix: tandem up --env ${environment.name} --ttl ${options.ttl}`,
    );
  }
  return success({ ends }, ends.map(({ where, expiresAt }) => `${where}: ends at ${expiresAt}`).join("\n"));
}
