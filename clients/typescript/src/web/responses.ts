/**
 * The responses that stand in for an app's, with the errors that carry them: JSON with a code for
 * programs, a page for people. No cache may keep them.
 */

import type { StepUp } from "./step_up.js";

/** A response that stands in for the app's. */
export interface Answer {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
}

const NO_STORE = ["Cache-Control", "no-store"] as const;
const STYLE = `:root { color-scheme: light dark }
    body { font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 2rem auto;
        padding: 0 1rem; overflow-wrap: anywhere }
    h1 { font-size: 1.5rem }`;

interface PageText {
  readonly heading: string;
  /** Some sentences with a way on, as HTML. */
  readonly sentences: string;
}

// What a page says to people, by its name.
const TEXTS: Readonly<Record<string, PageText>> = {
  unavailable: {
    heading: "Please try again in a moment",
    sentences:
      "We can't find out right now whether you are signed in. Wait a little, then " +
      '<a href="">try again</a>.',
  },
  // To load that page again would send the form again.
  unavailable_for_form: {
    heading: "That did not work",
    sentences:
      "We can't find out right now whether you are signed in. Wait a little, then " +
      '<a href="/">go to the first page</a> and look whether what you sent has arrived.',
  },
  cross_origin_request: {
    heading: "This came from another site",
    sentences:
      'To keep you safe, nothing was done. <a href="/">Go to our own pages</a>, and try again ' +
      "from there.",
  },
  insecure_cookies: {
    heading: "This app can't be used at this address",
    sentences:
      "It is set up for development, with cookies for http://localhost only. On the machine that " +
      'it runs on, open it at <a href="http://localhost/">http://localhost</a>, with the same ' +
      "port. To use it elsewhere, serve it over HTTPS, without <code>insecure: true</code> in " +
      "<code>cookies</code>.",
  },
};
// What a code alone does not tell programs.
const MESSAGES: Readonly<Record<string, string>> = {
  insecure_cookies:
    "insecure cookies are for http://localhost only: open the app there, or serve it over HTTPS " +
    "without cookies: { insecure: true }",
};

/** What a refusal says beside its status and code. */
export interface RefusalOptions {
  readonly headers?: readonly (readonly [string, string])[];
  /** A browser wants a page. */
  readonly page?: boolean;
  /** The name of the page's text, if it is not the code. */
  readonly text?: string;
  /** Further fields for programs. */
  readonly more?: Readonly<Record<string, unknown>>;
}

/** A response that says why in one word, or with a page to people if there is a text for it. */
export function refusal(status: number, code: string, options: RefusalOptions = {}): Answer {
  const { headers = [], page = false, text = code, more = {} } = options;
  const shown = page ? TEXTS[text] : undefined;
  if (shown) return made(status, "text/html; charset=utf-8", htmlOf(shown), headers);
  const message = MESSAGES[code] === undefined ? {} : { message: MESSAGES[code] };
  const json = JSON.stringify({ error: code, ...message, ...more });
  return made(status, "application/json", json, headers);
}

/** A response that sends a browser to another page. */
export function redirect(url: string): Answer {
  return { status: 303, headers: [["Location", url], NO_STORE], body: "" };
}

function made(
  status: number,
  kind: string,
  body: string,
  headers: readonly (readonly [string, string])[],
): Answer {
  const length = ["Content-Length", String(Buffer.byteLength(body))] as const;
  return { status, headers: [["Content-Type", kind], length, ...headers, NO_STORE], body };
}

function htmlOf({ heading, sentences }: PageText): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${heading}</title>
<link rel="icon" href="data:,">
<style>
    ${STYLE}
</style>
<h1>${heading}</h1>
<p>${sentences}</p>
</html>
`;
}

/**
 * The request can't be served: `answer` says so to the client, and `code` in one word. Middleware
 * sends the answer.
 */
export class Refused extends Error {
  readonly code: string;
  readonly answer: Answer;

  constructor(code: string, answer: Answer, options?: ErrorOptions) {
    super(code, options);
    this.name = new.target.name;
    this.code = code;
    this.answer = answer;
  }
}

/** The request needs a session that is good, and has none. */
export class SignInRequired extends Refused {}

/**
 * The request needs a sign-in that is more recent or stronger; `wanted` says which. The session
 * that it has stays good.
 */
export class StepUpRequired extends SignInRequired {
  readonly wanted: StepUp;

  constructor(code: string, answer: Answer, wanted: StepUp) {
    super(code, answer);
    this.wanted = wanted;
  }
}

/** The request needs a session, and the Session Authority does not say whether there is one. */
export class NoAnswer extends Refused {}

/**
 * A page of another origin sent the request, and it may change something. Neither the app nor the
 * Session Authority saw it.
 */
export class CrossOrigin extends Refused {}

/**
 * A browser comes from another site, without its strict cookies. It is to ask again, from a page of
 * this origin. Neither the app nor the Session Authority saw the request.
 */
export class ReturnHop extends Refused {}

/**
 * The app has insecure cookies, and is not at http://localhost. Neither the app nor the Session
 * Authority saw the request.
 */
export class InsecureHost extends Refused {}
