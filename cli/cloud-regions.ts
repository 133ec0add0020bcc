import { loadSettings } from "../stacks/config";
import type { Environment } from "./environments";
import { SettingsFile } from "./settings-file";
import { rememberedRegions } from "./environment-hosts";

/** The regions of AWS that an environment is in or may be in: that of its settings, and those of the machines it had. */
export function regionsOf(environment: Environment): string[] {
  return [...new Set([...configured(environment), ...rememberedRegions(environment)])];
}

function configured(environment: Environment): string[] {
  try {
    const { target, ec2 } = loadSettings(SettingsFile.read(environment.source.path).config());
    return target === "ec2" && ec2 !== undefined ? [ec2.region] : [];
  } catch {
    return []; // Settings that can't be read name no region.
  }
}
