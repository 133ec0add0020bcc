import { hostsUnavailable } from "../fixtures/hosts/available";
import { baseImage } from "../fixtures/hosts/fleet";

/** Makes the images that test hosts start from before any test waits for one. Where there can be no hosts, their tests say why. */
export default async function prepareHostImages(): Promise<void> {
  if (hostsUnavailable() !== undefined) return;
  for (const options of [{}, { suite: "trixie" }, { python: false }] as const) await baseImage(options);
}
