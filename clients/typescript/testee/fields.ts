/** The fields of a command, as a line brings them. Null means that a field is not there. */

/** A command without a field that it needs, or with a field of another type. */
export class BadCommand extends Error {}

export type Line = Readonly<Record<string, unknown>>;

/** The field, or undefined if it is absent or null. */
function field(line: Line, name: string): unknown {
  return line[name] ?? undefined;
}

/** A text that the command needs. */
export function text(line: Line, name: string): string {
  const value = field(line, name);
  if (typeof value !== "string") throw new BadCommand(`${name}: a text`);
  return value;
}

/** A text, or undefined. */
export function maybeText(line: Line, name: string): string | undefined {
  return field(line, name) === undefined ? undefined : text(line, name);
}

/** A number, or undefined. */
export function maybeNumber(line: Line, name: string): number | undefined {
  const value = field(line, name);
  if (value !== undefined && typeof value !== "number") throw new BadCommand(`${name}: a number`);
  return value;
}

/** A yes or no, or undefined. */
export function maybeFlag(line: Line, name: string): boolean | undefined {
  const value = field(line, name);
  if (value !== undefined && typeof value !== "boolean") throw new BadCommand(`${name}: a boolean`);
  return value;
}

/** An object, or undefined. */
export function maybeObject(line: Line, name: string): Line | undefined {
  const value = field(line, name);
  if (value !== undefined && !isObject(value)) throw new BadCommand(`${name}: an object`);
  return value;
}

/** Objects that the command needs. */
export function objects(line: Line, name: string): Line[] {
  const value = field(line, name);
  if (!Array.isArray(value) || !value.every(isObject)) throw new BadCommand(`${name}: objects`);
  return value;
}

/** Whether a value is a JSON object. */
export function isObject(value: unknown): value is Line {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
