/** Options that commander hands to a command, by attribute name; flags of settings come beside them. */
export interface CommonOptions extends Readonly<Record<string, unknown>> {
  readonly env: string;
  readonly json: boolean;
}

export interface SettingOptions extends CommonOptions {
  readonly set: readonly string[];
}

export interface ChangeOptions extends SettingOptions {
  readonly yes: boolean;
  readonly backend?: string;
}
