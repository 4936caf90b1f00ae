/**
 * <session-devices src="/devices">: a user's devices, without page loads, by the devices API.
 *
 * All that it shows becomes text nodes: it never makes HTML of strings. docs/devices_element.md
 * describes its attributes, events and styles.
 */

/** The texts where the API gives no others. */
export const ENGLISH = {
  title: "Your devices",
  loading: "Loading your devices …",
  empty: "No other device is signed in.",
  this_device: "This device",
  active_now: "Active now",
  just_now: "just now",
  active: "Active {when}",
  signed_in: "Signed in {when}",
  signed_in_with: "Signed in {when} with {methods}",
  signed_out: "Signed out {when}",
  signed_out_devices: "Signed out in the last 28 days ({count})",
  browser_on_system: "{browser} on {system}",
  numbered: "{device} ({number})",
  place: "{city}, {country}",
  "kind.desktop": "Computer",
  "kind.phone": "Phone",
  "kind.tablet": "Tablet",
  "kind.tv": "TV",
  "kind.watch": "Watch",
  "kind.console": "Games console",
  "kind.bot": "Program",
  "kind.other": "Device",
  "method.pwd": "password",
  "method.otp": "one-time code",
  "method.sms": "text message",
  "method.pin": "PIN",
  "method.fpt": "fingerprint",
  "method.face": "face",
  "method.hwk": "security key",
  "method.swk": "passkey",
  "method.mfa": "several factors",
  rename: "Rename",
  rename_device: "Rename {device}",
  name_of_device: "New name for {device}",
  save: "Save",
  cancel: "Cancel",
  close: "Close",
  sign_out: "Sign out",
  sign_out_device: "Sign out {device}",
  not_me: "That wasn’t me",
  not_me_device: "That wasn’t me: {device}",
  show_more: "Show more devices",
  try_again: "Try again",
  "others.button": "Sign out all other devices",
  "others.explain": "You stay signed in on this device.",
  "others.ask": "Sign out all other devices?",
  "others.effect": "Every device but this one has to sign in again.",
  "others.confirm": "Sign out all others",
  "not_me.ask": "Wasn’t this you on {device}?",
  "not_me.effect":
    "This device is signed out and leaves your list. Change your password: somebody may know it.",
  "not_me.confirm": "Sign this device out",
  "not_me.done": "{device} is signed out",
  "not_me.next":
    "Change your password now. Then sign out all other devices, in case somebody is signed in " +
    "elsewhere.",
  "not_me.next_without_password": "To be safe, sign out all other devices too.",
  "not_me.secure_account": "Change your password",
  "alarm.token_replayed": "Somebody used a copy of your sign-in on {device} {when}.",
  "alarm.other": "Something unusual happened to your sign-in on {device} {when}.",
  "alarm.advice":
    "If you don’t know the reason, change your password and sign out all other devices.",
  "alarm.title": "Security alarm",
  "alarm.earlier": { one: "{count} earlier alarm", other: "{count} earlier alarms" },
  "alarm.unknown_device": "a device that is no longer listed",
  "alarm.here": "A copy of this sign-in was used {when}",
  "done.renamed": "The device is now called {name}.",
  "done.name_removed": "The device’s own name was removed.",
  "done.signed_out": "{device} is signed out.",
  "done.others": {
    one: "{count} other device was signed out.",
    other: "{count} other devices were signed out.",
  },
  "done.no_others": "No other device was signed in.",
  "done.more": { one: "{count} more device is shown.", other: "{count} more devices are shown." },
  "mail.alarm": "The mail that you received is about this.",
  "error.signed_out": "You are signed out.",
  "error.offline": "You are offline. This list may be out of date.",
  "error.unavailable": "Your devices can’t be reached just now.",
  "error.failed": "That did not work. Nothing was changed.",
  "error.retry": {
    one: "Trying again in {count} second.",
    other: "Trying again in {count} seconds.",
  },
};

const MINUTE = 60_000; // in milliseconds, as all times here
const CALL_TIMEOUT = 15_000;
const MESSAGES_TIMEOUT = 4_000;
const STALE_AFTER = 2 * MINUTE; // for "Active now"
const MAX_RETRY_SECONDS = 300;
const MAX_PAGES_REFRESHED = 4;

const UNITS = { day: 24 * 60 * MINUTE, hour: 60 * MINUTE, minute: MINUTE };

