import { closeServed } from "../fixtures/served";

/** Nothing is brought up before a test asks for it; what was brought up goes after the last test. */
export default function shared(): () => Promise<void> {
  return async () => {
    try {
      await closeServed();
    } catch (error) {
      console.error("The stack that the tests shared could not be destroyed:", error);
      process.exitCode = 1; // Vitest prints an error of a teardown and exits with 0 all the same.
    }
  };
}
