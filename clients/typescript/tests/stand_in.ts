/**
 * A stand-in for the service, on a real connection, that a test controls. It can delay answers,
 * fail calls and stall its watches.
 *
 * It keeps the rules of the contract on which a cache relies: a revocation and its event are one
 * step, and a validation reads the state at the time of the call. Its watches send a proof every
 * 50 ms, and not every 10 seconds as the service does. So a test may use a cache with a
 * `maxSilenceMs` of only half a second.
 */

import { create, type Message } from "@bufbuild/protobuf";

import { duration, timestamp } from "../src/convert.js";
import * as pb from "../src/gen/session_authority/v1/session_authority_pb.js";
import {
  type Handlers,
  LoopbackServer,
  Refusal,
  type ServedCall,
} from "../src/testing/loopback_server.js";

const PROOF_MS = 50;
export const DEVICE = "6f1c2f0e-5d53-4c0b-8f43-0c1d2e3f4a5b";

/** A call that the stand-in got. */
export interface SeenCall {
  readonly method: string;
  readonly request: Message;
  readonly leftMs: number;
  readonly headers: Readonly<Record<string, unknown>>;
}

/** A function that answers one call instead of the stand-in. */
export type Act = (request: Message, call: ServedCall) => Message | Promise<Message>;

/** A gate. While it is closed, every caller of `passed` waits. */
export class Gate {
  #open: Promise<void> = Promise.resolve();
  #release: (() => void) | undefined;

  close(): void {
    if (this.#release !== undefined) return;
    this.#open = new Promise((resolve) => {
      this.#release = resolve;
    });
  }

  open(): void {
    this.#release?.();
    this.#release = undefined;
  }

  passed(): Promise<void> {
    return this.#open;
  }
}

/** The stand-in, with a record of the calls that it got. */
export class StandIn implements Handlers {
  readonly calls: SeenCall[] = [];
  /** Each act answers one call, in their order. Watches are not among these calls. */
  readonly acts: Act[] = [];
  /** If this is set, it answers every call for which `acts` has no act left. Not for watches. */
  always: Act | undefined;
  /** While this gate is closed, the stand-in sends no answers. Acts do not wait for this gate. */
  readonly answers = new Gate();
  /** While this gate is closed, watches stall. */
  readonly flow = new Gate();
  atOnce = 0;
  mostAtOnce = 0;
  /** The number of calls whose answers were decided so far. The answers may not be sent yet. */
  decided = 0;
  watches = 0;
  watchRefusal: Refusal | undefined;
  renew = false;
  lifeMs = 3_600_000;
  readonly #server = new LoopbackServer(this);
  readonly #revoked = new Set<string>();
  readonly #events: pb.Event[] = [];
  #epoch = 0;
  readonly #news = new Set<() => void>();

  get address(): string {
    return this.#server.address;
  }

  async start(options?: Readonly<Record<string, number>>): Promise<this> {
    await this.#server.start(options);
    return this;
  }

  stop(): void {
    this.answers.open();
    this.flow.open();
    this.cut();
    this.#server.stop();
  }

  /** Returns the calls so far, each with its method and its number of requests, without watches. */
  methods(): [string, number][] {
    return this.calls
      .filter(({ method }) => method !== "WatchEvents")
      .map(({ method, request }) => {
        const batch = request as pb.BatchValidateSessionsRequest;
        return [method, method === "BatchValidateSessions" ? batch.requests.length : 1];
      });
  }

  /** Ends a user's sessions and writes the event, in one step. */
  revoke(userId: string): void {
    this.#revoked.add(userId);
    this.happen(pb.EventType.ALL_REVOKED, userId);
  }

  /** Writes an event, without ending a session. */
  happen(type: number, userId = "", sessionId = ""): void {
    const eventId = String(this.#events.length);
    this.#events.push(create(pb.EventSchema, { eventId, type, userId, sessionId }));
    this.#wake();
  }

  /** Breaks all watches. */
  cut(): void {
    this.#epoch += 1;
    this.#wake();
  }

  #wake(): void {
    for (const tell of this.#news) tell();
  }

  async unary(request: Message, call: ServedCall): Promise<Message> {
    this.#note(request, call);
    const act = this.acts.shift() ?? this.always;
    if (act !== undefined) return await act(request, call);
    this.atOnce += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.atOnce);
    const response = this.#answer(request, call.method);
    this.decided += 1;
    await this.answers.passed();
    this.atOnce -= 1;
    return response;
  }