const ICONS = {
  desktop: "M3 4h18v12H3zM8 20h8M12 16v4",
  phone: "M7 2h10v20H7zM11 18h2",
  tablet: "M4 3h16v18H4zM11 18h2",
  tv: "M2 7h20v12H2zM8 22h8M8 3l4 4 4-4",
  watch: "M7 7h10v10H7zM9 7V2h6v5M9 17v5h6v-5M12 10v2h2",
  console: "M6 7h12a4 4 0 0 1 4 4v6l-5-3H7l-5 3v-6a4 4 0 0 1 4-4zM8 9v4M6 11h4M16 11h.01",
  bot: "M5 8h14v11H5zM12 8V4M9 12v1M15 12v1M9 16h6",
  other: "M4 4h16v16H4zM9 9a3 3 0 1 1 3 3v2M12 17h.01",
};
const ALARM = "M12 3 2 20h20zM12 10v4M12 17h.01";

const CSS = `
:host {
  display: block;
  font: var(--session-devices-font, 1rem/1.5 system-ui, sans-serif);
}
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; }
section {
  --accent: var(--session-devices-accent, light-dark(#0b5cad, #7db8ff));
  --danger: var(--session-devices-danger, light-dark(#b3201c, #ff9d94));
  --good: var(--session-devices-good, light-dark(#17693a, #7ddba0));
  --text: var(--session-devices-text, light-dark(#1a1d21, #eceef1));
  --muted: var(--session-devices-muted, light-dark(#565d66, #a9b1bb));
  --surface: var(--session-devices-surface, light-dark(#fff, #1b1f24));
  --border: var(--session-devices-border, light-dark(#d5d9de, #3a4149));
  --radius: var(--session-devices-radius, 12px);
  --gap: var(--session-devices-gap, 1rem);
  color: var(--text);
  overflow-wrap: anywhere;
}
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
:is(h2, section):focus { outline: none; }
h2, h3, p, ul { margin: 0; }
h2 { font-size: 1.25rem; margin-block-end: .75rem; }
h3 { font-size: 1rem; }
.cards { padding: 0; list-style: none; }
.cards, .alarm, dialog, .notice:has(span) {
  border: 1px solid var(--border); border-radius: var(--radius); background: var(--surface);
}
.cards:empty { display: none; }
.card, .alarm { display: flex; gap: var(--gap); padding: var(--gap); }
.card + .card { border-block-start: 1px solid var(--border); }
svg {
  inline-size: 2.5rem; block-size: 2.5rem; flex: none; padding: .5rem; border-radius: 50%;
  fill: none; stroke: currentColor; stroke-width: 1.5; stroke-linecap: round;
  stroke-linejoin: round; background: color-mix(in srgb, currentColor 10%, transparent);
  color: var(--muted);
}
.content, .heading, .actions, .notice, .others, form {
  display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: center;
}
.content, .body { flex: 1 1 15rem; min-inline-size: 0; align-items: start; }
.badge {
  border: 1px solid transparent; border-radius: 99px; padding: 0 .5rem; font-size: .75rem;
  background: color-mix(in srgb, currentColor 10%, transparent);
}
.badge, .now, .current svg { color: var(--good); font-weight: 600; }
.fact { position: relative; color: var(--muted); font-size: .875rem; }
.warning, .alarm :is(svg, h3) { color: var(--danger); }
button, .link {
  display: inline-block; padding: .3125rem .75rem; border: 1px solid var(--border);
  border-radius: 8px; background: var(--surface); color: var(--text);
  font: inherit; font-size: .875rem; text-decoration: none; cursor: pointer;
}
:is(button, .link):hover { border-color: currentColor; }
.quiet { border-color: transparent; padding-inline: 0; background: none; color: var(--accent); }
.danger { color: var(--danger); }
.primary { background: var(--accent); border-color: var(--accent); color: var(--surface); }
[aria-disabled=true] { opacity: .6; cursor: progress; }
form { margin-block-end: .375rem; }
input {
  flex: 1 1 9rem; min-inline-size: 0; padding: .25rem .625rem; border: 1px solid var(--muted);
  border-radius: 8px; background: var(--surface); color: var(--text); font: inherit;
}
.notice:has(span) { padding: .5rem .75rem; border-inline-start: 4px solid var(--good); }
.notice.bad:has(span) { border-inline-start-color: var(--danger); }
.alarm {
  border-color: var(--danger);
  background: color-mix(in srgb, var(--danger) 6%, var(--surface));
}
.alarm, .notice:has(span) { margin-block-end: var(--gap); }
.alarm .link { margin-block-start: .5rem; }
.others, .more, details { margin-block-start: var(--gap); }
.others { justify-content: space-between; }
summary { padding-block: .25rem; cursor: pointer; }
time { text-decoration: underline dotted; text-underline-offset: .2em; cursor: help; }
.exact {
  display: none; position: absolute; z-index: 1; inset-block-start: 100%; inset-inline-start: 0;
  padding: .25rem .625rem; border: 1px solid var(--border); border-radius: 8px;
  background: var(--text); color: var(--surface); font-weight: 400;
}
section:not(.hushed) time:is(:hover, :focus) > .exact { display: block; }
dialog { inline-size: min(28rem, 90vw); padding: 1.25rem; color: var(--text); }
dialog::backdrop { background: rgb(0 0 0 / .5); }
dialog .actions { margin-block-start: 1.25rem; }
.waiting { padding-block: 2rem; color: var(--muted); text-align: center; }
@media print {
  button, .link, .notice, .others, dialog { display: none !important; }
  .card { break-inside: avoid; }
}
`;

