/**
 * What the proxies in front of an app say of the end user's connection, as far as the app trusts
 * them.
 */

import { contains, formatAddress, type Network, parseAddress, parseNetwork } from "./addresses.js";
import { type Headers, values } from "./headers.js";

/** Anybody can make the header long. */
const MAX_HOPS = 64;

/** The proxies that an app trusts. */
export class Proxies {
  readonly #unix: boolean;
  readonly #networks: readonly Network[];

  /**
   * @param trusted - Addresses and networks, "unix" for a proxy at a unix socket. Throws TypeError
   * for anything else.
   */
  constructor(trusted: readonly string[]) {
    const list: unknown = trusted;
    if (!Array.isArray(list)) throw new TypeError("trustedProxies: must be an array");
    this.#unix = trusted.includes("unix");
    this.#networks = trusted.filter((proxy) => proxy !== "unix").map(parseNetwork);
  }

  /** The end user's address: the nearest one that no trusted proxy has. Empty if unknown. */
  address(headers: Headers, peer: string): string {
    if (!this.trusts(peer)) return plain(peer);
    const hops = values(headers, "x-forwarded-for")
      .flatMap((line) => line.split(","))
      .map((hop) => hop.trim())
      .slice(-MAX_HOPS);
    const nearest = hops.findLast((hop) => plain(hop) === "" || !this.trusts(hop));
    return plain(nearest ?? hops[0] ?? peer);
  }

  /** True if the end user's connection is HTTPS, as far as the nearest trusted proxy says. */
  isSecure(headers: Headers, peer: string, scheme: string): boolean {
    const hops = this.trusts(peer) ? values(headers, "x-forwarded-proto").join(",").split(",") : [];
    const told = hops.at(-1)?.trim() ?? "";
    return (told === "" ? scheme : told).toLowerCase() === "https";
  }

  /** True if the app believes what a proxy at this address says. */
  trusts(peer: string): boolean {
    if (peer === "") return this.#unix;
    if (this.#networks.length === 0) return false;
    const address = parseAddress(peer);
    return address !== undefined && this.#networks.some((network) => contains(network, address));
  }
}

/** An address without a zone or port. Empty if it is none. */
function plain(text: string): string {
  const address = parseAddress(text);
  return address === undefined ? "" : formatAddress(address);
}
