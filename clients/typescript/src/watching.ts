/**
 * Runs the watch of a near cache, and passes the watch's messages to the cache. The watch has a
 * connection of its own. When a watch ends, a new watch is started.
 *
 * When a watch breaks, the cache drops all its answers. So a new watch needs no cursor, and starts
 * at the present moment. A watch that sends no proof for longer than `maxSilenceMs` counts as
 * broken. After a watch has ended, the cache is off until the next watch sends a proof. The log
 * says when the cache goes off and when it goes on again.
 */

import { create } from "@bufbuild/protobuf";

import type { NearCache } from "./cache.js";
import { MAX_TOKEN_WAIT_MS, within } from "./calls.js";
import { SessionAuthorityError } from "./errors.js";
import { codeOf, errorOfStatus } from "./failures.js";
import {
  SessionAuthorityService,
  WatchEventsRequestSchema,
} from "./gen/session_authority/v1/session_authority_pb.js";
import type { OpenSessions } from "./open_sessions.js";
import { callHeaders, type CallerToken, type Transport, TransportError } from "./transport.js";

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5_000;

/** The parts of a client that `CacheWatch` uses. */
export interface WatchParts {
  readonly cache: NearCache;
  readonly sessions: OpenSessions;
  readonly open: () => Transport;
  readonly token: CallerToken | undefined;
  readonly log: (message: string) => void;
}

/** Runs the watch of one near cache, and starts a new watch when a watch ends. */
export class CacheWatch {
  readonly #parts: WatchParts;
  readonly #closing = new AbortController();
  #transport: Transport | undefined;
  #wake: (() => void) | undefined;
  #pauseMs = FIRST_PAUSE_MS;
  #logged = "";

  constructor(parts: WatchParts) {
    this.#parts = parts;
  }

  /** Starts the watch. Does nothing if the watch was started before, or was closed. */
  start(): void {
    if (this.#transport !== undefined || this.#closing.signal.aborted) return;
    this.#transport = this.#parts.open();
    void this.#keepWatching(this.#transport);
  }

  /** Ends the watch, and drops all answers of the cache. */
  close(): void {
    this.#closing.abort();
    this.#wake?.();
    this.#transport?.close();
    this.#parts.cache.lost();
  }

  async #keepWatching(transport: Transport): Promise<void> {
    const { cache, sessions } = this.#parts;
    while (!this.#isClosed()) {
      let error: unknown;
      try {
        await this.#watch(transport);
      } catch (caught) {
        error = caught;
      }
      const left = cache.silenceLeftMs();
      const historyGone = error instanceof SessionAuthorityError && error.kind === "cursor_expired";
      cache.lost({ historyGone });
      if (this.#isClosed()) return;
      sessions.lost(left);
      await this.#pause(this.#nextPauseMs(error));
    }
  }

  async #watch(transport: Transport): Promise<void> {
    const { cache, sessions, token } = this.#parts;
    const headers = await within(callHeaders(token), MAX_TOKEN_WAIT_MS, this.#closing.signal);
    const ending = new AbortController();
    let silent = false;
    let idle: NodeJS.Timeout | undefined;
    const limitSilence = () => {
      clearTimeout(idle);
      idle = setTimeout(() => {
        silent = true;
        ending.abort();
      }, cache.silenceLeftMs());
    };
    cache.begin();
    limitSilence();
    const request = create(WatchEventsRequestSchema);
    const options = { headers, signal: ending.signal };
    try {
      const method = SessionAuthorityService.method.watchEvents;
      for await (const message of transport.stream(method, request, options)) {
        cache.tell(message);
        sessions.tell(message);
        limitSilence();
        this.#works();
      }
    } catch (error) {
      if (silent) throw new SilentWatch();
      if (!(error instanceof TransportError)) throw error;
      throw errorOfStatus(codeOf(error.code), error.message, error.details);
    } finally {
      clearTimeout(idle);
      ending.abort();
    }
    if (silent) throw new SilentWatch();
  }

  #works(): void {
    this.#pauseMs = FIRST_PAUSE_MS;
    if (this.#logged === "") return;
    this.#logged = "";
    this.#parts.log("the near cache is on again");
  }

  /**
   * Returns how many milliseconds to wait before the next watch. Logs why the last watch ended,
   * unless the last log line gave the same reason. The pause is partly random, so that clients that
   * lost the same server don't all reconnect at the same moment.
   */
  #nextPauseMs(error: unknown): number {
    const why = reasonOf(error);
    if (why !== this.#logged) {
      this.#logged = why;
      this.#parts.log(`the near cache is off until it can watch again: ${why}`);
    }
    if (
      error instanceof SessionAuthorityError &&
      (error.kind === "caller_not_allowed" || error.kind === "caller_unknown")
    ) {
      this.#pauseMs = MAX_PAUSE_MS;
    }
    const pause = this.#pauseMs * (0.5 + Math.random());
    this.#pauseMs = Math.min(this.#pauseMs * 2, MAX_PAUSE_MS);
    return pause;
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }

  #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }
}

class SilentWatch extends Error {}

function reasonOf(error: unknown): string {
  if (error === undefined) return "the watch was ended";
  if (error instanceof SilentWatch) {
    return "the watch proved nothing for too long, or clocks ran apart";
  }
  if (error instanceof SessionAuthorityError) return `${error.kind}: ${error.message}`;
  return error instanceof Error ? error.constructor.name : typeof error;
}