let forms = 0;
const sheet = new CSSStyleSheet();
sheet.replaceSync(CSS);

/** An element with attributes, listeners (`onclick`), and children: nodes or texts. */
function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat(3).filter(Boolean));
  return element;
}

/** A button; its look is the name of its style, inside and outside. */
function button(text, look, onclick, attributes = {}) {
  const part = `button ${look}`;
  return h("button", { type: "button", class: look, part, onclick, ...attributes }, text);
}

function icon(drawing) {
  const [svg, path] = ["svg", "path"].map((name) =>
    document.createElementNS("http://www.w3.org/2000/svg", name),
  );
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("part", "icon");
  path.setAttribute("d", drawing);
  svg.append(path);
  return svg;
}

/** Makes `parent` hold just these children, without moving those that are in place. */
function arrange(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  children.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index]);
  });
}

/** One language: its texts, and how it writes times, numbers, places and lists. */
class Language {
  constructor(tag = "en", direction = "ltr", messages = {}) {
    Object.assign(this, { tag, direction, messages });
    // The user's own variant has the user's dates: en-GB rather than en.
    const plain = (name) => name.split("-")[0];
    const locale = navigator.languages.find((name) => plain(name) === plain(tag)) ?? tag;
    this.number = new Intl.NumberFormat(locale);
    this.plural = new Intl.PluralRules(locale);
    this.list = new Intl.ListFormat(locale);
    this.countries = new Intl.DisplayNames(locale, { type: "region" });
    this.moment = new Intl.DateTimeFormat(locale, { dateStyle: "long", timeStyle: "long" });
    this.past = new Intl.RelativeTimeFormat(locale);
    this.date = new Intl.DateTimeFormat(locale, { dateStyle: "long" });
  }

  /** The text in pieces: what `values` has for the places in it may be nodes. */
  pieces(key, values = {}) {
    let text = this.messages[key] ?? ENGLISH[key];
    if (typeof text === "object") text = text[this.plural.select(values.count)] ?? text.other;
    const filled = { ...values };
    if ("count" in filled) filled.count = this.number.format(filled.count);
    const pieces = String(text ?? "").split(/\{(\w+)\}/);
    return pieces.map((piece, index) => (index % 2 ? filled[piece] : piece) ?? "");
  }

  text(key, values) {
    return this.pieces(key, values).join("");
  }

  /** "2 hours ago"; from a week on, the date. A clock that is behind tells no future. */
  ago(moment, now) {
    const past = now - moment;
    if (past < MINUTE) return this.text("just_now");
    if (past >= 7 * UNITS.day) return this.date.format(moment);
    const unit = Object.keys(UNITS).find((name) => past >= UNITS[name]);
    return this.past.format(-Math.floor(past / UNITS[unit]), unit);
  }

  country(code) {
    try {
      return this.countries.of(code);
    } catch {
      return code; // it is none
    }
  }

  place(place) {
    const country = place?.country_code ? this.country(place.country_code) : null;
    if (place?.city && country) return this.text("place", { city: place.city, country });
    return place?.city ?? country;
  }

  methods(names) {
    const known = (name) => this.messages[`method.${name}`] ?? ENGLISH[`method.${name}`] ?? name;
    return this.list.format(names.map((name) => String(known(name))));
  }

  appearance({ browser, system, model }) {
    if (browser && system) return this.text("browser_on_system", { browser, system });
    return browser ?? model ?? system;
  }

  /** The titles by device ID, no two the same: they are in the names of buttons. */
  titles(devices) {
    const titles = new Map();
    const last = new Map(); // by title: its last number
    for (const device of devices) {
      const plain =
        device.name || this.appearance(device) || this.text(`kind.${kindOf(device)}`);
      let title = plain;
      for (let number = last.get(title) ?? 1; last.has(title); last.set(plain, number)) {
        title = this.text("numbered", { device: plain, number: this.number.format(++number) });
      }
      last.set(title, 1);
      titles.set(device.id, title);
    }
    return titles;
  }
}

function kindOf(device) {
  return Object.hasOwn(ICONS, device.kind) ? device.kind : "other";
}

