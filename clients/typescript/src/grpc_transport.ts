/**
 * The transport that uses `@grpc/grpc-js`: the channel with its options, load balancing and
 * keepalive.
 *
 * This module makes no retries: `calls.ts` makes them, in the same way for every transport.
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

// Calls go to all addresses in turn. If more than nine of ten calls to an address fail within two
// seconds, this address gets no calls for five seconds: a server that hangs fails all its calls.
// When half of the addresses or more are left out, no further address is left out: of three
// addresses, two may be left out. A single address is never left out: the rule needs two addresses
// that each got at least two calls in the interval.
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
  // A service config from DNS would replace the one above.
  "grpc.service_config_disable_resolution": 1,
  // The service allows a ping every 10 seconds.
  "grpc.keepalive_time_ms": 12_000,
  "grpc.keepalive_timeout_ms": 4_000,
  "grpc.keepalive_permit_without_calls": 1,
  // These short pauses let the client find a service soon after a long outage.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2_000,
  // Without this, the clients to one address would share a connection, and the number of calls
  // that the service allows on one connection.
  "grpc.use_local_subchannel_pool": 1,
  // Calls between services must not go through a proxy for the web.
  "grpc.enable_http_proxy": 0,
  // Nothing reads the counters of channelz.
  "grpc.enable_channelz": 0,
  // A batch of 500 answers may be larger than gRPC's default limit of 4 MiB.
  "grpc.max_receive_message_length": 16 * 1024 * 1024,
};

// In other implementations of gRPC, this option limits the time of an attempt to connect. grpc-js
// ignores it, so this module applies the limit. A lost SYN is sent again after 1 and 3 seconds. If
// a service comes back, a new attempt finds it sooner than an attempt that lasts longer than 5
// seconds.
const CONNECTING_OPTION = "grpc.min_reconnect_backoff_ms";
const MAX_CONNECTING_MS = 5_000;

const CANCELLED = 1;
const DETAILS_TRAILER = "grpc-status-details-bin";

/** Creates a transport to a service that uses `@grpc/grpc-js`. */
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
   * cancels this.
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

  /** Ends an attempt to connect that lasts too long, and starts a new attempt. */
  #limitConnecting(): void {
    if (this.#connecting !== undefined) return;
    if (this.#client.getChannel().getConnectivityState(false) === connectivityState.READY) return;
    const client = this.#client;
    this.#connecting = setTimeout(() => {
      this.#connecting = undefined;
      const state = client.getChannel().getConnectivityState(false);
      if (state !== connectivityState.CONNECTING) return;
      // Calls that wait for this attempt fail with UNAVAILABLE, and `calls.ts` retries them.
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
