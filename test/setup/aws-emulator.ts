import { emulatorPython } from "../fixtures/aws/aws";

/** Installs the AWS emulator, once, before a test's limit counts it. */
export default function prepareEmulator(): void {
  emulatorPython();
}
