/**
 * Converts devices and alarms to values for the JSON of the API. The file `openapi.json` describes
 * this JSON.
 */

import type { Device, FormFactor } from "../../types.js";
import { type Alarm, alarmOf, isActiveNow, type Listing, nameOf } from "./listing.js";

const KINDS: Readonly<Record<FormFactor, string>> = {
  UNSPECIFIED: "other",
  DESKTOP: "desktop",
  PHONE: "phone",
  TABLET: "tablet",
  TV: "tv",
  CONSOLE: "console",
  WEARABLE: "watch",
  BOT: "bot",
};

/** Returns the API's value for one page of a list of devices. */
export function listJson(listing: Listing, secureAccountUrl: string | null) {
  return {
    devices: listing.devices.map((device) => deviceJson(device, listing.now)),
    next: listing.nextCursor || null,
    marked: listing.marked || null,
    alarms: listing.alarms.map(alarmJson),
    now: timeText(listing.now),
    secure_account_url: secureAccountUrl,
  };
}

/** Returns the API's value for a device. */
export function deviceJson(device: Device, now: Date) {
  const alarm = alarmOf(device, now);
  const place = { city: device.city || null, country_code: device.countryCode || null };
  return {
    id: device.deviceId,
    current: device.current,
    signed_in: device.signedIn,
    name: nameOf(device) || null,
    kind: KINDS[device.formFactor],
    browser: known(device.browser),
    system: known(device.operatingSystem),
    model: known(device.model),
    address: known(device.lastClient.ipAddress),
    place: place.city === null && place.country_code === null ? null : place,
    auth_methods: [...device.authMethods],
    signed_in_at: maybe(device.signInTime),
    last_active_at: maybe(device.lastSeenTime),
    active_now: isActiveNow(device, now),
    ends_at: device.signedIn ? maybe(device.expireTime) : null,
    // The service does not say when a session ended.
    signed_out_at: null,
    alarm: alarm === undefined ? null : alarmJson(alarm),
  };
}

function alarmJson(alarm: Alarm) {
  return {
    event_id: alarm.eventId || null,
    device_id: alarm.deviceId,
    kind: "token_replayed",
    at: timeText(alarm.at),
  };
}

function known(text: string | undefined): string | null {
  return text === undefined || text === "" ? null : text;
}

/** Returns a time in the form of RFC 3339, in UTC and to the second. */
function timeText(moment: Date): string {
  return `${moment.toISOString().slice(0, 19)}Z`;
}

function maybe(moment: Date | undefined): string | null {
  return moment === undefined ? null : timeText(moment);
}
