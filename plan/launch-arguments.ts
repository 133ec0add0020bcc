/** vLLM's arguments, made of the options that an installed vLLM has. */
export class ArgumentList {
  readonly list: string[] = [];
  readonly warnings: string[] = [];
  private readonly flags: ReadonlySet<string>;

  /** @param flags the options that the vLLM has; empty when they could not be asked for, and then all are taken to be there */
  constructor(flags: readonly string[]) {
    this.flags = new Set(flags);
    if (flags.length === 0) this.warn("vLLM's options could not be read: they are taken to be those of 0.32.0");
  }

  knows(flag: string): boolean {
    return this.flags.size === 0 || this.flags.has(flag);
  }

  /** An option that the plan can't do without: given in any case, since vLLM's own refusal is better than a service of another shape. */
  require(flag: string, value?: string): void {
    if (!this.knows(flag)) this.warn(`this vLLM does not list ${flag}; it is given all the same`);
    this.list.push(flag, ...(value === undefined ? [] : [value]));
  }

  /** An option that is left out where it is not known. */
  add(flag: string, values: readonly string[], without: string): void {
    if (this.knows(flag)) this.list.push(flag, ...values);
    else this.warn(`this vLLM has no ${flag}: ${without}`);
  }

  warn(text: string): void {
    this.warnings.push(text);
  }
}