  #note(request: Message, { method, leftMs, metadata }: ServedCall): void {
    this.calls.push({ method, request, leftMs, headers: metadata.getMap() });
  }

  #answer(request: Message, method: string): Message {
    switch (method) {
      case "ValidateSession":
        return this.validation(request as pb.ValidateSessionRequest);
      case "BatchValidateSessions": {
        const { requests } = request as pb.BatchValidateSessionsRequest;
        return create(pb.BatchValidateSessionsResponseSchema, {
          results: requests.map((one) => this.#item(one)),
        });
      }
      case "CheckSessions": {
        const { sessions } = request as pb.CheckSessionsRequest;
        return create(pb.CheckSessionsResponseSchema, {
          results: sessions.map(({ userId }) => ({
            outcome: { case: "state" as const, value: { status: this.#status(userId) } },
          })),
        });
      }
      default:
        throw new Refusal("UNIMPLEMENTED", method);
    }
  }

  #status(userId: string): pb.SessionStatus {
    const revoked = this.#revoked.has(userId);
    return revoked ? pb.SessionStatus.NO_SESSION : pb.SessionStatus.ACTIVE;
  }

  #item(request: pb.ValidateSessionRequest) {
    const outcome =
      request.accessToken === "broken"
        ? { case: "error" as const, value: { code: 3, reason: 1, message: "broken" } }
        : { case: "response" as const, value: this.validation(request) };
    return { outcome };
  }

  /** Returns the validation of a token, `token of <user>`. Refuses the token `broken`. */
  validation({ accessToken, deviceId }: pb.ValidateSessionRequest): pb.ValidateSessionResponse {
    if (accessToken === "broken") throw new Refusal("INVALID_ARGUMENT", "broken");
    const userId = accessToken.replace("token of ", "");
    const status = this.#status(userId);
    const active = status === pb.SessionStatus.ACTIVE;
    const signInTime = timestamp(new Date());
    const tokenExpireTime = timestamp(new Date(Date.now() + this.lifeMs));
    const expireTime = timestamp(new Date(Date.now() + 86_400_000));
    return create(pb.ValidateSessionResponseSchema, {
      active,
      status,
      deviceId,
      renewRecommended: active && this.renew,
      ...(active && {
        session: {
          userId,
          deviceId,
          sessionId: "0".repeat(32),
          generation: 1,
          signInTime,
          tokenExpireTime,
          expireTime,
        },
      }),
    });
  }

  async *watch(
    request: pb.WatchEventsRequest,
    call: ServedCall,
  ): AsyncGenerator<pb.WatchEventsResponse, void> {
    this.#note(request, call);
    if (this.watchRefusal !== undefined) throw this.watchRefusal;
    this.watches += 1;
    const epoch = this.#epoch;
    let told = this.#events.length;
    while (!call.signal.aborted) {
      await this.flow.passed();
      if (epoch !== this.#epoch) throw new Refusal("UNAVAILABLE", "cut");
      const events = this.#events.slice(told);
      told = this.#events.length;
      const readUptime = duration(performance.now());
      yield create(pb.WatchEventsResponseSchema, { events, cursor: String(told), readUptime });
      if (this.#events.length === told && epoch === this.#epoch) await this.#newsOrProof();
    }
  }

  async #newsOrProof(): Promise<void> {
    await new Promise<void>((resolve) => {
      const tell = () => {
        clearTimeout(timer);
        this.#news.delete(tell);
        resolve();
      };
      const timer = setTimeout(tell, PROOF_MS);
      this.#news.add(tell);
    });
  }
}

/** Returns an act that answers with this message. */
export function answers(message: Message): Act {
  return () => message;
}

/** Returns an act that fails with this refusal. */
export function refuses(refusal: Refusal): Act {
  return () => {
    throw refusal;
  };
}

/** Waits until a condition is true. Fails after 20 seconds. */
export async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error("it did not come true in time");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
