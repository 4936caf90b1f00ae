/**
 * Finds the texts that users read, in their language. The file `messages/LANGUAGE.json` has the
 * texts of a language by key.
 */

import { textOf } from "./assets.js";

/** A text, or one text for each plural category of its language (Unicode CLDR). */
export type Message = string | Readonly<Record<string, string>>;

/** All texts in one language. */
export interface Texts {
  readonly language: string;
  readonly direction: "ltr" | "rtl";
  readonly messages: Readonly<Record<string, Message>>;
}

/** An app's own texts, by language and key. */
export type OwnMessages = Readonly<Record<string, Readonly<Record<string, Message>>>>;

const DEFAULT = "en";
/** The languages that come with the package. */
export const LANGUAGES = ["ar", "de", "en", "es", "fr", "tr"] as const;
const CATEGORIES = new Set(["zero", "one", "two", "few", "many", "other"]);
const TAG = /^[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*$/;
const QUALITY = /^q *= *([01](?:\.[0-9]{0,3})?)$/;
const RIGHT_TO_LEFT = new Set(["ar", "ckb", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi"]);
const MAX_RANGES = 20;
/**
 * The greatest number of subtags of a language tag that `chosenLanguage` reads. No language of an
 * app has more subtags, and each shorter form of a tag costs one lookup.
 */
const MAX_SUBTAGS = 8;

/** Checks an app's own texts. Throws TypeError if a language or a text is invalid. */
export function checkMessages(given: OwnMessages): void {
  for (const [language, texts] of Object.entries(given)) {
    if (!TAG.test(language)) {
      throw new TypeError(`messages: ${JSON.stringify(language)} is no language, like "de"`);
    }
    for (const [key, message] of Object.entries(texts)) {
      const forms = typeof message === "string" ? { other: message } : message;
      const known = Object.keys(forms).every((form) => CATEGORIES.has(form)) && "other" in forms;
      if (!known || !Object.values(forms).every((form) => typeof form === "string")) {
        throw new TypeError(
          `messages: ${language}, ${key}: must be a text, or one for each plural category, ` +
            '"other" among them',
        );
      }
    }
  }
}

/** Returns all texts in a language. A text that is missing in this language is in English. */
export function textsIn(language: string, own: OwnMessages): Texts {
  const known = (LANGUAGES as readonly string[]).includes(language) ? shipped(language) : {};
  return {
    language,
    direction: RIGHT_TO_LEFT.has(language.split("-", 1)[0] ?? "") ? "rtl" : "ltr",
    messages: { ...shipped(DEFAULT), ...own[DEFAULT], ...known, ...own[language] },
  };
}

/**
 * Returns the text with this key, or an empty string if there is no such text. The text must have
 * no plural forms and no placeholders.
 */
export function textFor({ messages }: Texts, key: string): string {
  const message = messages[key] ?? "";
  return typeof message === "string" ? message : (message.other ?? "");
}

/**
 * Returns the first language in `wanted` for which there are texts. If "de-AT" is wanted and has no
 * texts, the texts of "de" count. Returns English if no wanted language has texts.
 */
export function chosenLanguage(wanted: readonly string[], own: OwnMessages): string {
  const there = new Map(
    [...LANGUAGES, ...Object.keys(own)].map((name) => [name.toLowerCase(), name]),
  );
  for (const tag of wanted) {
    const parts = tag.toLowerCase().split("-").slice(0, MAX_SUBTAGS);
    for (let length = parts.length; length > 0; length--) {
      const found = there.get(parts.slice(0, length).join("-"));
      if (found !== undefined) return found;
    }
  }
  return DEFAULT;
}

/**
 * Returns the languages in `Accept-Language` headers, the language with the highest quality value
 * first.
 */
export function acceptedLanguages(headers: readonly string[]): string[] {
  return headers
    .join(",")
    .split(",")
    .slice(0, MAX_RANGES)
    .map((member) => {
      const [tag = "", ...parameters] = member.split(";").map((part) => part.trim());
      const named = parameters.map((each) => QUALITY.exec(each)).find((found) => found !== null);
      return { tag, quality: named ? Number(named[1]) : 1 };
    })
    .filter(({ tag, quality }) => TAG.test(tag) && quality > 0)
    .sort((one, other) => other.quality - one.quality)
    .map(({ tag }) => tag);
}

const read = new Map<string, Readonly<Record<string, Message>>>();

function shipped(language: string): Readonly<Record<string, Message>> {
  let texts = read.get(language);
  if (texts === undefined) {
    texts = JSON.parse(textOf(`messages/${language}.json`)) as Record<string, Message>;
    read.set(language, texts);
  }
  return texts;
}
