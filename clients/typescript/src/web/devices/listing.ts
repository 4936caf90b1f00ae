/** A user's devices in the order of the page, page by page. This module uses no request. */

import type { Device } from "../../types.js";

/** How many devices a page has. */
export const PAGE_SIZE = 50;
const MAX_ALARMS = 20;
/**
 * How long an alarm, and a device that is signed out, are shown. The service keeps alarms for the
 * same time.
 */
const MEMORY_MS = 28 * 24 * 60 * 60 * 1000;
/** The service writes a use of a session about once a minute, and a near cache may delay that. */
const ACTIVE_WITHIN_MS = 5 * 60 * 1000;
/** An event is written just after its cause, and the clocks of the store and the service differ. */
const EVENT_WITHIN_MS = 5000;
const EVENT_ID = /^evt_[A-Za-z0-9]{1,32}_([0-9]{13})_[0-9]{1,20}$/;
const CURSOR = /^([12])\.([0-9]{1,16})\.([0-9a-f-]{36})$/;

/** The error for a text that is no cursor of a list. */
export class BadCursor extends Error {}

/** A theft alarm. */
export interface Alarm {
  readonly deviceId: string;
  readonly at: Date;
  /**
   * The ID of the event that a mail was about, if this mail linked to the page and was about this
   * alarm. Else empty.
   */
  readonly eventId: string;
}

/**
 * A page of devices: this device first, then the devices that are signed in, then the devices that
 * were seen, or had an alarm, in the last 28 days. `alarms` are the newest 20 alarms about all
 * devices, the newest first. Only the first page has alarms.
 */
export interface Listing {
  readonly devices: readonly Device[];
  /** The cursor of the next page. Empty on the last page. */
  readonly nextCursor: string;
  readonly alarms: readonly Alarm[];
  /** The ID of the device whose sign-in a mail was about, or empty. */
  readonly marked: string;
  readonly now: Date;
}

/**
 * Returns a page of a user's devices. `after` is the `nextCursor` of the previous page, or empty.
 * `eventId` is the event that a mail was about, or empty. Throws BadCursor.
 */
export function listingOf(
  devices: readonly Device[],
  now: Date,
  { after = "", eventId = "" } = {},
): Listing {
  const shown = devices
    .filter((device) => isShown(device, now))
    .map((device) => ({ device, key: keyOf(device) }))
    .sort((one, other) => compare(one.key, other.key));
  const start = after === "" ? undefined : parsed(after);
  const rest = start === undefined ? shown : shown.filter(({ key }) => compare(key, start) > 0);
  const page = rest.slice(0, PAGE_SIZE).map(({ device }) => device);
  const last = page.at(-1);
  const all = shown.map(({ device }) => device);
  const alarms = alarmsOf(all, now, eventId);
  const told = alarms.some((alarm) => alarm.eventId !== "");
  return {
    devices: page,
    nextCursor: rest.length > PAGE_SIZE && last !== undefined ? cursorOf(last) : "",
    alarms: start === undefined ? alarms : [],
    marked: told ? "" : markedOf(all, eventId),
    now,
  };
}

/**
 * Returns the name that the user or the app gave. Returns an empty string if the service made the
 * name from the browser, the model and the system.
 */
export function nameOf(device: Device): string {
  const { browser, model, operatingSystem, displayName } = device;
  const on = [model, operatingSystem];
  const made = ["", "Unknown device", browser, ...on, ...on.map((it) => `${browser} on ${it}`)];
  return made.includes(displayName) ? "" : displayName;
}

/** Returns true if the device is in use: it shows this list, or was used in the last 5 minutes. */
export function isActiveNow(device: Device, now: Date): boolean {
  const seen = device.lastSeenTime;
  const recent = seen !== undefined && now.getTime() - seen.getTime() <= ACTIVE_WITHIN_MS;
  return device.signedIn && (device.current || recent);
}

/** Returns the last alarm about a device, as long as it is shown. */
export function alarmOf(device: Device, now: Date): Alarm | undefined {
  const at = device.lastAlarm?.createTime;
  if (at === undefined || now.getTime() - at.getTime() > MEMORY_MS) return undefined;
  return { deviceId: device.deviceId, at, eventId: "" };
}

type Key = readonly [group: number, seenMs: number, deviceId: string];

function isShown(device: Device, now: Date): boolean {
  const seen = device.lastSeenTime ?? device.signInTime;
  const recent = seen !== undefined && now.getTime() - seen.getTime() <= MEMORY_MS;
  return device.signedIn || recent || alarmOf(device, now) !== undefined;
}

function keyOf({ current, signedIn, lastSeenTime, deviceId }: Device): Key {
  return [current ? 0 : signedIn ? 1 : 2, lastSeenTime?.getTime() ?? 0, deviceId];
}

/** Compares two keys: by the group, then the newest first, then by the ID. */
function compare(one: Key, other: Key): number {
  return one[0] - other[0] || other[1] - one[1] || (one[2] < other[2] ? -1 : +(one[2] > other[2]));
}

function cursorOf(device: Device): string {
  const [group, seenMs, deviceId] = keyOf(device);
  // This device is the only one of its group, so a cursor after it starts with the next group.
  return `${Math.max(group, 1)}.${seenMs}.${deviceId}`;
}

function parsed(cursor: string): Key {
  const found = CURSOR.exec(cursor);
  if (!found) throw new BadCursor("no cursor of a list");
  return [Number(found[1]), Number(found[2]), found[3] ?? ""];
}

function alarmsOf(devices: readonly Device[], now: Date, eventId: string): Alarm[] {
  const happened = momentOf(eventId);
  return devices
    .flatMap((device) => alarmOf(device, now) ?? [])
    .sort((one, other) => other.at.getTime() - one.at.getTime())
    .slice(0, MAX_ALARMS)
    .map((alarm) => (isAbout(alarm.at, happened) ? { ...alarm, eventId } : alarm));
}

function markedOf(devices: readonly Device[], eventId: string): string {
  const happened = momentOf(eventId);
  if (happened === undefined) return "";
  const distance = ({ signInTime }: Device) => Math.abs((signInTime?.getTime() ?? 0) - happened);
  const near = devices.filter(({ signInTime }) => isAbout(signInTime, happened));
  near.sort(
    (one, other) => distance(one) - distance(other) || (one.deviceId < other.deviceId ? -1 : 1),
  );
  return near[0]?.deviceId ?? "";
}

/**
 * Returns the time in an event's ID, at which the event was written. Returns undefined for any
 * other text.
 */
function momentOf(eventId: string): number | undefined {
  const found = EVENT_ID.exec(eventId);
  return found ? Number(found[1]) : undefined;
}

function isAbout(at: Date | undefined, happened: number | undefined): boolean {
  if (at === undefined || happened === undefined) return false;
  return Math.abs(at.getTime() - happened) <= EVENT_WITHIN_MS;
}
