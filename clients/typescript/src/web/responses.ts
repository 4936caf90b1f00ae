/**
 * Makes the responses that the middleware sends instead of the app's response, and defines the
 * errors that carry these responses. A program gets JSON with a code, and a person gets a page. No
 * cache may keep these responses.
 */

import type { StepUp } from "./step_up.js";

/** A response that the middleware sends instead of the app's response. */
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
  /** Some sentences, as HTML, that say what the user can do next. */
  readonly sentences: string;
}

// The texts of the pages for people, by the name of the text.
const TEXTS: Readonly<Record<string, PageText>> = {
  unavailable: {
    heading: "Please try again in a moment",
    sentences:
      "We can't find out right now whether you are signed in. Wait a little, then " +
      '<a href="">try again</a>.',
  },
  // This text has no link to the same page, because loading the page again would send the form
  // again.
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
// Explanations for programs, by the code of the refusal. The JSON has them in addition to the code.
const MESSAGES: Readonly<Record<string, string>> = {
  insecure_cookies:
    "insecure cookies are for http://localhost only: open the app there, or serve it over HTTPS " +
    "without cookies: { insecure: true }",
};

/** The options of a refusal, in addition to its status and code. */
export interface RefusalOptions {
  readonly headers?: readonly (readonly [string, string])[];
  /**
   * If true, the answer is a page for people, provided that there is a text with the name `text`.
   */
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
 * The error for a request that the middleware or a visit refuses. `answer` is the response that the
 * middleware sends to the client. `code` is a short name of the reason.
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

/** The error for a request that needs a good session and has no good session. */
export class SignInRequired extends Refused {}

/**
 * The error for a request that needs a more recent or stronger sign-in. `wanted` is the sign-in
 * that the app requires. The session of the request stays good.
 */
export class StepUpRequired extends SignInRequired {
  readonly wanted: StepUp;

  constructor(code: string, answer: Answer, wanted: StepUp) {
    super(code, answer);
    this.wanted = wanted;
  }
}

/** The error for a request that needs a session while the Session Authority gives no answer. */
export class NoAnswer extends Refused {}

/**
 * The error for a request that may change something and that a page of another origin sent. Neither
 * the app nor the Session Authority saw the request.
 */
export class CrossOrigin extends Refused {}

/**
 * The error for a request that another site caused, and for which the browser kept back its strict
 * cookies. The browser must send the request again, from a page of this origin. Neither the app nor
 * the Session Authority saw the request.
 */
export class ReturnHop extends Refused {}

/**
 * The error for a request to a host other than localhost while the app has insecure cookies.
 * Neither the app nor the Session Authority saw the request.
 */
export class InsecureHost extends Refused {}
