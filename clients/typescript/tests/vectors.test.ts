/** Tests the decisions of the client's core, by the cases that all clients share. */

import { create, fromBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { test } from "node:test";

import { duration, timestamp } from "../src/convert.js";
import type { ErrorKind, SessionAuthorityError, StatusCode } from "../src/errors.js";
import { errorOfItem, errorOfStatus, readDetails } from "../src/failures.js";
import * as pb from "../src/gen/session_authority/v1/session_authority_pb.js";
import {
  NearCache,
  type SessionStatus,
  type Validation,
  verifyWebhook,
} from "../src/index.js";
import type { Ticket } from "../src/cache.js";
import { webhookHeaders } from "../src/testing.js";
import { isFile, skips, testVectors, type Vector } from "./vectors.js";

test("each skip names a file of vectors", () => {
  for (const id of Object.keys(skips())) assert(isFile(id.split("/")[0] ?? ""), id);
});

// --- errors -------------------------------------------------------------------------------------

type FailedCall =
  | { form: "status"; code: StatusCode; message: string; details_base64: string | null }
  | { form: "batch_item"; item_base64: string };

const KINDS: readonly ErrorKind[] = ["unavailable", "invalid_request"];

function errorOf(given: FailedCall): SessionAuthorityError {
  if (given.form === "batch_item") {
    const bytes = Buffer.from(given.item_base64, "base64");
    return errorOfItem(fromBinary(pb.RequestErrorSchema, bytes));
  }
  const trailer = given.details_base64;
  const details = trailer === null ? [] : readDetails(Buffer.from(trailer, "base64"));
  return errorOfStatus(given.code, given.message, details);
}

testVectors("errors", ({ given }: Vector<FailedCall>) => {
  const error = errorOf(given);
  return {
    kind: error.kind,
    also: KINDS.filter((kind) => kind !== error.kind && error.is(kind)),
    code: error.code,
    reason: error.reason,
    message: error.message,
    retriable: error.retriable,
    retry_after_seconds: error.retryAfterMs === undefined ? null : error.retryAfterMs / 1000,
    violations: error.violations,
    metadata: { ...error.metadata },
  };
});

// --- the near cache -----------------------------------------------------------------------------

interface Answer {
  status: SessionStatus;
  active: boolean;
  renew_recommended: boolean;
  session: {
    user_id: string;
    session_id: string;
    token_expires_at: number;
    expires_at: number;
  } | null;
}

interface Step {
  at: number;
  wall: number;
  do: string;
  as?: string;
  events?: { type: keyof typeof pb.EventType | number; user_id?: string }[];
  read_uptime?: number | null;
  read_time?: number | null;
  history_gone?: boolean;
  ticket?: string;
  token?: string;
  device_id?: string;
  user_id?: string;
  answer?: Answer;
}

interface History {
  settings: { max_entries: number; max_age_seconds: number; max_silence_seconds: number };
  steps: Step[];
}

function answerOf({ status, active, renew_recommended: renew, session }: Answer): Validation {
  const rest = { deviceId: "", deviceIdAssigned: false, revokedDevices: 0 };
  if (!active || session === null) {
    return { active: false, status, session: undefined, renewRecommended: renew, ...rest };
  }
  const at = (seconds: number) => new Date(seconds * 1000);
  return {
    active,
    status: status as "ACTIVE",
    renewRecommended: renew,
    ...rest,
    session: {
      userId: session.user_id,
      sessionId: session.session_id,
      deviceId: "",
      generation: 1,
      claims: {},
      authMethods: [],
      signInTime: at(0),
      tokenExpireTime: at(session.token_expires_at),
      expireTime: at(session.expires_at),
      absoluteExpireTime: undefined,
    },
  };
}

function messageOf({ events = [], read_uptime: uptime, read_time: time }: Step) {
  return create(pb.WatchEventsResponseSchema, {
    events: events.map(({ type, user_id: userId }) => ({
      type: typeof type === "number" ? type : pb.EventType[type],
      userId: userId ?? "",
    })),
    ...(typeof uptime === "number" && { readUptime: duration(uptime * 1000) }),
    ...(typeof time === "number" && { readTime: timestamp(new Date(time * 1000)) }),
  });
}

testVectors("cache", ({ given: { settings, steps } }: Vector<History>) => {
  let [now, wall] = [0, 0];
  const cache = new NearCache({
    maxEntries: settings.max_entries,
    maxAgeMs: settings.max_age_seconds * 1000,
    maxSilenceMs: settings.max_silence_seconds * 1000,
    clocks: { now: () => now, wall: () => wall },
  });
  const tickets = new Map<string, Ticket>();
  const results: Record<string, boolean | number> = {};
  const play = (step: Step): boolean | number | undefined => {
    const { token = "", device_id: device = "", as = "" } = step;
    switch (step.do) {
      case "begin_watch":
        cache.begin();
        return;
      case "watch_message":
        cache.tell(messageOf(step));
        return;
      case "lose_watch":
        cache.lost({ historyGone: step.history_gone ?? false });
        return;
      case "take_ticket": {
        const ticket = cache.ticket();
        if (ticket !== undefined) tickets.set(as, ticket);
        return ticket !== undefined;
      }
      case "store": {
        const ticket = tickets.get(step.ticket ?? "");
        assert(ticket !== undefined && step.answer !== undefined);
        return cache.store(ticket, token, device, answerOf(step.answer));
      }
      case "get":
        return cache.get(token, device) !== undefined;
      case "discard":
        cache.discard(token, device);
        return;
      case "forget_user":
        cache.forgetUser(step.user_id ?? "");
        return;
      case "clear":
        cache.clear();
        return;
      case "seconds_left":
        return Math.round(cache.silenceLeftMs() * 1e6) / 1e9;
      default:
        throw new Error(`no such step: ${step.do}`);
    }
  };
  for (const step of steps) {
    [now, wall] = [step.at * 1000, step.wall * 1000];
    const result = play(step);
    if (step.as !== undefined && result !== undefined) results[step.as] = result;
  }
  const { live, entries, dropped } = cache.stats();
  return { results, live, entries, dropped };
});

// --- signatures ---------------------------------------------------------------------------------

type Signature =
  | {
      operation: "sign";
      secrets_base64: string[];
      event_id: string;
      now: number;
      body_base64: string;
    }
  | {
      operation: "verify";
      secret: string;
      now: number;
      tolerance_seconds: number;
      headers: Record<string, string>;
      body_base64: string;
    };

testVectors("signatures", ({ given }: Vector<Signature>) => {
  const body = Buffer.from(given.body_base64, "base64");
  const now = new Date(given.now * 1000);
  if (given.operation === "sign") {
    return { headers: webhookHeaders(given.secrets_base64, given.event_id, body, now) };
  }
  const { secret, headers, tolerance_seconds: seconds } = given;
  return { valid: verifyWebhook({ secret, headers, body, now, toleranceMs: seconds * 1000 }) };
});
