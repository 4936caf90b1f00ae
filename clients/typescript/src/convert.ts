/** Converts between the protobuf messages of the contract and the values of this package. */

import { create } from "@bufbuild/protobuf";
import {
  type Duration,
  DurationSchema,
  type Timestamp,
  TimestampSchema,
} from "@bufbuild/protobuf/wkt";

import { inspect } from "node:util";

import { presented } from "./arguments.js";
import * as pb from "./gen/session_authority/v1/session_authority_pb.js";
import type * as t from "./types.js";

const UNSPECIFIED = "UNSPECIFIED";

/** Converts a timestamp to a Date. Fractions of a millisecond are cut off. */
export function moment(stamp: Timestamp): Date {
  return new Date(Math.floor(timestampMs(stamp)));
}

/** Converts a timestamp to milliseconds since 1970, with fractions. */
export function timestampMs(stamp: Timestamp): number {
  return Number(stamp.seconds) * 1000 + stamp.nanos / 1e6;
}

/** Converts a Date to a timestamp. */
export function timestamp(value: Date): Timestamp {
  const seconds = Math.floor(value.getTime() / 1000);
  const nanos = (value.getTime() - seconds * 1000) * 1e6;
  return create(TimestampSchema, { seconds: BigInt(seconds), nanos });
}

/** Converts milliseconds to a Duration message. */
export function duration(ms: number): Duration {
  const seconds = Math.trunc(ms / 1000);
  return create(DurationSchema, {
    seconds: BigInt(seconds),
    nanos: Math.round((ms - seconds * 1000) * 1e6),
  });
}

/** Converts a Duration message to milliseconds, with fractions. */
export function milliseconds(length: Duration): number {
  return Number(length.seconds) * 1000 + length.nanos / 1e6;
}

function maybe(stamp: Timestamp | undefined): Date | undefined {
  return stamp === undefined ? undefined : moment(stamp);
}

/**
 * Returns the name that an enum has for a number, or `UNSPECIFIED` if this version does not know
 * the number.
 */
function nameOf<Name extends string>(
  names: Readonly<Record<number, string>> & Partial<Record<Name, number>>,
  number: number,
): Name {
  return (names[number] ?? UNSPECIFIED) as Name;
}

/**
 * Converts the facts about an end user's browser or app to a message. Returns undefined if `client`
 * is undefined. Throws TypeError for a value of the wrong type.
 */
export function clientMessage(client: t.ClientInfo | undefined): pb.ClientInfo | undefined {
  if (client === undefined) return undefined;
  if (typeof client !== "object" || client === null) {
    throw new TypeError("client: an object with the fields of ClientInfo");
  }
  const { clientHints: hints, place } = client;
  const of = (name: string, value: string | undefined) => presented(`client.${name}`, value ?? "");
  return create(pb.ClientInfoSchema, {
    ipAddress: of("ipAddress", client.ipAddress),
    userAgent: of("userAgent", client.userAgent),
    displayName: of("displayName", client.displayName),
    appVersion: of("appVersion", client.appVersion),
    ...(hints && { clientHints: hintsMessage(hints) }),
    ...(place && {
      place: {
        city: of("place.city", place.city),
        countryCode: of("place.countryCode", place.countryCode),
      },
    }),
  });
}

function hintsMessage(hints: t.ClientHints): pb.ClientHints {
  const of = (value: string | undefined) => presented("client.clientHints", value ?? "");
  return create(pb.ClientHintsSchema, {
    brands: (hints.brands ?? []).map(({ name, version }) => ({
      name: of(name),
      version: of(version),
    })),
    platform: of(hints.platform),
    platformVersion: of(hints.platformVersion),
    model: of(hints.model),
    formFactors: (hints.formFactors ?? []).map(of),
    ...(hints.mobile !== undefined && { mobile: hints.mobile }),
  });
}

function client(message: pb.ClientInfo | undefined): t.ClientInfo {
  const hints = message?.clientHints;
  const place = message?.place;
  return {
    ipAddress: message?.ipAddress ?? "",
    userAgent: message?.userAgent ?? "",
    displayName: message?.displayName ?? "",
    appVersion: message?.appVersion ?? "",
    ...(hints && { clientHints: clientHints(hints) }),
    ...(place && { place: { city: place.city, countryCode: place.countryCode } }),
  };
}

function clientHints(message: pb.ClientHints): t.ClientHints {
  return {
    brands: message.brands.map(({ name, version }) => ({ name, version })),
    platform: message.platform,
    platformVersion: message.platformVersion,
    model: message.model,
    formFactors: message.formFactors,
    ...(message.mobile !== undefined && { mobile: message.mobile }),
  };
}

/**
 * Converts a message to a device. If there is no message, all fields of the device have their
 * default values.
 */
export function device(message: pb.Device | undefined): t.Device {
  const found = message ?? create(pb.DeviceSchema);
  return {
    deviceId: found.deviceId,
    displayName: found.displayName,
    operatingSystem: found.operatingSystem,
    browser: found.browser,
    formFactor: nameOf(pb.FormFactor, found.formFactor),
    lastClient: client(found.lastClient),
    sessionId: found.sessionId,
    createTime: maybe(found.createTime),
    signInTime: maybe(found.signInTime),
    lastSeenTime: maybe(found.lastSeenTime),
    expireTime: maybe(found.expireTime),
    absoluteExpireTime: maybe(found.absoluteExpireTime),
    current: found.current,
    signedIn: found.signedIn,
    model: found.model,
    city: found.city,
    countryCode: found.countryCode,
    authMethods: found.authMethods,
    lastAlarm: found.lastAlarm && {
      createTime: maybe(found.lastAlarm.createTime) ?? new Date(0),
      replayCause: nameOf(pb.ReplayCause, found.lastAlarm.replayCause),
    },
  };
}

