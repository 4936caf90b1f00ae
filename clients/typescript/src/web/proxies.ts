/** Reads the end user's address and scheme from the headers of proxies that the app trusts. */

import { contains, formatAddress, type Network, parseAddress, parseNetwork } from "./addresses.js";
import { type Headers, values } from "./headers.js";

/**
 * The number of addresses that are read from the end of `X-Forwarded-For`. Any client can make
 * `X-Forwarded-For` long.
 */
const MAX_HOPS = 64;

/** Knows the proxies that an app trusts, and reads their headers. */
export class Proxies {
  readonly #unix: boolean;
  readonly #networks: readonly Network[];

  /**
   * @param trusted - IP addresses and networks, and "unix" for a proxy that connects over a unix
   *   socket.
   * @throws TypeError for any other text.
   */
  constructor(trusted: readonly string[]) {
    const list: unknown = trusted;
    if (!Array.isArray(list)) throw new TypeError("trustedProxies: must be an array");
    this.#unix = trusted.includes("unix");
    this.#networks = trusted.filter((proxy) => proxy !== "unix").map(parseNetwork);
  }

  /**
   * Returns the end user's IP address. If `peer` is a trusted proxy, this is the last address in
   * `X-Forwarded-For` that is not the address of a trusted proxy. Else it is `peer`. Returns an
   * empty string if the address is unknown.
   */
  address(headers: Headers, peer: string): string {
    if (!this.trusts(peer)) return plain(peer);
    const hops = values(headers, "x-forwarded-for")
      .flatMap((line) => line.split(","))
      .map((hop) => hop.trim())
      .slice(-MAX_HOPS);
    const nearest = hops.findLast((hop) => plain(hop) === "" || !this.trusts(hop));
    return plain(nearest ?? hops[0] ?? peer);
  }

  /**
   * Returns true if the end user's connection is HTTPS. If `peer` is a trusted proxy, its header
   * `X-Forwarded-Proto` decides. Else, or without this header, `scheme` decides: the scheme of the
   * connection to the app.
   */
  isSecure(headers: Headers, peer: string, scheme: string): boolean {
    const hops = this.trusts(peer) ? values(headers, "x-forwarded-proto").join(",").split(",") : [];
    const told = hops.at(-1)?.trim() ?? "";
    return (told === "" ? scheme : told).toLowerCase() === "https";
  }

  /** Returns true if the app believes the headers of a proxy at this address. */
  trusts(peer: string): boolean {
    if (peer === "") return this.#unix;
    if (this.#networks.length === 0) return false;
    const address = parseAddress(peer);
    return address !== undefined && this.#networks.some((network) => contains(network, address));
  }
}

/** Returns an address without a zone or port. Returns an empty string if the text is no address. */
function plain(text: string): string {
  const address = parseAddress(text);
  return address === undefined ? "" : formatAddress(address);
}
