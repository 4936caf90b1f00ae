/** Serves the page of a user's devices at one path of the app, and its API below this path. */

import { SessionAuthorityError } from "../../errors.js";
import type { Device } from "../../types.js";
import { canonicalDeviceId } from "../device_ids.js";
import { type Headers, values } from "../headers.js";
import { localPath, withNext } from "../local_paths.js";
import { cut, unquote } from "../percent_encoding.js";
import { type Answer, SignInRequired } from "../responses.js";
import type { Visit } from "../visit.js";
import { asset, serveAsset, textOf } from "./assets.js";
import { apiAnswer, type Failure, failureAnswer, failureOf, STATUS } from "./failures.js";
import { listingOf } from "./listing.js";
import { devicesPage, problemPage } from "./page.js";
import { deviceJson, listJson } from "./representation.js";
import { BadRequest, checkType, type DevicesRequest, jsonText, queryOf } from "./requests.js";
import { type Route, routeOf } from "./routes.js";
import * as texts from "./texts.js";

const PATH = /^(?:\/[A-Za-z0-9._~-]+)+$/;
const PRINTABLE = /^[!-~]+$/;
/**
 * The number of devices that one call to the service requests. For nearly every user, one call
 * returns all devices.
 */
const DEVICES_IN_A_CALL = 1000;

/** The options of an app for its page of devices. */
export interface DevicesOptions {
  /**
   * The path of the page, as browsers see it. The API and the files are below this path. The app
   * needs no routes for these paths, because the middleware answers the requests. Default:
   * `/devices`.
   */
  readonly path?: string | undefined;
  /**
   * The app's own page on which a user sets a new password: a path or an https URL. Users who say
   * "That wasn't me" get a link to this page. If the option is a path, the link has `next` in its
   * query. After the user has changed the password, redirect the user to `visit.nextPath()`.
   * Default: none.
   */
  readonly secureAccountUrl?: string | undefined;
  /** The language of all texts, such as "de". Default: the request's `Accept-Language` decides. */
  readonly language?: string | undefined;
  /**
   * Texts that the app adds or changes, by language and key: `{ de: { title: "…" } }`. Default:
   * none.
   */
  readonly messages?: texts.OwnMessages | undefined;
}

/** Answers requests to the path of the page and below this path. */
export class DevicesMount {
  readonly path: string;
  readonly #language: string;
  readonly #messages: texts.OwnMessages;
  readonly #secureAccountUrl: string | null;
  #description: Answer | undefined;

  /** @throws TypeError that names the invalid option. */
  constructor(options: DevicesOptions = {}) {
    const { path = "/devices", secureAccountUrl, language = "", messages = {} } = options;
    const dots = path.split("/").some((segment) => /^\.+$/.test(segment));
    if (!PATH.test(path) || localPath(path, "") !== path || dots) {
      throw new TypeError(
        'devices.path: must be a path without a slash at its end, like "/devices"',
      );
    }
    texts.checkMessages(messages);
    this.path = path;
    this.#language = language;
    this.#messages = messages;
    this.#secureAccountUrl =
      secureAccountUrl === undefined ? null : withNext(checkedUrl(secureAccountUrl), path);
  }

  /**
   * Returns true if the path in `target` is the path of the page or a path below it. `target` is a
   * path with its query.
   */
  serves(target: string): boolean {
    if (target.includes("%")) {
      const path = unquote(cut(target, "?")[0]);
      return path === this.path || path.startsWith(`${this.path}/`);
    }
    if (!target.startsWith(this.path)) return false;
    const after = target[this.path.length];
    return after === undefined || after === "/" || after === "?";
  }

