/**
 * Makes the page of devices: the HTML with the custom element that shows the list. The response's
 * headers let the page load only files of this origin.
 */

import type { Answer } from "../responses.js";
import { asset, assetUrl, ELEMENT, STYLE } from "./assets.js";
import { type Texts, textFor } from "./texts.js";

const POLICY =
  "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; " +
  "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";
const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/**
 * Returns the page of devices. `alarm` is the ID of the event in the link of a mail, or empty if
 * the user did not come from a mail.
 */
export function devicesPage(mount: string, texts: Texts, alarm: string): Answer {
  const event = alarm === "" ? "" : ` alarm="${escaped(alarm)}"`;
  // The attribute `sign-in` is the URL of this page, which redirects a signed-out user to the
  // sign-in page.
  const element =
    `<session-devices src="${mount}" sign-in="${mount}" ` +
    `language="${escaped(texts.language)}"${event}></session-devices>`;
  return page(200, mount, texts, textFor(texts, "title"), element);
}

/** Returns the page that says why the page of devices is not shown. */
export function problemPage(
  status: number,
  mount: string,
  texts: Texts,
  code: string,
  headers: readonly (readonly [string, string])[] = [],
): Answer {
  const said = `<p role="alert">${escaped(textFor(texts, `error.${code}`))}</p>`;
  const title = textFor(texts, status === 401 ? "title" : "error.title");
  return page(status, mount, texts, title, `<h1>${escaped(title)}</h1>${said}`, headers);
}

function page(
  status: number,
  mount: string,
  texts: Texts,
  title: string,
  main: string,
  headers: readonly (readonly [string, string])[] = [],
): Answer {
  const style = asset(STYLE);
  const script = asset(ELEMENT);
  if (style === undefined || script === undefined) throw new Error("the package lacks a file");
  const head = [
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    '<meta name="robots" content="noindex">',
    `<title>${escaped(title)}</title>`,
    '<link rel="icon" href="data:,">',
    `<link rel="stylesheet" href="${assetUrl(mount, style)}" integrity="${style.integrity}">`,
    `<script type="module" src="${assetUrl(mount, script)}" ` +
      `integrity="${script.integrity}"></script>`,
  ].join("\n");
  const body =
    `<!doctype html>\n<html lang="${escaped(texts.language)}" dir="${texts.direction}">\n` +
    `<head>\n${head}\n</head>\n<body><main>${main}</main></body>\n</html>\n`;
  return {
    status,
    headers: [
      ["Content-Type", "text/html; charset=utf-8"],
      ["Content-Length", String(Buffer.byteLength(body))],
      ["Content-Security-Policy", POLICY],
      ["X-Content-Type-Options", "nosniff"],
      ["Referrer-Policy", "same-origin"],
      ["Cross-Origin-Resource-Policy", "same-origin"],
      ["Cache-Control", "no-store"],
      ...headers,
    ],
    body,
  };
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (letter) => ESCAPES[letter] ?? letter);
}
