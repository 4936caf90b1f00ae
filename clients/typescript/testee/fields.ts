/**
 * Reads the fields of a command from its line of JSON. A field that is null counts as absent. A
 * field of the wrong type throws `BadCommand`.
 */

/**
 * The error of a malformed command, for example a command without a required field or with a field
 * of the wrong type.
 */
export class BadCommand extends Error {}

export type Line = Readonly<Record<string, unknown>>;

/** Returns a field of the line. Returns undefined if the field is absent or null. */
function field(line: Line, name: string): unknown {
  return line[name] ?? undefined;
}

/** Returns the text in a field. Throws `BadCommand` if the field is absent. */
export function text(line: Line, name: string): string {
  const value = field(line, name);
  if (typeof value !== "string") throw new BadCommand(`${name}: a text`);
  return value;
}

/** Returns the text in a field. Returns undefined if the field is absent. */
export function maybeText(line: Line, name: string): string | undefined {
  return field(line, name) === undefined ? undefined : text(line, name);
}

/** Returns the number in a field. Returns undefined if the field is absent. */
export function maybeNumber(line: Line, name: string): number | undefined {
  const value = field(line, name);
  if (value !== undefined && typeof value !== "number") throw new BadCommand(`${name}: a number`);
  return value;
}

/** Returns the boolean in a field. Returns undefined if the field is absent. */
export function maybeFlag(line: Line, name: string): boolean | undefined {
  const value = field(line, name);
  if (value !== undefined && typeof value !== "boolean") throw new BadCommand(`${name}: a boolean`);
  return value;
}

/** Returns the JSON object in a field. Returns undefined if the field is absent. */
export function maybeObject(line: Line, name: string): Line | undefined {
  const value = field(line, name);
  if (value !== undefined && !isObject(value)) throw new BadCommand(`${name}: an object`);
  return value;
}

/** Returns the array of JSON objects in a field. Throws `BadCommand` if the field is absent. */
export function objects(line: Line, name: string): Line[] {
  const value = field(line, name);
  if (!Array.isArray(value) || !value.every(isObject)) throw new BadCommand(`${name}: objects`);
  return value;
}

/** Returns true if a value is a JSON object. */
export function isObject(value: unknown): value is Line {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