  /**
   * Returns the response to a request for a file, the texts or the description of the API, which
   * need no session. Returns undefined for all other requests. This method does not call the
   * service: in an outage, the call would delay the style sheet of the page that reports the
   * outage.
   */
  publicAnswer(request: Omit<DevicesRequest, "body">): Answer | undefined {
    const route = routeOf(this.path, request.method, request.target);
    if (!["openapi", "static", "messages"].includes(route.action ?? "")) return undefined;
    try {
      const query = queryOf(request);
      if (route.action === "openapi") return (this.#description ??= this.#described());
      if (route.action === "static") {
        const found = asset(route.name);
        if (found === undefined) throw new BadRequest("not_found");
        return serveAsset(found, query.get("v") ?? "");
      }
      return apiAnswer(200, this.#textsFor(request.headers, query.get("language")));
    } catch (error) {
      return this.#failed(request, route, error);
    }
  }

  /** Returns the response that refuses a request of a page of another origin. */
  foreignOrigin(request: Omit<DevicesRequest, "body">): Answer {
    const route = routeOf(this.path, request.method, request.target);
    return this.#failed(request, route, new BadRequest("foreign_origin"));
  }

  /** Resolves to the response to a request that needs a session, or that is refused. */
  async answer(visit: Visit, request: DevicesRequest): Promise<Answer> {
    const route = routeOf(this.path, request.method, request.target);
    try {
      if (route.action === undefined) throw new BadRequest(route.allowed ? NO_METHOD : "not_found");
      visit.require();
      return await this.#serve(visit, request, route);
    } catch (error) {
      const answer = this.#failed(request, route, error);
      visit.takeRefusal(); // the refusal is answered here, and not by the middleware
      if (error instanceof SessionAuthorityError && answer.status >= 500) visit.noteRefusal(error);
      return answer;
    }
  }

  async #serve(visit: Visit, request: DevicesRequest, { action, name }: Route): Promise<Answer> {
    const now = new Date();
    if (action === "page") {
      const alarm = queryOf(request).get("alarm") ?? "";
      return devicesPage(this.path, this.#textsFor(request.headers), alarm);
    }
    if (action === "list") {
      const query = queryOf(request);
      const after = query.get("after") ?? "";
      const eventId = query.get("alarm") ?? "";
      const listing = listingOf(await all(visit), now, { after, eventId });
      return apiAnswer(200, listJson(listing, this.#secureAccountUrl));
    }
    if (action === "rename") {
      const here = visit.require().deviceId;
      const device = await visit.rename(known(name), jsonText(request, "name"));
      const current = device.deviceId === here;
      return apiAnswer(200, { device: deviceJson({ ...device, current }, now) });
    }
    checkType(request);
    switch (action) {
      case "sign_out_device":
        return apiAnswer(200, { signed_out: await endedAt(visit, known(name)) });
      case "not_me": {
        const signedOut = await forgottenAt(visit, known(name));
        const told = { signed_out: signedOut, secure_account_url: this.#secureAccountUrl };
        return apiAnswer(200, told);
      }
      case "sign_out_others":
        return apiAnswer(200, { signed_out: await visit.signOutEverywhere() });
      case "sign_out_here":
        return apiAnswer(200, { signed_out: Number(await visit.signOut()) });
      default:
        throw new Error(`no such action: ${String(action)}`);
    }
  }

  /**
   * Returns the description of the API in OpenAPI. The description names the path of the page as
   * the URL of the server.
   */
  #described(): Answer {
    const shipped = JSON.parse(textOf("openapi.json")) as Record<string, unknown>;
    return apiAnswer(200, { ...shipped, servers: [{ url: this.path }] });
  }

  #textsFor(headers: Headers, asked?: string): texts.Texts {
    const wanted = [asked ?? "", this.#language].filter((name) => name !== "");
    if (wanted.length === 0 || (asked && this.#language === "")) {
      wanted.push(...texts.acceptedLanguages(values(headers, "accept-language")));
    }
    return texts.textsIn(texts.chosenLanguage(wanted, this.#messages), this.#messages);
  }

  /**
   * Returns the response to an error. A request of a program gets JSON, and a request of a person
   * gets a page. Throws the error again if `failureOf` returns undefined for it.
   */
  #failed(request: Omit<DevicesRequest, "body">, route: Route, error: unknown): Answer {
    const failure = failureOf(error);
    if (failure === undefined) throw error;
    const said: Failure =
      failure.code === NO_METHOD ? { ...failure, headers: [["Allow", route.allowed]] } : failure;
    const spoken = this.#textsFor(request.headers);
    if (route.isApi) return failureAnswer(said, spoken);
    if (error instanceof SignInRequired && error.answer.status === 303) return error.answer;
    const status = STATUS[said.code] ?? 500;
    const code = said.code === "signed_out" ? "sign_in" : said.code;
    return problemPage(status, this.path, spoken, code, said.headers);
  }
}

const NO_METHOD = "method_not_allowed";

function checkedUrl(url: string): string {
  const secure = PRINTABLE.test(url) && URL.canParse(url) && new URL(url).protocol === "https:";
  if (secure || (PRINTABLE.test(url) && localPath(url, "") === url)) return url;
  throw new TypeError("devices.secureAccountUrl: must be a path of the app, or an https URL");
}

function known(deviceId: string): string {
  const named = canonicalDeviceId(deviceId);
  if (named === "") throw new BadRequest("unknown_device");
  return named;
}

function all(visit: Visit): Promise<Device[]> {
  return visit.devices({ includeSignedOut: true, pageSize: DEVICES_IN_A_CALL });
}

/**
 * Signs the user out on a device. Resolves to 1 if the user was signed in on the device, else to 0.
 * Rejects with BadRequest if the device is not in the user's list.
 */
async function endedAt(visit: Visit, deviceId: string): Promise<number> {
  if (await visit.signOut({ deviceId })) return 1;
  await checkListed(visit, deviceId);
  return 0;
}

/**
 * Signs the user out on a device that the user does not recognize, and removes the device from the
 * list. Without the removal, the stranger's next sign-in on the device would count as a sign-in on
 * a known device. No mail reports such a sign-in.
 */
async function forgottenAt(visit: Visit, deviceId: string): Promise<number> {
  await checkListed(visit, deviceId); // checked first: the next call removes the device
  return Number(await visit.signOut({ deviceId, reason: "not_me", forget: true }));
}

async function checkListed(visit: Visit, deviceId: string): Promise<void> {
  const listed = await all(visit);
  if (!listed.some((device) => device.deviceId === deviceId)) {
    throw new BadRequest("unknown_device");
  }
}
