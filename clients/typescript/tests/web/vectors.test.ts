/** Tests the pure decisions of the web part, by the cases that all clients share. */

import { Cookies } from "../../src/web/cookies.js";
import { Flow } from "../../src/web/flow.js";
import { localPath, nextIn, withNext } from "../../src/web/local_paths.js";
import { normalOrigin } from "../../src/web/origins.js";
import { type Presented, wayBack } from "../../src/web/presented.js";
import { CrossOrigin, Refused } from "../../src/web/responses.js";
import { testVectors, type Vector, type VectorSettings } from "../vectors.js";
import { headerLists, optionsOf } from "./flow_options.js";

testVectors("presented", ({ given }, settings) => {
  const { request } = given;
  const flow = new Flow(optionsOf(settings));
  try {
    const headers = headerLists(request.headers);
    return { refusal: null, presented: told(flow.presented({ ...request, headers })) };
  } catch (error) {
    if (error instanceof Refused) return { refusal: error.code, presented: null };
    throw error;
  }
});

function told(presented: Presented) {
  return {
    client: presented.app ? "app" : "browser",
    token: presented.token,
    token_status: presented.status ?? null,
    device_id: presented.deviceId,
    brief_session_id: presented.brief,
    wants_page: presented.page,
    passive: presented.passive,
    return_path: wayBack(presented),
    ip_address: presented.client.ipAddress,
    user_agent: presented.client.userAgent,
  };
}

testVectors("cookies", (vector, settings) => {
  const { given } = vector;
  switch (given.operation) {
    case "configure":
      return { error: faultOf(settings) };
    case "hand_out":
      return handOut(vector, settings);
  }
  const cookies = new Cookies(optionsOf(settings).cookies);
  switch (given.operation) {
    case "read": {
      const { token, deviceId, brief } = cookies.read(given.cookie_headers);
      return { token, device_id: deviceId, brief_session_id: brief };
    }
    case "take_back":
      return { set_cookie: cookies.takeBack({ device: given.device, brief: given.brief }) };
    case "owns":
      return { owns: cookies.isSetBy(given.set_cookie) };
    default:
      throw new Error(`no such operation: ${given.operation}`);
  }
});

function handOut({ given }: Vector, settings: VectorSettings) {
  try {
    const lines = new Cookies(optionsOf(settings).cookies).handOut({
      token: given.token,
      deviceId: given.device_id,
      brief: given.brief_session_id,
      now: new Date(given.now * 1000),
      end: new Date(given.end * 1000),
    });
    return { set_cookie: lines, error: null };
  } catch (error) {
    const isLong = String(error).includes("longer than browsers keep");
    return { set_cookie: [], error: isLong ? "too_long" : "bad_value" };
  }
}

const SETTINGS: Readonly<Record<string, string>> = {
  token: "token_cookie",
  device: "device_cookie",
  sameSite: "same_site",
  deviceSameSite: "device_same_site",
  trustedOrigins: "trusted_origins",
  trustedProxies: "trusted_proxies",
};

function faultOf(settings: VectorSettings): string | null {
  try {
    new Flow(optionsOf(settings));
    return null;
  } catch (error) {
    const option = /(\w+):/.exec((error as Error).message)?.[1] ?? "";
    return SETTINGS[option] ?? option;
  }
}

testVectors("origins", ({ given }, settings) => {
  switch (given.operation) {
    case "request":
      return { refused: isRefused(given.request, settings) };
    case "normalize":
      return { origin: normalOrigin(given.origin) ?? null };
    case "configure":
      return { error: faultOf(settings) };
    default:
      throw new Error(`no such operation: ${given.operation}`);
  }
});

function isRefused({ method, headers }: Vector["given"], settings: VectorSettings): boolean {
  const request = { method, headers: headerLists(headers), peer: "192.0.2.1", target: "/" };
  try {
    new Flow(optionsOf(settings)).presented(request);
    return false;
  } catch (error) {
    if (error instanceof CrossOrigin) return true;
    throw error;
  }
}

testVectors("next_paths", ({ given }) => {
  switch (given.operation) {
    case "local_path":
      return { path: localPath(given.text, given.default) };
    case "next_in":
      return { path: nextIn(given.target, given.default) };
    case "sign_in_location":
      return { location: withNext(given.sign_in_url, given.return_path) };
    default:
      throw new Error(`no such operation: ${given.operation}`);
  }
});

testVectors("addresses", ({ given }, settings) => {
  if (given.operation === "configure") return { error: faultOf(settings) };
  const { proxies } = new Flow(optionsOf(settings)).settings;
  const headers = headerLists(given.headers);
  return {
    ip_address: proxies.address(headers, given.peer),
    secure: proxies.isSecure(headers, given.peer, given.scheme),
  };
});
