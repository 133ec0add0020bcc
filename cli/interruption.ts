import { CommandError, EXIT } from "./exit";

/** Closing the terminal and `kill` mean the same as Ctrl-C: end in order. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Thrown where work was given up because the user asked for an end. */
export class Interrupted extends CommandError {
  constructor() {
    super("interrupted", EXIT.interrupted);
    this.name = "Interrupted";
  }
}

/** The user's wish to end, once it comes. Made at the start of a command that must leave things in order. */
export class Interruption {
  private requests = 0;
  private lastSignal: NodeJS.Signals | undefined;
  private readonly listeners = new Set<() => void>();

  constructor(private readonly say: (line: string) => void) {
    for (const signal of SIGNALS) process.on(signal, this.request);
  }

  get isRequested(): boolean {
    return this.requests > 0;
  }

  /** The signal that came last. */
  get signal(): NodeJS.Signals | undefined {
    return this.lastSignal;
  }

  /** Whether the user asked more than once. */
  get isUrgent(): boolean {
    return this.requests > 1;
  }

  /** Calls back at each request, also at one that came before. */
  onRequest(listener: () => void): () => void {
    this.listeners.add(listener);
    if (this.isRequested) listener();
    return () => this.listeners.delete(listener);
  }

  /** Gives up waiting at the first request; for work that needs no end in order. @throws Interrupted */
  async guard<Result>(work: Promise<Result>): Promise<Result> {
    let stopListening: () => void = () => undefined;
    const interrupted = new Promise<never>((_, reject) => {
      stopListening = this.onRequest(() => reject(new Interrupted()));
    });
    try {
      return await Promise.race([work, interrupted]);
    } finally {
      stopListening();
    }
  }

  private readonly request = (signal: NodeJS.Signals): void => {
    this.requests++;
    this.lastSignal = signal;
    this.say(this.requests === 1 ? "ending in order; press Ctrl-C again to hurry" : "hurrying");
    for (const listener of this.listeners) listener();
  };
}
