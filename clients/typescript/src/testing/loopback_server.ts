/**
 * Owns a gRPC server on loopback for the service's contract. The server passes each call to its
 * handlers. The server may be stopped and started again.
 */

import {
  create,
  type DescMethod,
  fromBinary,
  type Message,
  toBinary,
} from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  Server,
  ServerCredentials,
  type ServerErrorResponse,
  type ServerUnaryCall,
  type ServerWritableStream,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";

import { duration } from "../convert.js";
import type { StatusCode } from "../errors.js";
import { numberOf } from "../failures.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
  StatusSchema,
} from "../gen/google/rpc/status_pb.js";
import {
  SessionAuthorityService,
  type WatchEventsRequest,
  type WatchEventsResponse,
} from "../gen/session_authority/v1/session_authority_pb.js";

/** The details of a `Refusal`, in addition to its status code and message. */
export interface RefusalDetails {
  readonly reason?: string;
  readonly violations?: readonly { readonly field: string; readonly description: string }[];
  readonly metadata?: Readonly<Record<string, string>>;
  readonly retryAfterMs?: number;
}

/**
 * An error that a handler throws to fail its call. The caller gets the status and the details, as
 * from the real service.
 */
export class Refusal extends Error {
  constructor(
    readonly code: StatusCode,
    message: string,
    readonly details?: RefusalDetails,
  ) {
    super(message);
  }

  /**
   * Returns the bytes of the trailer `grpc-status-details-bin`. Returns undefined if the refusal
   * has no details.
   */
  status(): Uint8Array | undefined {
    if (this.details === undefined) return undefined;
    const { reason = "", violations, metadata = {}, retryAfterMs } = this.details;
    const details = [
      anyPack(
        ErrorInfoSchema,
        create(ErrorInfoSchema, { reason, domain: "session-authority", metadata }),
      ),
    ];
    if (violations !== undefined) {
      const bad = create(BadRequestSchema, { fieldViolations: [...violations] });
      details.push(anyPack(BadRequestSchema, bad));
    }
    if (retryAfterMs !== undefined) {
      const retry = create(RetryInfoSchema, { retryDelay: duration(retryAfterMs) });
      details.push(anyPack(RetryInfoSchema, retry));
    }
    const code = numberOf(this.code);
    return toBinary(StatusSchema, create(StatusSchema, { code, message: this.message, details }));
  }
}

/** A call that the server received, without its request message. */
export interface ServedCall {
  /** The name of the method in the contract. */
  readonly method: string;
  readonly metadata: Metadata;
  /**
   * How many milliseconds were left until the call's deadline when the call arrived. Infinite if
   * the call has no deadline.
   */
  readonly leftMs: number;
  /** A signal that aborts when the caller cancels the call. */
  readonly signal: AbortSignal;
}

/**
 * The handlers of the calls. A handler returns the response, or throws a `Refusal` to fail the
 * call.
 */
export interface Handlers {
  unary(request: Message, call: ServedCall): Promise<Message>;
  watch(request: WatchEventsRequest, call: ServedCall): AsyncIterable<WatchEventsResponse>;
}

/** A gRPC server for the service's contract, which listens on loopback. */
export class LoopbackServer {
  /**
   * The address at which the server listens, `host:port`. Empty before the first `start`. The first
   * `start` takes a free port, and a later `start` takes the same port.
   */
  address = "";
  readonly #handlers: Handlers;
  #server: Server | undefined;

  constructor(handlers: Handlers) {
    this.#handlers = handlers;
  }

  async start(options: Readonly<Record<string, number>> = {}): Promise<void> {
    const server = new Server(options);
    const methods: DescMethod[] = SessionAuthorityService.methods;
    const definition: Record<string, ReturnType<typeof definitionOf>> = {};
    const implementation: UntypedServiceImplementation = {};
    for (const method of methods) {
      definition[method.name] = definitionOf(method);
      implementation[method.name] =
        method.methodKind === "unary" ? this.#unary(method) : this.#watch(method);
    }
    server.addService(definition, implementation);
    const port = await new Promise<number>((resolve, reject) => {
      const address = this.address === "" ? "127.0.0.1:0" : this.address;
      server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
    this.address = `127.0.0.1:${String(port)}`;
    this.#server = server;
  }

  /** Stops listening and breaks all connections. */
  stop(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
  }

  #unary(method: DescMethod): handleUnaryCall<Message, Message> {
    return (call, callback) => {
      this.#handlers.unary(call.request, servedCall(method, call)).then(
        (response) => {
          callback(null, response);
        },
        (error: unknown) => {
          callback(errorResponse(error));
        },
      );
    };
  }

  #watch(method: DescMethod): handleServerStreamingCall<Message, Message> {
    return (call) => {
      void this.#stream(call, servedCall(method, call));
    };
  }

  async #stream(call: ServerWritableStream<Message, Message>, served: ServedCall): Promise<void> {
    try {
      const request = call.request as WatchEventsRequest;
      for await (const message of this.#handlers.watch(request, served)) {
        if (served.signal.aborted) return;
        call.write(message);
      }
      call.end();
    } catch (error) {
      call.emit("error", errorResponse(error));
    }
  }
}

function definitionOf(method: DescMethod) {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: false,
    responseStream: method.methodKind === "server_streaming",
    requestSerialize: (message: Message) => Buffer.from(toBinary(method.input, message)),
    requestDeserialize: (bytes: Buffer) => fromBinary(method.input, bytes),
    responseSerialize: (message: Message) => Buffer.from(toBinary(method.output, message)),
    responseDeserialize: (bytes: Buffer) => fromBinary(method.output, bytes),
  };
}

function servedCall(
  method: DescMethod,
  call: ServerUnaryCall<Message, Message> | ServerWritableStream<Message, Message>,
): ServedCall {
  const leaving = new AbortController();
  call.on("cancelled", () => {
    leaving.abort();
  });
  const deadline = call.getDeadline();
  return {
    method: method.name,
    metadata: call.metadata,
    leftMs: Number(deadline) - Date.now(),
    signal: leaving.signal,
  };
}

function errorResponse(error: unknown): Partial<ServerErrorResponse> & Error {
  const metadata = new Metadata();
  if (!(error instanceof Refusal)) {
    return Object.assign(new Error(String(error)), { code: numberOf("INTERNAL"), metadata });
  }
  const status = error.status();
  if (status !== undefined) metadata.set("grpc-status-details-bin", Buffer.from(status));
  const { message } = error;
  const code = numberOf(error.code);
  return Object.assign(new Error(message), { code, details: message, metadata });
}
