/**
 * Owns the transport that uses `@grpc/grpc-js`. This module sets the options of the gRPC channel,
 * for example for load balancing and keepalive.
 *
 * This module makes no retries. `calls.ts` retries calls, in the same way for every transport.
 */

import {
  type DescMessage,
  type DescMethod,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type ChannelOptions,
  Client,
  type ClientReadableStream,
  connectivityState,
  credentials,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";

import { readDetails } from "./failures.js";
import {
  type AttemptOptions,
  type StatusDetail,
  type Tls,
  type Transport,
  TransportError,
  type TransportSettings,
} from "./transport.js";

// Calls go to all addresses in turn. gRPC checks each address every two seconds. If more than 90 %
// of the calls to an address failed in these two seconds, the address gets no calls for five
// seconds. A server that hangs is excluded by this rule, because all its calls time out. When half
// of the addresses or more get no calls, gRPC excludes no further address: of three addresses, at
// most two are excluded. A single address is never excluded: gRPC excludes an address only if at
// least two addresses each got two or more calls in the two seconds.
const SERVICE_CONFIG = {
  loadBalancingConfig: [
    {
      outlier_detection: {
        interval: { seconds: 2, nanos: 0 },
        base_ejection_time: { seconds: 5, nanos: 0 },
        max_ejection_time: { seconds: 5, nanos: 0 },
        max_ejection_percent: 50,
        failure_percentage_ejection: {
          threshold: 90,
          enforcement_percentage: 100,
          minimum_hosts: 2,
          request_volume: 2,
        },
        child_policy: [{ round_robin: {} }],
      },
    },
  ],
};

const CHANNEL_OPTIONS: ChannelOptions = {
  "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
  // A service config from DNS would replace `SERVICE_CONFIG`, so the client does not look for
  // service configs in DNS.
  "grpc.service_config_disable_resolution": 1,
  // The service allows one ping every 10 seconds. This transport sends one ping every 12 seconds.
  "grpc.keepalive_time_ms": 12_000,
  "grpc.keepalive_timeout_ms": 4_000,
  "grpc.keepalive_permit_without_calls": 1,
  // The pauses between attempts to connect are short, so that the client reconnects soon after a
  // long outage.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2_000,
  // Without this option, all clients of this process for one address would share a connection. The
  // clients would also share the number of calls that the service allows on one connection.
  "grpc.use_local_subchannel_pool": 1,
  // Calls to the service must not go through the HTTP proxy that the environment names for web
  // requests.
  "grpc.enable_http_proxy": 0,
  // No program reads the counters of channelz, gRPC's debugging service.
  "grpc.enable_channelz": 0,
  // A batch of 500 answers may be larger than gRPC's default limit of 4 MiB.
  "grpc.max_receive_message_length": 16 * 1024 * 1024,
};

// In other implementations of gRPC, this option limits the time of an attempt to connect. grpc-js
// ignores the option, so this module applies the limit. TCP sends a lost SYN again after 1, 3 and 7
// seconds, and then less and less often. So after 5 seconds, a new attempt reaches a service that
// has come back sooner than the old attempt would.
const CONNECTING_OPTION = "grpc.min_reconnect_backoff_ms";
const MAX_CONNECTING_MS = 5_000;

const CANCELLED = 1;
const DETAILS_TRAILER = "grpc-status-details-bin";

/** Creates a transport that uses `@grpc/grpc-js`. */
export function grpcTransport(settings: TransportSettings): Transport {
  return new GrpcTransport(settings);
}

class GrpcTransport implements Transport {
  readonly #settings: TransportSettings;
  readonly #maxConnectingMs: number;
  readonly #endings = new Set<() => void>();
  #client: Client;
  #connecting: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(settings: TransportSettings) {
    this.#settings = settings;
    this.#maxConnectingMs = Number(settings.channelOptions[CONNECTING_OPTION] ?? MAX_CONNECTING_MS);
    this.#client = this.#open();
  }

  #open(): Client {
    const { target, tls, channelOptions } = this.#settings;
    return new Client(target, channelCredentials(tls), { ...CHANNEL_OPTIONS, ...channelOptions });
  }

  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    options: AttemptOptions,
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(closed());
        return;
      }
      this.#limitConnecting();
      const call = this.#client.makeUnaryRequest(
        pathOf(method),
        (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
        (bytes: Buffer) => fromBinary(method.output, bytes),
        request,
        metadataOf(options.headers),
        callOptions(options),
        (error, response) => {
          ended();
          if (error !== null) reject(transportError(error));
          else if (response === undefined) reject(new TransportError(13, "no response"));
          else resolve(response);
        },
      );
      const ended = this.#endable(options.signal, () => {
        call.cancel();
      });
    });
  }

  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    options: AttemptOptions,
  ): AsyncIterable<MessageShape<O>> {
    if (this.#closed) throw closed();
    this.#limitConnecting();
    const stream: ClientReadableStream<MessageShape<O>> = this.#client.makeServerStreamRequest(
      pathOf(method),
      (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
      (bytes: Buffer) => fromBinary(method.output, bytes),
      request,
      metadataOf(options.headers),
      callOptions(options),
    );
    const ended = this.#endable(options.signal, () => {
      stream.cancel();
    });
    try {
      for await (const message of stream) yield message as MessageShape<O>;
    } catch (error) {
      throw transportError(error as ServiceError);
    } finally {
      ended();
      stream.cancel();
    }
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#connecting);
    for (const end of [...this.#endings]) end();
    this.#client.close();
  }

  /**
   * Calls `end` when the signal aborts, or when the transport is closed. Returns a function that
   * stops this: call it when the RPC is over, so that `end` is not called later.
   */
  #endable(signal: AbortSignal | undefined, end: () => void): () => void {
    this.#endings.add(end);
    if (signal?.aborted) end();
    else signal?.addEventListener("abort", end);
    return () => {
      this.#endings.delete(end);
      signal?.removeEventListener("abort", end);
    };
  }

  /**
   * Starts a timer for the present attempt to connect. If the attempt is not finished when the
   * timer fires, replaces the connection by a new connection.
   */
  #limitConnecting(): void {
    if (this.#connecting !== undefined) return;
    if (this.#client.getChannel().getConnectivityState(false) === connectivityState.READY) return;
    const client = this.#client;
    this.#connecting = setTimeout(() => {
      this.#connecting = undefined;
      const state = client.getChannel().getConnectivityState(false);
      if (state !== connectivityState.CONNECTING) return;
      // Calls that wait for the old attempt fail with UNAVAILABLE. `calls.ts` retries these calls.
      this.#client = this.#open();
      client.close();
    }, this.#maxConnectingMs);
    this.#connecting.unref();
  }
}

function channelCredentials(tls: Tls | undefined) {
  if (tls === undefined) return credentials.createInsecure();
  const { rootCertificates, privateKey, certificateChain } = tls;
  return credentials.createSsl(
    bufferOf(rootCertificates),
    bufferOf(privateKey),
    bufferOf(certificateChain),
  );
}

function bufferOf(pem: string | Uint8Array | undefined): Buffer | null {
  return pem === undefined ? null : Buffer.from(pem as string);
}

function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function metadataOf(headers: Readonly<Record<string, string>>): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return metadata;
}

function callOptions({ timeoutMs }: AttemptOptions) {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

function closed(): TransportError {
  return new TransportError(CANCELLED, "the transport is closed");
}

function transportError(error: ServiceError | Error): TransportError {
  if (!("code" in error) || typeof error.code !== "number") {
    return new TransportError(CANCELLED, error.message);
  }
  return new TransportError(error.code, error.details, detailsOf(error.metadata));
}

function detailsOf(metadata: Metadata | undefined): readonly StatusDetail[] {
  const [bytes] = metadata?.get(DETAILS_TRAILER) ?? [];
  if (bytes === undefined || typeof bytes === "string") return [];
  return readDetails(bytes);
}
