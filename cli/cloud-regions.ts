import { ownerOf } from "../bootstrap/cloud/ownership";
import type { Settings } from "../plan/settings";
import { loadSettings } from "../stacks/config";
import type { Environment } from "./environments";
import { SettingsFile } from "./settings-file";
import { rememberedRegions } from "./environment-hosts";

/** The regions of AWS that an environment is in or may be in: that of its settings, and those of the machines it had. */
export function regionsOf(environment: Environment): string[] {
  return [...new Set([...configured(environment), ...rememberedRegions(environment)])];
}

/** Whose the environment's things are, by their tags: no command touches what is somebody else's under the same name. */
export function cloudOwnerOf(environment: Environment): string {
  return ownerOf(settingsOf(environment)?.ec2);
}

function configured(environment: Environment): string[] {
  const settings = settingsOf(environment);
  return settings?.target === "ec2" && settings.ec2 !== undefined ? [settings.ec2.region] : [];
}

function settingsOf(environment: Environment): Settings | undefined {
  try {
    return loadSettings(SettingsFile.read(environment.source.path).config());
  } catch {
    return undefined; // Settings that can't be read name no region, and nobody.
  }
}
