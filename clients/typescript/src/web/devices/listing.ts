/** Sorts a user's devices for the page of devices, and cuts the list into pages. */

import type { Device } from "../../types.js";

/** The highest number of devices on a page of the list. */
export const PAGE_SIZE = 50;
const MAX_ALARMS = 20;
/**
 * The time for which the list shows an alarm, or a device on which the user is signed out. The
 * service keeps alarms for the same time.
 */
const MEMORY_MS = 28 * 24 * 60 * 60 * 1000;
/**
 * A device counts as active for this time after its last use. The service writes a use of a session
 * about once a minute, and a near cache may delay the write.
 */
const ACTIVE_WITHIN_MS = 5 * 60 * 1000;
/**
 * An event belongs to a sign-in or an alarm if their times differ by this much or less. The service
 * writes an event just after its cause, and the clocks of Redis and the service differ.
 */
const EVENT_WITHIN_MS = 5000;
const EVENT_ID = /^evt_[A-Za-z0-9]{1,32}_([0-9]{13})_[0-9]{1,20}$/;
const CURSOR = /^([12])\.([0-9]{1,16})\.([0-9a-f-]{36})$/;

/** The error for a text that is no cursor of a list. */
export class BadCursor extends Error {}

/** An alarm which says that a token of a device was possibly stolen. */
export interface Alarm {
  readonly deviceId: string;
  readonly at: Date;
  /**
   * The ID of the event about this alarm, if the user came to the page by the link in a mail about
   * this event. Else empty.
   */
  readonly eventId: string;
}

/**
 * One page of the list of devices. The list begins with the device of the request. The other
 * devices on which the user is signed in follow. The last devices of the list were seen, or had an
 * alarm, in the last 28 days. `alarms` are the newest 20 alarms about all devices, the newest
 * first. Only the first page has alarms.
 */
export interface Listing {
  readonly devices: readonly Device[];
  /** The cursor of the next page. Empty on the last page. */
  readonly nextCursor: string;
  readonly alarms: readonly Alarm[];
  /**
   * The ID of the device with the sign-in that a mail reported, if the user came to the page by the
   * link in this mail. Else empty.
   */
  readonly marked: string;
  readonly now: Date;
}

/**
 * Returns one page of the list of a user's devices. `after` is the `nextCursor` of the previous
 * page, or empty for the first page. `eventId` is the ID of the event in the link of a mail, or
 * empty. Throws BadCursor if `after` is no cursor.
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
 * Returns the name that the user or the app gave the device. Returns an empty string if the service
 * made the name from the device's browser, model and system.
 */
export function nameOf(device: Device): string {
  const { browser, model, operatingSystem, displayName } = device;
  const on = [model, operatingSystem];
  const made = ["", "Unknown device", browser, ...on, ...on.map((it) => `${browser} on ${it}`)];
  return made.includes(displayName) ? "" : displayName;
}

/**
 * Returns true if the user is signed in on the device, and the device shows this list or was used
 * in the last 5 minutes.
 */
export function isActiveNow(device: Device, now: Date): boolean {
  const seen = device.lastSeenTime;
  const recent = seen !== undefined && now.getTime() - seen.getTime() <= ACTIVE_WITHIN_MS;
  return device.signedIn && (device.current || recent);
}

/**
 * Returns the last alarm about a device. Returns undefined if the device had no alarm in the last
 * 28 days.
 */
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

/**
 * Compares two keys of the list's order: by the group, then by the time (the newest first), then by
 * the device ID.
 */
function compare(one: Key, other: Key): number {
  return one[0] - other[0] || other[1] - one[1] || (one[2] < other[2] ? -1 : +(one[2] > other[2]));
}

function cursorOf(device: Device): string {
  const [group, seenMs, deviceId] = keyOf(device);
  // The device of the request, in group 0, is always the first of the list, and never the last of a
  // full page. A cursor needs only the groups 1 and 2.
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
 * Returns the time in an event's ID, in milliseconds since 1970. The event was written at this
 * time. Returns undefined if the text is no event ID.
 */
function momentOf(eventId: string): number | undefined {
  const found = EVENT_ID.exec(eventId);
  return found ? Number(found[1]) : undefined;
}

function isAbout(at: Date | undefined, happened: number | undefined): boolean {
  if (at === undefined || happened === undefined) return false;
  return Math.abs(at.getTime() - happened) <= EVENT_WITHIN_MS;
}
