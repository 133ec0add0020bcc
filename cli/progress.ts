import { clearScreenDown, moveCursor } from "node:readline";
import type { WriteStream } from "node:tty";
import { stripVTControlCharacters } from "node:util";
import { createColors } from "picocolors";
import type { Action, RunEvent } from "./engine-events";

/** Shows a run to people while it goes on. */
export interface Progress {
  handle(event: RunEvent): void;
  /** A line between the steps' lines. */
  say(line: string): void;
  close(): void;
}

const DOING: Record<Action, string> = {
  create: "starting",
  update: "updating",
  replace: "replacing",
  delete: "taking back",
  unchanged: "unchanged",
};
const REDRAW_MILLISECONDS = 120;
const SPINNER = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

interface ActiveStep {
  readonly action: Action;
  readonly startedAt: number;
  line: string;
}

/** Live on a terminal that can move its cursor, else one line for each thing that happens. */
export function makeProgress(stream: NodeJS.WriteStream): Progress {
  const canRedraw = stream.isTTY && process.env["TERM"] !== "dumb";
  return canRedraw ? new LiveProgress(stream) : new PlainProgress((line) => stream.write(`${line}\n`));
}

/** The steps in work, each with what it does at the moment, below what is done. */
export class LiveProgress implements Progress {
  private readonly active = new Map<string, ActiveStep>();
  private readonly timer: NodeJS.Timeout;
  private readonly colors;
  private drawnLines = 0;
  private frame = 0;
  private unchanged = 0;

  constructor(private readonly stream: WriteStream) {
    this.colors = createColors(process.env["NO_COLOR"] === undefined);
    this.timer = setInterval(() => this.redraw(), REDRAW_MILLISECONDS);
    this.timer.unref();
  }

  handle(event: RunEvent): void {
    switch (event.kind) {
      case "started": {
        const { step, action, reason } = event;
        if (action === "unchanged") return;
        if (reason !== undefined) this.say(`  ${this.colors.yellow("~")} ${step}: ${reason}`);
        this.active.set(step, { action, startedAt: Date.now(), line: DOING[action] });
        return;
      }
      case "line": {
        const active = this.active.get(event.step);
        if (active !== undefined) active.line = event.text;
        return;
      }
      case "finished":
        this.finish(event.step, event.action);
        return;
      case "failed": {
        const active = this.active.get(event.step);
        this.active.delete(event.step);
        this.say(`  ${this.colors.red("✗")} ${event.step.padEnd(10)} ${this.colors.dim(elapsed(active?.startedAt))}`);
        return;
      }
      case "note":
        this.say(`  ${this.colors.dim(event.text)}`);
        return;
      case "error":
        // Shown once at the end, with its cause and cure.
        return;
      default:
        throw new Error(`unknown event ${JSON.stringify(event satisfies never)}`);
    }
  }

  say(line: string): void {
    this.erase();
    this.stream.write(`${line}\n`);
    this.draw();
  }

  close(): void {
    clearInterval(this.timer);
    this.erase();
    if (this.unchanged > 0)
      this.stream.write(this.colors.dim(`  ${this.unchanged} step${this.unchanged === 1 ? "" : "s"} unchanged\n`));
  }

  private finish(step: string, action: Action): void {
    const active = this.active.get(step);
    this.active.delete(step);
    if (action === "unchanged") {
      this.unchanged++;
      return;
    }
    const lastLine = active === undefined || active.line === DOING[active.action] ? "" : `  ${active.line}`;
    const head = `  ${this.colors.green("✓")} ${step.padEnd(10)} ${elapsed(active?.startedAt).padStart(8)}`;
    this.say(`${head}${this.colors.dim(this.cut(lastLine, 24))}`);
  }

  private redraw(): void {
    if (this.active.size === 0) return;
    this.frame++;
    this.erase();
    this.draw();
  }

  private draw(): void {
    const spinner = this.colors.cyan(SPINNER[this.frame % SPINNER.length] ?? "·");
    for (const [step, { startedAt, line }] of this.active) {
      this.stream.write(`  ${spinner} ${step.padEnd(10)} ${elapsed(startedAt).padStart(8)}  ${this.cut(line, 26)}\n`);
    }
    this.drawnLines = this.active.size;
  }

  private erase(): void {
    if (this.drawnLines === 0) return;
    moveCursor(this.stream, -this.stream.columns, -this.drawnLines);
    clearScreenDown(this.stream);
    this.drawnLines = 0;
  }

  /** A line that wraps would be erased only in part. */
  private cut(text: string, used: number): string {
    const plain = stripVTControlCharacters(text).replaceAll("\t", " ");
    const room = Math.max(10, (this.stream.columns || 80) - used - 1);
    return plain.length <= room ? plain : `${plain.slice(0, room - 1)}…`;
  }
}

/** One line for each thing that happens: for files, pipes and machines that watch. */
export class PlainProgress implements Progress {
  private readonly startedAt = new Map<string, number>();
  private readonly lastLine = new Map<string, string>();
  private unchanged = 0;

  constructor(private readonly write: (line: string) => void) {}

  handle(event: RunEvent): void {
    switch (event.kind) {
      case "started":
        if (event.action === "unchanged") return;
        this.startedAt.set(event.step, Date.now());
        this.write(`${event.step}: ${DOING[event.action]}${event.reason === undefined ? "" : ` — ${event.reason}`}`);
        return;
      case "line":
        if (this.lastLine.get(event.step) === event.text) return;
        this.lastLine.set(event.step, event.text);
        this.write(`${event.step}: ${event.text}`);
        return;
      case "finished":
        if (event.action === "unchanged") this.unchanged++;
        else this.write(`${event.step}: done in ${elapsed(this.startedAt.get(event.step))}`);
        return;
      case "failed":
        this.write(`${event.step}: failed after ${elapsed(this.startedAt.get(event.step))}`);
        return;
      case "note":
        this.write(event.text);
        return;
      case "error":
        return;
      default:
        throw new Error(`unknown event ${JSON.stringify(event satisfies never)}`);
    }
  }

  say(line: string): void {
    this.write(line);
  }

  close(): void {
    if (this.unchanged > 0) this.write(`${this.unchanged} step${this.unchanged === 1 ? "" : "s"} unchanged`);
  }
}

/** `0.4 s`, `34 s`, `2 min 05 s`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 90) return `${whole} s`;
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}

function elapsed(startedAt: number | undefined): string {
  return startedAt === undefined ? "" : formatSeconds((Date.now() - startedAt) / 1000);
}
