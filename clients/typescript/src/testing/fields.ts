/**
 * Checks the fields of requests as the real service with default settings does. A function whose
 * name starts with `of` returns the fields that break rules, and the rules that they break. The
 * result is an empty array if no rule is broken.
 */

import type { Duration } from "@bufbuild/protobuf/wkt";

import { milliseconds } from "../convert.js";
import { canonicalDeviceId } from "../device_ids.js";
import type { FieldViolation } from "../errors.js";
import type {
  ClientInfo,
  IssueDeviceRequest,
  SessionName,
} from "../gen/session_authority/v1/session_authority_pb.js";
import { DAY_MS, SESSION_TTL_MS } from "./rules.js";
import type { Claims } from "./state.js";

type Broken = FieldViolation[];

const SHORTEST_SESSION_MS = 1_000;
const SHORTEST_IDLE_MS = 2 * 60_000;
const IDLE_MS = 7 * DAY_MS;
/**
 * The limits of an idle timeout, which the service sends as metadata when it refuses an idle
 * timeout.
 */
export const IDLE_LIMITS = {
  min_seconds: String(SHORTEST_IDLE_MS / 1000),
  max_seconds: String(IDLE_MS / 1000),
};
const MAX_BATCH = 500;
const MAX_CLAIMS_BYTES = 1024;
const MAX_AUTH_METHODS = 8;
const MAX_USER_ID_LENGTH = 255;
const MAX_DISPLAY_NAME_LENGTH = 100;
const MAX_APP_VERSION_LENGTH = 64;
const MAX_CITY_LENGTH = 100;
const RESERVED_CLAIMS: ReadonlySet<string> = new Set(
  (
    "iss aud sub dk sid gen jti iat nbf exp auth_time amr acr azp act may_act cnf nonce client_id" +
    " typ scope roles groups entitlements permissions"
  ).split(" "),
);
const NAME = /^[A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;=%]{1,128}$/;
const NAME_RULE =
  "1 to 128 letters, digits or characters of a URI, like '_', '-', '.', ':', '/' or '#'";
const SESSION_ID = /^[0-9a-fA-F]{32}$/;
// Matches an invisible character: a control or format character, a separator that is no space, or a
// letter without a shape. Two format characters, `JOINERS`, are allowed, because Persian words and
// many emoji need them.
const UNSEEN =
  /[\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5\u180b-\u180d\u180f\p{C}\p{Zl}\p{Zp}]/u;
const UNSEEN_RULE =
  "must have no control or other unprintable characters, and no white space at the ends";
const JOINERS = /[\u200c\u200d]/g;

/** Returns the rules that a sign-in breaks. */
export function ofSignIn(request: IssueDeviceRequest): Broken {
  const broken = [...ofUserId(request.userId), ...ofClaims(request.claims)];
  const methods = request.authMethods;
  if (methods.length > MAX_AUTH_METHODS) {
    broken.push(rule("auth_methods", `must have at most ${String(MAX_AUTH_METHODS)} entries`));
  }
  methods.slice(0, MAX_AUTH_METHODS).forEach((method, index) => {
    if (!NAME.test(method)) {
      broken.push(rule(`auth_methods[${String(index)}]`, `must be ${NAME_RULE}`));
    }
  });
  broken.push(...ofTime("session_ttl", request.sessionTtl, SHORTEST_SESSION_MS, SESSION_TTL_MS));
  if (request.requestId !== "" && canonicalDeviceId(request.requestId) === "") {
    broken.push(rule("request_id", "must be a UUID"));
  }
  broken.push(...ofTime("idle_timeout", request.idleTimeout, SHORTEST_IDLE_MS, IDLE_MS));
  return broken;
}

/** Returns the rules that a user's claims break. */
export function ofClaims(claims: Claims): Broken {
  const names = Object.keys(claims);
  const broken: Broken = [];
  if (!names.every((name) => NAME.test(name))) {
    broken.push(rule("claims", `names must be ${NAME_RULE}`));
  }
  for (const name of names.filter((known) => RESERVED_CLAIMS.has(known)).sort()) {
    broken.push(rule(`claims.${name}`, "is a reserved name"));
  }
  if (Buffer.byteLength(JSON.stringify(claims)) > MAX_CLAIMS_BYTES) {
    broken.push(rule("claims", `must have at most ${String(MAX_CLAIMS_BYTES)} bytes as JSON`));
  }
  return broken;
}

