/** Owns device IDs in all the spellings that UUID libraries write. */

const USUAL = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
const SPELLED = new RegExp(
  `^[ \\t\\r\\n]*(?:${USUAL}|[0-9a-fA-F]{32}|\\{${USUAL}\\}|urn:uuid:${USUAL})[ \\t\\r\\n]*$`,
  "i",
);
const NIL = "0".repeat(32);

/**
 * The device ID that the text spells, in the form of 36 characters in lower case. Empty if the text
 * can't name a device: the nil UUID can't.
 */
export function canonicalDeviceId(text: string): string {
  if (!SPELLED.test(text)) return "";
  const digits = text.trim().toLowerCase().replace("urn:uuid:", "").replace(/[{}-]/g, "");
  if (digits === NIL) return "";
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
