/** Reads device IDs in all the forms in which UUID libraries write UUIDs. */

const USUAL = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
const CANONICAL = new RegExp(`^${USUAL}$`);
const SPELLED = new RegExp(
  `^[ \\t\\r\\n]*(?:${USUAL}|[0-9a-f]{32}|\\{${USUAL}\\}|urn:uuid:${USUAL})[ \\t\\r\\n]*$`,
  "i",
);
const NIL = "00000000-0000-0000-0000-000000000000";

/**
 * Returns a device ID in its canonical form: 36 characters in lower case. Returns an empty string
 * if the text is no device ID. The nil UUID is no device ID.
 */
export function canonicalDeviceId(text: string): string {
  const usual = CANONICAL.test(text) ? text : respelled(text);
  return usual === NIL ? "" : usual;
}

function respelled(text: string): string {
  if (!SPELLED.test(text)) return "";
  const digits = text
    .toLowerCase()
    .replace("urn:uuid:", "")
    .replace(/[^0-9a-f]/g, "");
  const at = [0, 8, 12, 16, 20, 32];
  return at
    .slice(1)
    .map((end, part) => digits.slice(at[part], end))
    .join("-");
}
