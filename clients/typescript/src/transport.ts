/**
 * Defines `Transport`, the interface between the client and the gRPC library that makes the calls.
 * Also checks addresses, TLS settings and bearer tokens. The default library is `@grpc/grpc-js`.
 */

import type {
  DescMessage,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageShape,
} from "@bufbuild/protobuf";
import { isIP } from "node:net";

import { unavailable } from "./failures.js";

/** One detail of a gRPC status: the type URL of a message, and the message's bytes. */
export interface StatusDetail {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

/** Options of one attempt of a call. */
export interface AttemptOptions {
  /** The headers of the call, with names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * A signal that ends the attempt. If the signal aborts, the attempt throws an error, which need
   * not be a `TransportError`.
   */
  readonly signal?: AbortSignal | undefined;
  /** After this many milliseconds the attempt fails with DEADLINE_EXCEEDED. Default: no timeout. */
  readonly timeoutMs?: number | undefined;
}

/**
 * Makes calls to one service. An attempt that fails throws a `TransportError`, unless its signal
 * has aborted. A transport makes no retries.
 */
export interface Transport {
  /** Makes one attempt of a call that has one response, and returns the response. */
  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    options: AttemptOptions,
  ): Promise<MessageShape<O>>;
  /** Makes one attempt of a call that has a stream of responses, and yields the responses. */
  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    options: AttemptOptions,
  ): AsyncIterable<MessageShape<O>>;
  /** Ends all calls that are under way, and closes all connections of the transport. */
  close(): void;
}

/**
 * The settings of a transport. The client passes its own arguments `target`, `tls` and
 * `channelOptions`.
 */
export interface TransportSettings {
  readonly target: string;
  readonly tls: Tls | undefined;
  /**
   * Options for the channel of `@grpc/grpc-js`. An option of this object replaces the transport's
   * own option of the same name.
   */
  readonly channelOptions: Readonly<Record<string, string | number>>;
}

/**
 * A function that creates a transport. A client with a near cache creates two transports, because
 * the cache's watch has a connection of its own.
 */
export type TransportFactory = (settings: TransportSettings) => Transport;

/** The error of a failed attempt, with the gRPC status of the attempt. */
export class TransportError extends Error {
  override readonly name = "TransportError";

  constructor(
    /** The number of the gRPC status code. */
    readonly code: number,
    message: string,
    /** The details of the status, as `google.rpc.Status` has them. */
    readonly details: readonly StatusDetail[] = [],
  ) {
    super(message);
  }
}

/**
 * The certificates for TLS, in PEM format. `rootCertificates` are the CAs that may have signed the
 * service's certificate. Default: the CAs that Node trusts.
 *
 * `certificateChain` and `privateKey` are this caller's own certificate and its key, for mutual
 * TLS. Pass both fields or neither field.
 */
export interface Tls {
  readonly rootCertificates?: string | Uint8Array | undefined;
  readonly certificateChain?: string | Uint8Array | undefined;
  readonly privateKey?: string | Uint8Array | undefined;
}

/** The bearer token of this caller, or a function that returns the current token. */
export type CallerToken = string | (() => string | Promise<string>);

/**
 * Checks the address of the service, the TLS settings and the token. Throws TypeError for a value
 * of the wrong type. Throws RangeError if the address is empty or a URL, and if the token is empty
 * or has characters that no header may contain. Also throws RangeError if a token would go to
 * another machine without TLS, and if a certificate or its key is given alone.
 */
export function checkTarget(
  target: unknown,
  tls: Tls | undefined,
  token: CallerToken | undefined,
): asserts target is string {
  if (typeof target !== "string") throw new TypeError(`target: a string, not ${typeof target}`);
  if (target === "" || /^(https?|grpcs?):\/\//.test(target)) {
    throw new RangeError(
      "target: host:port or dns:///host:port, no URL; ask for TLS with the option tls",
    );
  }
  if (tls !== undefined) checkTls(tls);
  if (token === undefined) return;
  if (typeof token !== "string" && typeof token !== "function") {
    throw new TypeError(`token: a string or a function that returns one, not ${typeof token}`);
  }
  if (typeof token === "string" && !isToken(token)) {
    throw new RangeError("token: is empty, or holds what no header may");
  }
  if (tls === undefined && !isLocal(target)) {
    throw new RangeError("token: goes to another machine over TLS only; give tls");
  }
}

function checkTls(tls: Tls): void {
  if (typeof tls !== "object" || tls === null) throw new TypeError("tls: an object");
  for (const name of ["rootCertificates", "certificateChain", "privateKey"] as const) {
    const value: unknown = tls[name];
    if (value !== undefined && typeof value !== "string" && !(value instanceof Uint8Array)) {
      throw new TypeError(`tls.${name}: PEM in a string or in bytes, not ${typeof value}`);
    }
  }
  if ((tls.certificateChain === undefined) !== (tls.privateKey === undefined)) {
    throw new RangeError("tls: give certificateChain and privateKey together, or neither");
  }
}

/**
 * Returns the headers of a call. Throws an `unavailable` error if the token function fails or
 * returns no valid token. The `unavailable` error does not contain the text of the function's own
 * error, because that text may contain a secret.
 */
export async function callHeaders(
  token: CallerToken | undefined,
): Promise<Readonly<Record<string, string>>> {
  if (token === undefined) return NO_HEADERS;
  if (typeof token === "string") return { authorization: `Bearer ${token.trim()}` };
  let found: unknown;
  try {
    found = await token();
  } catch (error) {
    const kind = error instanceof Error ? error.constructor.name : typeof error;
    throw unavailable(`token: can't be had (${kind})`, "UNAVAILABLE");
  }
  if (typeof found !== "string") {
    const kind = typeof found;
    throw unavailable(`token: the function returns no string but ${kind}`, "UNAVAILABLE");
  }
  if (!isToken(found)) {
    throw unavailable("token: is empty, or holds what no header may", "UNAVAILABLE");
  }
  return { authorization: `Bearer ${found.trim()}` };
}

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});

function isToken(token: string): boolean {
  return /^[ -~]+$/.test(token.trim());
}

/**
 * Returns true if the target is on this machine. If the target has several addresses, each address
 * must be on this machine.
 */
function isLocal(target: string): boolean {
  if (/^unix(-abstract)?:/.test(target)) return true;
  const addresses = target.replace(/^(dns:\/\/\/|dns:|ipv4:|ipv6:)/, "");
  return addresses.split(",").every(isLoopback);
}

function isLoopback(address: string): boolean {
  const bare = address.startsWith("[") || isIP(address) === 6 ? address : withoutPort(address);
  const host = bare.replace(/^\[(.*)\](:\d+)?$/, "$1");
  if (isIP(host) === 4) return host.startsWith("127.");
  return host === "localhost" || host === "::1";
}

function withoutPort(address: string): string {
  return address.replace(/:[^:]*$/, "");
}