export class SessionDevices extends HTMLElement {
  static observedAttributes = ["src", "language", "alarm"];

  #language = new Language();
  #spoken = false; // the API's texts have come
  #list = null; // what the API said: devices, alarms, next, secure_account_url
  #titles = new Map();
  #cards = new Map(); // by device ID: what it was made of, and the element
  #pages = 1;
  #ahead = 0; // how far the service's clock is ahead of ours
  #loadedAt = 0;
  #loading = null;
  #changes = 0;
  #failures = 0;
  #problem = false; // the notice is about the list
  #signedOut = false;
  #life = null; // aborted when the element leaves the page
  #minute = 0;
  #retry = 0;

  #title = h("h2", { part: "title", id: "title" });
  #status = h("p", { role: "status", part: "status" });
  #again = button("", "", () => this.refresh(), { hidden: true });
  #notice = h("div", { class: "notice", part: "notice" }, this.#status, this.#again);
  #alarm = h("div", { role: "group", "aria-labelledby": "alarm", class: "alarm", part: "alarm" });
  #loadingText = h("p", { class: "waiting" });
  #waiting = h("slot", {}, this.#loadingText);
  #empty = h("p", { class: "others fact", part: "empty" });
  #live = h("ul", { role: "list", class: "cards", part: "devices" });
  #more = button("", "more", () => this.#showMore());
  #othersText = h("p", { class: "fact" });
  #othersButton = button("", "danger", () => this.#askOthers(), { "data-key": "others" });
  #others = h("div", { class: "others", part: "others" }, this.#othersText, this.#othersButton);
  #summary = h("summary");
  #dead = h("ul", { role: "list", class: "cards", part: "devices" });
  #past = h("details", { part: "signed-out" }, this.#summary, this.#dead);
  #fixed = [
    [this.#title, "title"],
    [this.#again, "try_again"],
    [this.#loadingText, "loading"],
    [this.#empty, "empty"],
    [this.#more, "show_more"],
    [this.#othersText, "others.explain"],
    [this.#othersButton, "others.button"],
  ];
  #dialog = h("dialog", { part: "dialog", "aria-labelledby": "question" });
  #root = h(
    "section",
    { tabindex: -1, "aria-labelledby": "title", part: "root" },
    ...[this.#title, this.#alarm, this.#notice, this.#waiting, this.#live, this.#more],
    ...[this.#empty, this.#others, this.#past, this.#dialog],
  );

  constructor() {
    super();
    const shadow = this.attachShadow({ mode: "open" });
    shadow.adoptedStyleSheets = [sheet];
    shadow.append(this.#root);
    const unhush = () => this.#root.classList.remove("hushed");
    this.#root.addEventListener("focusin", unhush);
    this.#root.addEventListener("pointerover", unhush);
  }

  connectedCallback() {
    this.#start();
  }

  disconnectedCallback() {
    this.#life.abort();
    clearInterval(this.#minute);
    clearTimeout(this.#retry);
  }

  attributeChangedCallback(name, before, after) {
    if (this.#life && this.isConnected && before !== after) this.#start();
  }

  /** Reads the list again; resolves when it is shown. */
  refresh() {
    if (!this.#life || this.#signedOut) return Promise.resolve();
    const life = this.#life;
    this.#loading ??= this.#load(life.signal).finally(() => {
      if (this.#life === life) this.#loading = null;
    });
    return this.#loading;
  }

  #start() {
    this.#life?.abort();
    this.#life = new AbortController();
    this.#loading = this.#list = null;
    this.#spoken = this.#signedOut = this.#problem = false;
    this.#failures = 0;
    this.#pages = 1;
    this.#cards.clear();
    this.#say("");
    const { signal } = this.#life;
    clearInterval(this.#minute);
    this.#minute = setInterval(() => this.#renewTimes(), MINUTE);
    const seen = () => document.visibilityState === "visible" && this.refresh();
    document.addEventListener("visibilitychange", seen, { signal });
    const online = () => {
      this.#problem = true; // which is over with the next list
      this.refresh();
    };
    const offline = () => this.#showProblem(this.#text("error.offline"));
    addEventListener("online", online, { signal });
    addEventListener("offline", offline, { signal });
    const hush = ({ key }) => key === "Escape" && this.#root.classList.add("hushed");
    document.addEventListener("keydown", hush, { signal });
    this.#render();
    this.refresh();
  }

  async #load(signal) {
    clearTimeout(this.#retry);
    const changes = this.#changes;
    try {
      const [first] = await Promise.all([this.#page(), this.#learn(signal)]);
      let last = first;
      let pages = 1;
      const devices = [...first.devices];
      for (; pages < Math.min(this.#pages, MAX_PAGES_REFRESHED) && last.next; pages++) {
        last = await this.#page(last.next);
        devices.push(...last.devices);
      }
      if (signal.aborted) return;
      if (changes !== this.#changes) return this.#load(signal); // it is older than an action
      if (this.#problem) this.#say("");
      this.#list = { ...first, devices: distinct(devices), next: last.next };
      this.#pages = pages;
      this.#loadedAt = Date.now();
      this.#ahead = Date.parse(first.now) - this.#loadedAt || 0;
      this.#failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      this.#failLoad(error);
    }
    this.#render();
  }

  #failLoad(error) {
    if (error.status === 401) return this.#leave();
    const wait = Math.min(error.retryAfter || 5 * 2 ** this.#failures, MAX_RETRY_SECONDS);
    this.#failures = Math.min(this.#failures + 1, 5);
    const passing = !error.status || error.status === 429 || error.status > 500;
    if (passing) this.#retry = setTimeout(() => this.refresh(), wait * 1000);
    const reason = this.#reason(error, "error.unavailable");
    this.#showProblem(reason, passing && navigator.onLine ? wait : 0);
  }

  /** The API's texts; without them it stays with English. */
  async #learn(life) {
    if (this.#spoken) return;
    const language = this.getAttribute("language") || this.closest("[lang]")?.lang;
    const query = language ? `?${new URLSearchParams({ language })}` : "";
    try {
      const found = await this.#call(`messages${query}`, undefined, MESSAGES_TIMEOUT);
      const learned = new Language(found.language, found.direction, found.messages);
      if (life.aborted) return;
      this.#language = learned;
      this.#spoken = true;
      this.#cards.clear();
    } catch {
      // The next list tries again.
    }
  }

  async #call(path, body, timeout = CALL_TIMEOUT) {
    const headers = { Accept: "application/json" };
    const language = this.getAttribute("language");
    if (language) headers["Accept-Language"] = language;
    if (body) headers["Content-Type"] = "application/json";
    const response = await fetch(`${this.getAttribute("src").replace(/\/$/, "")}/api/${path}`, {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.any([this.#life.signal, AbortSignal.timeout(timeout)]),
    });
    const answer = await response.json().catch(() => null);
    if (response.ok && answer) return answer;
    const retryAfter = Number(response.headers.get("Retry-After")) || 0;
    const { code, message } = answer?.error ?? {};
    throw Object.assign(new Error(), { status: response.status, code, message, retryAfter });
  }

  #page(after = "") {
    const alarm = this.getAttribute("alarm") ?? "";
    return this.#call(`devices?${new URLSearchParams({ after, alarm })}`);
  }

  #post(device, verb, body = {}) {
    return this.#call(`devices/${encodeURIComponent(device.id)}/${verb}`, body);
  }

  /** The user is signed out: the app hears it, and the user goes where one signs in. */
  #leave() {
    if (this.#signedOut) return;
    this.#signedOut = true;
    this.#list = null;
    this.#dialog.close();
    this.#render();
    this.#say(this.#text("error.signed_out"), true);
    const goes = this.#tell("signedout", {}, true);
    const target = safeUrl(this.getAttribute("sign-in"));
    if (goes && target) location.assign(target);
  }

  #tell(name, detail, cancelable = false) {
    const about = { bubbles: true, composed: true, cancelable, detail };
    return this.dispatchEvent(new CustomEvent(`session-devices:${name}`, about));
  }

  /** Runs an action of a button once at a time, and says why if it fails. */
  async #act(button, action, complain = (text) => this.#say(text, true)) {
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    const { signal } = this.#life;
    try {
      await action();
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) return this.#leave();
      complain(this.#reason(error, "error.failed"));
      if (error.code === "unknown_device") this.refresh();
    } finally {
      button.ariaDisabled = null;
    }
  }

  #reason(error, otherwise) {
    if (error.status && error.message) return error.message; // the API's own, in the language
    return this.#text(navigator.onLine ? otherwise : "error.offline");
  }

  #changed(action, deviceId, signedOut) {
    this.#changes++;
    this.#render();
    this.#tell("change", { action, deviceId, signedOut });
  }

  /** Shows devices as signed out. */
  #ended(meant, action, deviceId, signedOut) {
    const now = new Date(Date.now() + this.#ahead).toISOString();
    const end = { signed_in: false, active_now: false, signed_out_at: now };
    const marked = (device) => (device.signed_in && meant(device) ? { ...device, ...end } : device);
    this.#list.devices = this.#list.devices.map(marked);
    this.#changed(action, deviceId, signedOut);
  }

  async #signOut(device) {
    const title = this.#titles.get(device.id);
    const { signed_out: count } = await this.#post(device, "sign-out");
    this.#ended((other) => other.id === device.id, "sign-out", device.id, count);
    if (device.current) return this.#leave();
    this.#say(this.#text("done.signed_out", { device: title }));
  }

  async #signOutOthers() {
    const { signed_out: count } = await this.#call("sign-out-others", {});
    this.#ended((other) => !other.current, "sign-out-others", null, count);
    this.#dialog.close();
    this.#keepFocus("others");
    this.#say(this.#text(count ? "done.others" : "done.no_others", { count }));
    if (this.#list.next) this.refresh();
  }

  async #rename(device, name, close) {
    const { device: renamed } = await this.#post(device, "rename", { name });
    close();
    const change = (other) => (other.id === device.id ? { ...renamed, id: device.id } : other);
    this.#list.devices = this.#list.devices.map(change);
    this.#changed("rename", device.id, 0);
    const said = renamed.name ? "done.renamed" : "done.name_removed";
    this.#say(this.#text(said, { name: renamed.name }));
  }

  #showMore() {
    this.#act(this.#more, async () => {
      const page = await this.#page(this.#list.next);
      const known = this.#list.devices;
      const devices = distinct([...known, ...page.devices]);
      this.#list = { ...this.#list, devices, next: page.next };
      this.#pages++;
      this.#render();
      const first = devices[known.length];
      if (first) this.#cards.get(first.id).element.focus();
      this.#say(this.#text("done.more", { count: devices.length - known.length }));
    });
  }

  #ask(question, effect, ...actions) {
    const complaint = h("p", { role: "alert", class: "warning" });
    const heading = h("h2", { id: "question", tabindex: -1 }, question);
    const row = h("div", { class: "actions" }, ...actions);
    this.#dialog.replaceChildren(heading, h("p", {}, effect), complaint, row);
    if (!this.#dialog.open) this.#dialog.showModal();
    return { heading, complain: (text) => complaint.replaceChildren(text) };
  }

  #closing(key) {
    return button(this.#text(key), "", () => this.#dialog.close());
  }

  /** Asks before an action; if it fails, the dialog says why. */
  #confirm(question, effect, key, action) {
    const confirm = button(this.#text(key), "danger", () => this.#act(confirm, action, complain));
    const { complain } = this.#ask(question, effect, this.#closing("cancel"), confirm);
  }

  #askOthers() {
    const [question, effect] = [this.#text("others.ask"), this.#text("others.effect")];
    this.#confirm(question, effect, "others.confirm", () => this.#signOutOthers());
  }

  #askNotMe(device) {
    const title = this.#titles.get(device.id);
    const question = this.#language.pieces("not_me.ask", { device: h("bdi", {}, title) });
    const notMe = () => this.#notMe(device, title);
    this.#confirm(question, this.#text("not_me.effect"), "not_me.confirm", notMe);
    const back = () => this.#keepFocus(`not-me:${device.id}`);
    this.#dialog.addEventListener("close", back, { once: true });
  }

  async #notMe(device, title) {
    const { signed_out: count, secure_account_url: url } = await this.#post(device, "not-me");
    this.#list.devices = this.#list.devices.filter((other) => other.id !== device.id);
    this.#changed("not-me", device.id, count);
    const secure = this.#secureLink(url, "primary");
    const others = button(this.#text("others.button"), "danger", () =>
      this.#act(others, () => this.#signOutOthers(), complain),
    );
    const { heading, complain } = this.#ask(
      this.#language.pieces("not_me.done", { device: h("bdi", {}, title) }),
      this.#text(secure ? "not_me.next" : "not_me.next_without_password"),
      ...[secure, others, this.#closing("close")],
    );
    heading.focus();
  }

  #secureLink(url, style = "") {
    const href = safeUrl(url);
    const attributes = { href, class: `link ${style}`, part: "button link", "data-key": "secure" };
    return href && h("a", attributes, this.#text("not_me.secure_account"));
  }

  #text(key, values) {
    return this.#language.text(key, values);
  }

  /** Says how an action went, to eyes and to screen readers. */
  #say(text, bad = false, problem = false) {
    this.#problem = problem;
    if (!problem && this.shadowRoot.activeElement === this.#again) this.#root.focus();
    this.#again.hidden = !problem;
    this.#notice.classList.toggle("bad", bad);
    this.#status.replaceChildren(...(text ? [h("span", {}, text)] : []));
  }

  #showProblem(text, retrySeconds = 0) {
    const retry = retrySeconds ? ` ${this.#text("error.retry", { count: retrySeconds })}` : "";
    this.#say(text + retry, true, true);
  }

  /** Brings focus to what has the key, else to the other. */
  #keepFocus(key, otherwise = this.#root) {
    const keyed = [...this.shadowRoot.querySelectorAll("[data-key]")];
    keyed.find((element) => element.dataset.key === key)?.focus();
    if (this.#lostFocus()) otherwise.focus();
  }

  /** True if nothing here has focus, or a thing that is no longer shown. */
  #lostFocus() {
    return !this.shadowRoot.activeElement?.checkVisibility();
  }

  #render() {
    const focused = this.shadowRoot.activeElement;
    const list = this.#list;
    const devices = list?.devices ?? [];
    const live = devices.filter((device) => device.signed_in);
    const dead = devices.filter((device) => !device.signed_in);
    const card = focused?.closest(".card");
    const nextCard = card?.nextElementSibling ?? card?.previousElementSibling;
    this.#root.lang = this.#language.tag;
    this.#root.dir = this.#language.direction;
    this.#root.ariaBusy = String(!list && !this.#problem && !this.#signedOut);
    this.#loadingText.hidden = this.#problem;
    this.#waiting.hidden = Boolean(list) || this.#signedOut;
    for (const [element, key] of this.#fixed) element.textContent = this.#text(key);
    this.#titles = this.#language.titles(devices);
    arrange(this.#live, live.map((device) => this.#card(device)));
    arrange(this.#dead, dead.map((device) => this.#card(device)));
    this.#more.hidden = !list?.next;
    const alone = !list?.next && live.every((device) => device.current);
    this.#empty.hidden = !list || !alone;
    this.#others.hidden = !list || alone;
    this.#past.hidden = dead.length === 0;
    this.#summary.textContent = this.#text("signed_out_devices", { count: dead.length });
    this.#renderAlarms(list?.alarms ?? []);
    if (focused && this.#lostFocus()) {
      nextCard?.focus(); // a card, not a button: pressing Enter again does nothing
      if (this.#lostFocus()) this.#keepFocus(focused.dataset.key);
    }
  }

  #card(device) {
    const title = this.#titles.get(device.id);
    const source = JSON.stringify([device, title, this.#isActive(device), this.#list.marked]);
    const known = this.#cards.get(device.id);
    // A name that is being typed stays.
    if (known?.source === source || known?.element.querySelector("form")) return known.element;
    const focused = this.shadowRoot.activeElement;
    const element = this.#makeCard(device, title);
    this.#cards.set(device.id, { source, element });
    if (known?.element.contains(focused)) {
      known.element.replaceWith(element);
      this.#keepFocus(focused.dataset.key, element);
    }
    return element;
  }

  #makeCard(device, title) {
    const said = (key) => this.#text(key, { device: title });
    const action = (key, style, act) =>
      button(this.#text(key), style, ({ currentTarget }) => act(currentTarget), {
        "aria-label": said(`${key}_device`),
        "data-key": `${key.replace("_", "-")}:${device.id}`,
      });
    const signOut = (button) => this.#act(button, () => this.#signOut(device));
    const heading = h(
      "div",
      { class: "heading" },
      h("h3", { part: "name" }, h("bdi", {}, title)),
      device.current && h("span", { class: "badge", part: "badge" }, this.#text("this_device")),
    );
    const actions = h(
      "div",
      { class: "actions", part: "actions" },
      device.signed_in && action("rename", "quiet", () => edit()),
      !device.current && action("not_me", "quiet", () => this.#askNotMe(device)),
    );
    const content = h(
      "div",
      { class: "content" },
      h("div", { class: "body" }, heading, this.#facts(device), actions),
      device.signed_in && action("sign_out", "", signOut),
    );
    const edit = () => {
      const form = this.#form(device, title, () => {
        form.replaceWith(heading);
        actions.hidden = false;
        this.#keepFocus(`rename:${device.id}`);
      });
      heading.replaceWith(form);
      actions.hidden = true;
      const field = form.querySelector("input");
      field.focus();
      field.select();
    };
    const current = device.current ? " current" : "";
    const attributes = { class: `card${current}`, part: `device${current}`, tabindex: -1 };
    return h("li", attributes, icon(ICONS[kindOf(device)]), content);
  }

  #form(device, title, close) {
    const label = this.#text("name_of_device", { device: title });
    const id = `fault-${++forms}`;
    const field = h("input", {
      part: "field",
      autocomplete: "off",
      "aria-label": label,
      "aria-describedby": id,
    });
    field.value = device.name ?? "";
    const fault = h("p", { id, role: "alert", class: "fact warning" });
    const save = button(this.#text("save"), "primary", null, { type: "submit" });
    const complain = (text) => {
      fault.replaceChildren(text);
      field.ariaInvalid = "true";
      field.focus();
    };
    const onsubmit = (event) => {
      event.preventDefault();
      this.#act(save, () => this.#rename(device, field.value.trim(), close), complain);
    };
    const onkeydown = (event) => {
      if (event.key !== "Escape" || event.isComposing) return;
      event.stopPropagation();
      close();
    };
    const cancel = button(this.#text("cancel"), "", close);
    return h("form", { onsubmit, onkeydown }, field, save, cancel, fault);
  }

  #facts(device) {
    const { name, signed_in: isIn, signed_in_at: at, auth_methods: methods, alarm } = device;
    const how = { methods: this.#language.methods(methods ?? []) };
    const lines = [
      [name ? this.#language.appearance(device) : device.browser && device.system && device.model],
      [this.#activity(device), this.#language.place(device.place), device.address],
      [isIn && this.#dated(how.methods ? "signed_in_with" : "signed_in", at, how)],
      [alarm?.kind === "token_replayed" && this.#dated("alarm.here", alarm.at)],
      [this.#list.marked === device.id && this.#text("mail.alarm")],
    ];
    return lines.map((line, row) => {
      const items = line.filter(Boolean).map((piece, index) => [
        index > 0 && " · ",
        typeof piece === "string" ? h("bdi", {}, piece) : piece,
      ]);
      const style = row > 2 ? "fact warning" : "fact";
      return items.length > 0 && h("p", { class: style, part: "fact" }, items);
    });
  }

  #activity(device) {
    if (device.signed_out_at) return this.#dated("signed_out", device.signed_out_at);
    if (this.#isActive(device)) return h("span", { class: "now" }, this.#text("active_now"));
    return this.#dated("active", device.last_active_at);
  }

  #isActive(device) {
    return device.active_now && (device.current || Date.now() - this.#loadedAt < STALE_AFTER);
  }

  /** A text with a time in it; null without one. */
  #dated(key, at, values = {}) {
    return Date.parse(at) && this.#language.pieces(key, { ...values, when: this.#time(at) });
  }

  /** "2 hours ago", with the exact local time under the pointer or at focus. */
  #time(at) {
    const exact = this.#language.moment.format(Date.parse(at));
    const ago = h("span", {}, this.#ago(at));
    const tip = h("span", { class: "exact", part: "exact", role: "tooltip" }, exact);
    return h("time", { datetime: at, tabindex: 0, part: "time" }, ago, tip);
  }

  #ago(at) {
    return this.#language.ago(Date.parse(at), Date.now() + this.#ahead);
  }

  #renewTimes() {
    for (const time of this.shadowRoot.querySelectorAll("time")) {
      const now = this.#ago(time.dateTime);
      if (time.firstChild.textContent !== now) time.firstChild.textContent = now;
    }
    if (this.#list) this.#render();
  }

  #renderAlarms(alarms) {
    const asked = this.getAttribute("alarm");
    const chosen = alarms.find((alarm) => asked && alarm.event_id === asked) ?? alarms[0];
    const earlier = alarms.filter((alarm) => alarm !== chosen);
    this.#alarm.hidden = !chosen;
    const source = JSON.stringify([alarms, asked, this.#language.tag, [...this.#titles]]);
    if (!chosen || this.#alarm.source === source) return;
    this.#alarm.source = source;
    const items = earlier.map((alarm) => h("li", { class: "fact" }, this.#alarmText(alarm)));
    const summary = this.#text("alarm.earlier", { count: earlier.length });
    const body = h(
      "div",
      { class: "body" },
      h("h3", { id: "alarm" }, this.#text("alarm.title")),
      asked && chosen.event_id === asked && h("p", { class: "fact" }, this.#text("mail.alarm")),
      h("p", { class: "fact" }, this.#alarmText(chosen)),
      h("p", { class: "fact" }, this.#text("alarm.advice")),
      this.#secureLink(this.#list.secure_account_url),
      earlier.length > 0 && h("details", {}, h("summary", {}, summary), h("ul", {}, items)),
    );
    this.#alarm.replaceChildren(icon(ALARM), body);
  }

  #alarmText(alarm) {
    const key = `alarm.${alarm.kind === "token_replayed" ? alarm.kind : "other"}`;
    const title = this.#titles.get(alarm.device_id) ?? this.#text("alarm.unknown_device");
    return this.#dated(key, alarm.at, { device: h("bdi", {}, title) });
  }
}

function distinct(devices) {
  return [...new Map(devices.map((device) => [device.id, device])).values()];
}

/** The address if a browser may go there: a path or a page, never a script. */
function safeUrl(url) {
  if (!url) return null;
  try {
    return /^https?:$/.test(new URL(url, document.baseURI).protocol) ? url : null;
  } catch {
    return null;
  }
}

customElements.get("session-devices") ??
  customElements.define("session-devices", SessionDevices);
