/**
 * The responses that replace an app's own, with the errors that carry them: JSON with a code for
 * programs, a page for people. No cache may keep them.
 */

import type { StepUp } from "./step_up.js";

/** A response that replaces the app's own. */
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
  /** Some sentences with the next step, as HTML. */
  readonly sentences: string;
}

// The texts of pages for people, by their names.
const TEXTS: Readonly<Record<string, PageText>> = {
  unavailable: {
    heading: "Please try again in a moment",
    sentences:
      "We can't find out right now whether you are signed in. Wait a little, then " +
      '<a href="">try again</a>.',
  },
  // This text has no link to the same page: loading it again would send the form again.
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
// Explanations for programs, in addition to the codes.
const MESSAGES: Readonly<Record<string, string>> = {
  insecure_cookies:
    "insecure cookies are for http://localhost only: open the app there, or serve it over HTTPS " +
    "without cookies: { insecure: true }",
};

/** The options of a refusal, in addition to its status and code. */
export interface RefusalOptions {
  readonly headers?: readonly (readonly [string, string])[];
  /** If true, the answer is a page for people, if there is a text for it. */
  readonly page?: boolean;
  /** The name of the page's text. Default: the code. */
  readonly text?: string;
  /** More fields of the JSON for programs. */
  readonly more?: Readonly<Record<string, unknown>>;
}

/** Makes the answer of a refusal: JSON with a code for programs, or a page for people. */
export function refusal(status: number, code: string, options: RefusalOptions = {}): Answer {
  const { headers = [], page = false, text = code, more = {} } = options;
  const shown = page ? TEXTS[text] : undefined;
  if (shown) return made(status, "text/html; charset=utf-8", htmlOf(shown), headers);
  const message = MESSAGES[code] === undefined ? {} : { message: MESSAGES[code] };
  const json = JSON.stringify({ error: code, ...message, ...more });
  return made(status, "application/json", json, headers);
}

/** Makes an answer that sends a browser to another page. */
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
 * The request can't be served. `answer` is the response to the client, which the middleware sends.
 * `code` is the reason in one word.
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

/** The request needs a good session, and has none. */
export class SignInRequired extends Refused {}

/**
 * The request needs a sign-in that is more recent or stronger. `wanted` says which. The session of
 * the request stays good.
 */
export class StepUpRequired extends SignInRequired {
  readonly wanted: StepUp;

  constructor(code: string, answer: Answer, wanted: StepUp) {
    super(code, answer);
    this.wanted = wanted;
  }
}

/** The request needs a session, and the Session Authority gives no answer about it. */
export class NoAnswer extends Refused {}

/**
 * A page of another origin sent a request that may change something. Neither the app nor the
 * Session Authority saw the request.
 */
export class CrossOrigin extends Refused {}

/**
 * A browser comes from another site, without its strict cookies. It must send the request again,
 * from a page of this origin. Neither the app nor the Session Authority saw the request.
 */
export class ReturnHop extends Refused {}

/**
 * The app has insecure cookies, and is not at http://localhost. Neither the app nor the Session
 * Authority saw the request.
 */
export class InsecureHost extends Refused {}