function session(message: pb.Session): t.Session {
  return Object.freeze({
    userId: message.userId,
    deviceId: message.deviceId,
    sessionId: message.sessionId,
    generation: message.generation,
    claims: Object.freeze({ ...message.claims }),
    authMethods: Object.freeze(message.authMethods),
    signInTime: maybe(message.signInTime) ?? new Date(0),
    tokenExpireTime: maybe(message.tokenExpireTime) ?? new Date(0),
    expireTime: maybe(message.expireTime) ?? new Date(0),
    absoluteExpireTime: maybe(message.absoluteExpireTime),
  });
}

/**
 * Keeps the access token of an answer out of logs. `console.log` then prints "(not printed)" in
 * place of the token.
 */
function unprinted<Answer extends { readonly accessToken: string | undefined }>(
  answer: Answer,
): Answer {
  const print = () => ({ ...answer, accessToken: answer.accessToken && "(not printed)" });
  return Object.defineProperty(answer, inspect.custom, { value: print });
}

/** Converts the response of IssueDevice to the result of a sign-in. */
export function issuedDevice(message: pb.IssueDeviceResponse): t.IssuedDevice {
  return unprinted({
    device: device(message.device),
    accessToken: message.accessToken,
    tokenExpireTime: maybe(message.tokenExpireTime) ?? new Date(0),
    deviceIdAssigned: message.deviceIdAssigned,
    newDevice: message.newDevice,
    evictedDevices: message.evictedDevices.map(device),
    durability: nameOf(pb.Durability, message.durability),
  });
}

/**
 * Converts the response of ValidateSession to a validation. The validation is active only if the
 * message has `active`, the status `ACTIVE` and a session.
 */
export function validation(message: pb.ValidateSessionResponse): t.Validation {
  const rest = {
    deviceId: message.deviceId,
    deviceIdAssigned: message.deviceIdAssigned,
    renewRecommended: message.renewRecommended,
    revokedDevices: message.revokedDevices,
  };
  const status = nameOf(pb.SessionStatus, message.status);
  if (message.active && status === "ACTIVE" && message.session !== undefined) {
    return Object.freeze({ active: true, status, session: session(message.session), ...rest });
  }
  return Object.freeze({ active: false, status, session: undefined, ...rest });
}

/**
 * Converts the response of RenewSession to a renewal. The renewal is active only if the message has
 * the status `ACTIVE` and a session. A renewal that is not active has no session.
 */
export function renewal(message: pb.RenewSessionResponse): t.Renewal {
  const status = nameOf(pb.SessionStatus, message.status);
  const good = status === "ACTIVE" && message.session !== undefined;
  return unprinted({
    active: good,
    status,
    session: good && message.session !== undefined ? session(message.session) : undefined,
    rotated: message.rotated,
    accessToken: message.accessToken === "" ? undefined : message.accessToken,
    tokenExpireTime: maybe(message.tokenExpireTime),
    revokedDevices: message.revokedDevices,
    durability: nameOf(pb.Durability, message.durability),
  });
}

/** Converts a message to the state of a session. */
export function sessionState(message: pb.SessionState): t.SessionState {
  const status = nameOf(pb.SessionStatus, message.status);
  return {
    active: status === "ACTIVE",
    status,
    expireTime: maybe(message.expireTime),
    absoluteExpireTime: maybe(message.absoluteExpireTime),
  };
}

/** Converts the response of ListDevices to a page of devices. */
export function devicePage(message: pb.ListDevicesResponse): t.DevicePage {
  return {
    devices: message.devices.map(device),
    nextPageToken: message.nextPageToken,
    totalSize: message.totalSize,
  };
}

/** Converts the response of GetSigningKeys to the public keys. */
export function signingKeys(message: pb.GetSigningKeysResponse): t.SigningKeys {
  const keys = message.keys.map(({ keyId, algorithm, jwkJson }) => ({ keyId, algorithm, jwkJson }));
  return { keys, jwksJson: message.jwksJson };
}

/** The names of all types of events that this version knows, and `UNSPECIFIED`. */
export const EVENT_TYPES: readonly string[] = Object.keys(pb.EventType).filter((name) =>
  Number.isNaN(Number(name)),
);

/** Converts the name of a type of events to its number. */
export function eventType(name: t.EventType): pb.EventType {
  return pb.EventType[name];
}

/** Converts one message of a watch to a batch of events. */
export function eventBatch(message: pb.WatchEventsResponse): t.EventBatch {
  return {
    events: message.events.map(event),
    cursor: message.cursor,
    readTime: maybe(message.readTime),
    readUptimeMs: message.readUptime && milliseconds(message.readUptime),
  };
}

function event(message: pb.Event): t.Event {
  const shown = message.client;
  return {
    eventId: message.eventId,
    type: nameOf(pb.EventType, message.type),
    createTime: maybe(message.createTime) ?? new Date(0),
    userId: message.userId,
    sessionId: message.sessionId,
    actor: message.actor,
    reason: message.reason,
    deviceId: message.device?.deviceId ?? "",
    deviceDisplayName: message.device?.displayName ?? "",
    client: client(shown?.info),
    operatingSystem: shown?.operatingSystem ?? "",
    browser: shown?.browser ?? "",
    formFactor: nameOf(pb.FormFactor, shown?.formFactor ?? 0),
    model: shown?.model ?? "",
    city: shown?.city ?? "",
    countryCode: shown?.countryCode ?? "",
    newDevice: message.newDevice,
    firstDevice: message.firstDevice,
    replayCause: nameOf(pb.ReplayCause, message.replayCause),
    replayAction: nameOf(pb.ReplayAction, message.replayAction),
    exceptDeviceId: message.exceptDeviceId,
    keyId: message.keyId,
  };
}