function ofTime(
  name: string,
  asked: Duration | undefined,
  shortestMs: number,
  longestMs: number,
): Broken {
  if (asked === undefined) return [];
  const ms = milliseconds(asked);
  if (ms >= shortestMs && ms <= longestMs) return [];
  const [shortest, longest] = [String(shortestMs / 1000), String(longestMs / 1000)];
  return [rule(name, `must be from ${shortest} to ${longest} seconds`)];
}

/**
 * Returns the rule that a batch breaks if it has no entries or too many entries. `name` is the
 * field with the entries, and `size` is their number.
 */
export function ofBatch(size: number, name: string): Broken {
  if (size >= 1 && size <= MAX_BATCH) return [];
  return [rule(name, `must be 1 to ${String(MAX_BATCH)} ${name}, not ${String(size)}`)];
}

/** Returns the rules that the fields of a `SessionName` break. */
export function ofSessionName({ userId, deviceId, sessionId }: SessionName): Broken {
  const broken = [...ofUserId(userId), ...ofDeviceId(deviceId)];
  if (!SESSION_ID.test(sessionId)) broken.push(rule("session_id", "must be 32 hexadecimal digits"));
  return broken;
}

/** Returns the rule that a user ID breaks. */
export function ofUserId(value: string): Broken {
  if (value === "") return [rule("user_id", "must not be empty")];
  if (Array.from(value).length > MAX_USER_ID_LENGTH) {
    return [rule("user_id", `must have at most ${String(MAX_USER_ID_LENGTH)} characters`)];
  }
  const hidden = UNSEEN.test(value.replace(JOINERS, ""));
  const unseenEnd = /^[\s\u200c\u200d]|[\s\u200c\u200d]$/.test(value);
  if (!hidden && !unseenEnd && !/^\p{M}/u.test(value)) return [];
  return [rule("user_id", UNSEEN_RULE)];
}

/** Returns the rule that a device ID breaks. */
export function ofDeviceId(value: string): Broken {
  if (canonicalDeviceId(value) !== "") return [];
  return [rule("device_id", "must be a UUID, like 123e4567-e89b-42d3-a456-426614174000")];
}

/** Returns the rule that the display name of a device breaks. */
export function ofDisplayName(value: string): Broken {
  const shown = cleaned(value);
  if (Array.from(shown).length > MAX_DISPLAY_NAME_LENGTH) {
    const most = String(MAX_DISPLAY_NAME_LENGTH);
    return [rule("display_name", `must have at most ${most} characters`)];
  }
  if (shown !== "" || value.trim() === "") return [];
  return [rule("display_name", "must have a character that can be seen")];
}

/**
 * Returns a text in the form in which it is shown. White space between words becomes one space.
 * White space at the ends and invisible characters are removed.
 */
export function cleaned(value: string): string {
  const shown = Array.from(value).map((letter) => {
    if (/\s/u.test(letter)) return " ";
    return /[\p{C}\p{Z}]/u.test(letter) && !/[\u200c\u200d]/.test(letter) ? "" : letter;
  });
  return shown.join("").split(" ").filter(Boolean).join(" ");
}

/**
 * Returns the facts about an end user's browser or app in the form in which the service keeps them.
 * Invisible characters are removed. A display name, an app version or a city that is too long is
 * cut. A malformed country code becomes empty.
 */
export function shownClient(client: ClientInfo): ClientInfo {
  const { place } = client;
  const code = place?.countryCode.trim() ?? "";
  return {
    ...client,
    ipAddress: cleaned(client.ipAddress),
    userAgent: cleaned(client.userAgent),
    displayName: cut(client.displayName, MAX_DISPLAY_NAME_LENGTH),
    appVersion: cut(client.appVersion, MAX_APP_VERSION_LENGTH),
    ...(place && {
      place: {
        ...place,
        city: cut(place.city, MAX_CITY_LENGTH),
        countryCode: /^[A-Za-z]{2}$/.test(code) ? code.toUpperCase() : "",
      },
    }),
  };
}

function cut(value: string, most: number): string {
  return Array.from(cleaned(value)).slice(0, most).join("").trim();
}

function rule(field: string, description: string): FieldViolation {
  return { field, description };
}
