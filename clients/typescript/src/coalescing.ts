/**
 * Asks the service for the answers that the near cache does not have. Callers that validate the
 * same token from the same device at the same time share one request.
 *
 * A caller that joins an earlier request may get an answer that is as old as the request. So a
 * caller joins a request only if the cache is live and no event of any user came since the request
 * was sent. For example, a caller that comes after the event of a revocation does not join a
 * request from before this event.
 */

import type { BatchQueue } from "./batching.js";
import type { NearCache, Ticket } from "./cache.js";
import { type CallLimits, within } from "./calls.js";
import * as convert from "./convert.js";
import { SessionAuthorityError } from "./errors.js";
import { copyOf } from "./failures.js";
import type { ValidateSessionRequest } from "./gen/session_authority/v1/session_authority_pb.js";
import type { Validation } from "./types.js";

/**
 * Asks the service for the answers that the cache does not have. Callers with the same token and
 * device share one request.
 */
export class Coalescer {
  readonly #cache: NearCache;
  readonly #queue: BatchQueue;
  readonly #flights = new Map<string, Promise<Validation>>();

  constructor(cache: NearCache, queue: BatchQueue) {
    this.#cache = cache;
    this.#queue = queue;
  }

  /**
   * Returns the service's answer. Throws if the call fails, if the caller's timeout is over, or if
   * the caller's signal aborts.
   */
  async validate(request: ValidateSessionRequest, limits: CallLimits): Promise<Validation> {
    const { signal } = limits;
    const deadline = performance.now() + limits.timeoutMs;
    for (;;) {
      signal?.throwIfAborted();
      const timeoutMs = deadline - performance.now();
      const ticket = this.#cache.ticket();
      if (ticket === undefined) {
        return convert.validation(await this.#queue.validate(request, { timeoutMs, signal }));
      }
      const key = flightKey(request, ticket);
      const known = this.#flights.get(key);
      const flight = known ?? this.#begin(key, ticket, request, timeoutMs);
      try {
        return await within(flight, timeoutMs, signal);
      } catch (error) {
        // The shared request has the timeout of its first caller. A caller with a longer timeout
        // tries again.
        const again = known !== undefined && hadTooLittleTime(error);
        if (again && performance.now() < deadline) continue;
        throw copyOf(error);
      }
    }
  }

  /** Starts a request that callers share. The signal of one caller does not end the request. */
  #begin(
    key: string,
    ticket: Ticket,
    request: ValidateSessionRequest,
    timeoutMs: number,
  ): Promise<Validation> {
    const flight = this.#askAndStore(ticket, request, timeoutMs).finally(() => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    });
    this.#flights.set(key, flight);
    flight.catch(() => undefined); // all callers may have given up
    return flight;
  }

  async #askAndStore(
    ticket: Ticket,
    request: ValidateSessionRequest,
    timeoutMs: number,
  ): Promise<Validation> {
    const limits = { timeoutMs, signal: undefined };
    const answer = convert.validation(await this.#queue.validate(request, limits));
    this.#cache.store(ticket, request.accessToken, request.deviceId, answer);
    return answer;
  }
}

/**
 * Returns the key of a shared request. The key contains the number of events until now. So the key
 * changes with each event, and no caller joins a request from before the last event.
 */
function flightKey({ accessToken, deviceId }: ValidateSessionRequest, ticket: Ticket): string {
  return JSON.stringify([accessToken, deviceId, ticket.watch, ticket.events]);
}

/**
 * Returns true if a call failed only because its timeout was too short. A caller with a longer
 * timeout may try again. `DEADLINE_TOO_SHORT` is the reason with which the service refuses a call
 * that it can't answer in time.
 */
function hadTooLittleTime(error: unknown): boolean {
  return (
    error instanceof SessionAuthorityError &&
    error.unavailable &&
    (error.code === "DEADLINE_EXCEEDED" || error.reason === "DEADLINE_TOO_SHORT")
  );
}
