/** Parses IP addresses and networks into values that can be compared. */

import { isIPv4, isIPv6 } from "node:net";

/** The bytes of an IP address: 4 for IPv4, 16 for IPv6. */
export type Address = readonly number[];

/** A network: its first address, and the number of leading bits that all its addresses share. */
export interface Network {
  readonly first: Address;
  readonly bits: number;
}

/**
 * A text with more characters is no address. The longest form of an address is IPv6 in brackets,
 * with a zone and a port.
 */
const MAX_ADDRESS_CHARACTERS = 100;
const MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/**
 * Returns the IP address in a text, without a zone or a port. An IPv4 address in the form of IPv6,
 * such as `::ffff:192.0.2.1`, becomes IPv4. Returns undefined if the text is no address.
 */
export function parseAddress(text: string): Address | undefined {
  if (text.length > MAX_ADDRESS_CHARACTERS) return undefined;
  let plain = text;
  if (plain.startsWith("[")) plain = plain.slice(1).split("]", 1)[0] ?? "";
  else if (plain.split(":").length === 2) plain = plain.split(":", 1)[0] ?? "";
  return bytesOf(plain.split("%", 1)[0] ?? "", { unmap: true });
}

/**
 * Returns the text of an IP address. The text of an IPv6 address is in the short form of RFC 5952.
 */
export function formatAddress(address: Address): string {
  if (address.length === 4) return address.join(".");
  const groups: string[] = [];
  for (let at = 0; at < 16; at += 2) {
    groups.push((((address[at] ?? 0) << 8) | (address[at + 1] ?? 0)).toString(16));
  }
  // `URL` shortens the text of an IPv6 host by the rules of RFC 5952.
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
}

/**
 * Returns the network that a text names, such as `10.0.0.0/8` or a single address. Throws TypeError
 * if the text names no network.
 */
export function parseNetwork(text: string): Network {
  const [name = "", bitsText, ...more] = text.split("/");
  const first = bytesOf(name, { unmap: false });
  if (first === undefined || more.length > 0) throw wrong(text, "is no address or network");
  const most = first.length * 8;
  if (bitsText === undefined) return { first, bits: most };
  const bits = /^[0-9]{1,3}$/.test(bitsText) ? Number(bitsText) : NaN;
  if (!(bits <= most)) throw wrong(text, "has no length of a network behind its slash");
  for (let bit = bits; bit < most; bit++) {
    if (((first[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1) throw wrong(text, "has host bits set");
  }
  return { first, bits };
}

/** Returns true if an address is in a network. */
export function contains(network: Network, address: Address): boolean {
  if (address.length !== network.first.length) return false;
  const whole = network.bits >> 3;
  for (let at = 0; at < whole; at++) if (address[at] !== network.first[at]) return false;
  const rest = network.bits & 7;
  if (rest === 0) return true;
  return ((address[whole] ?? 0) ^ (network.first[whole] ?? 0)) >> (8 - rest) === 0;
}

function bytesOf(text: string, { unmap }: { unmap: boolean }): Address | undefined {
  if (isIPv4(text)) return text.split(".").map(Number);
  if (!isIPv6(text) || text.includes("%")) return undefined;
  const bytes = bytesOfIPv6(text);
  const mapped = unmap && MAPPED.every((byte, at) => bytes[at] === byte);
  return mapped ? bytes.slice(MAPPED.length) : bytes;
}

/** Returns the bytes of a valid IPv6 address. */
function bytesOfIPv6(text: string): number[] {
  const [head = [], tail] = text.split("::").map(bytesOfGroups);
  if (tail === undefined) return [...head];
  const zeros = new Array<number>(16 - head.length - tail.length).fill(0);
  return [...head, ...zeros, ...tail];
}

function bytesOfGroups(groups: string): number[] {
  if (groups === "") return [];
  return groups.split(":").flatMap((group) => {
    if (group.includes(".")) return group.split(".").map(Number);
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

function wrong(text: string, why: string): TypeError {
  return new TypeError(`trustedProxies: ${JSON.stringify(text)} ${why}`);
}
