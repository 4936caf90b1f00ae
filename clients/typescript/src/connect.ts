/**
 * Owns a transport that uses `@connectrpc/connect-node` instead of `@grpc/grpc-js`. Both libraries
 * speak gRPC. Pass the transport as an option of the client:
 *
 *     new SessionAuthority("authority.internal:443", { tls: {}, transport: connectTransport })
 *
 * `target` must be one `host:port`. If the host has several addresses, this transport does not
 * spread the calls over them. This transport ignores `channelOptions`.
 */

import type {
  DescMessage,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { ConnectError, type Transport as ConnectRpcTransport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import {
  type AttemptOptions,
  type StatusDetail,
  type Tls,
  type Transport,
  TransportError,
  type TransportSettings,
} from "./transport.js";

const TYPE_URL = "type.googleapis.com/";
const CANCELLED = 1;
// The service allows one ping every 10 seconds. This transport sends one ping every 12 seconds.
const PINGS = { pingIntervalMs: 12_000, pingTimeoutMs: 4_000, pingIdleConnection: true };

/**
 * Creates a transport that uses `@connectrpc/connect-node`. Throws RangeError if the target is not
 * one `host:port`.
 */
export function connectTransport(settings: TransportSettings): Transport {
  return new ConnectTransport(settings);
}

class ConnectTransport implements Transport {
  readonly #sessions: Http2SessionManager;
  readonly #transport: ConnectRpcTransport;
  readonly #closing = new AbortController();

  constructor({ target, tls }: TransportSettings) {
    if (!/^[^/]+:\d+$/.test(target)) throw new RangeError("target: host:port, for this transport");
    const baseUrl = `${tls === undefined ? "http" : "https"}://${target}`;
    this.#sessions = new Http2SessionManager(baseUrl, PINGS, tls && sessionOptions(tls));
    this.#transport = createGrpcTransport({ baseUrl, sessionManager: this.#sessions });
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    { headers, signal, timeoutMs }: AttemptOptions,
  ): Promise<MessageShape<O>> {
    try {
      const input = request as MessageInitShape<I>;
      const ends = this.#endedBy(signal);
      const response = await this.#transport.unary(method, ends, timeoutMs, headers, input);
      return response.message;
    } catch (error) {
      throw transportError(error);
    }
  }

  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    { headers, signal, timeoutMs }: AttemptOptions,
  ): AsyncIterable<MessageShape<O>> {
    const leaving = new AbortController();
    try {
      const ends = AbortSignal.any([this.#endedBy(signal), leaving.signal]);
      const input = once(request as MessageInitShape<I>);
      const answer = await this.#transport.stream(method, ends, timeoutMs, headers, input);
      yield* answer.message;
    } catch (error) {
      throw transportError(error);
    } finally {
      leaving.abort();
    }
  }

  close(): void {
    this.#closing.abort();
    this.#sessions.abort();
  }

  #endedBy(signal: AbortSignal | undefined): AbortSignal {
    const closing = this.#closing.signal;
    return signal === undefined ? closing : AbortSignal.any([closing, signal]);
  }
}

// eslint-disable-next-line @typescript-eslint/require-await -- the interface is asynchronous
async function* once<T>(value: T): AsyncIterable<T> {
  yield value;
}

function sessionOptions({ rootCertificates, certificateChain, privateKey }: Tls) {
  return {
    ...(rootCertificates !== undefined && { ca: Buffer.from(rootCertificates as string) }),
    ...(certificateChain !== undefined && { cert: Buffer.from(certificateChain as string) }),
    ...(privateKey !== undefined && { key: Buffer.from(privateKey as string) }),
  };
}

function transportError(error: unknown): TransportError {
  if (error instanceof TransportError) return error;
  const failed = ConnectError.from(error);
  const aborted = error instanceof Error && error.name === "AbortError";
  const code: number = aborted ? CANCELLED : failed.code;
  return new TransportError(code, failed.rawMessage, detailsOf(failed));
}

function detailsOf(error: ConnectError): StatusDetail[] {
  return error.details.flatMap((detail) =>
    "type" in detail ? [{ typeUrl: TYPE_URL + detail.type, value: detail.value }] : [],
  );
}
