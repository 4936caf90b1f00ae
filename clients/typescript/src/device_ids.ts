/**
 * Converts device IDs to the canonical form of UUIDs. Accepts each form in which UUID libraries
 * write a UUID.
 */

const USUAL = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
const SPELLED = new RegExp(
  `^[ \\t\\r\\n]*(?:${USUAL}|[0-9a-fA-F]{32}|\\{${USUAL}\\}|urn:uuid:${USUAL})[ \\t\\r\\n]*$`,
  "i",
);
const NIL = "0".repeat(32);

/**
 * Returns a device ID in its canonical form: 36 characters in lower case. Returns an empty string
 * if the text is no UUID, or is the nil UUID.
 */
export function canonicalDeviceId(text: string): string {
  if (!SPELLED.test(text)) return "";
  const digits = text.trim().toLowerCase().replace("urn:uuid:", "").replace(/[{}-]/g, "");
  if (digits === NIL) return "";
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
