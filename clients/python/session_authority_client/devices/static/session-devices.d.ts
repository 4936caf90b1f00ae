/** Types of session-devices.js, for apps in TypeScript that import it as a module. */

/** The `detail` of the event `session-devices:change`. */
export interface DevicesChange {
  action: "rename" | "sign-out" | "not-me" | "sign-out-others";
  /** The ID of the device. Null if the action is `sign-out-others`. */
  deviceId: string | null;
  /** How many devices were signed out. 0 after a rename. */
  signedOut: number;
}

export declare class SessionDevices extends HTMLElement {
  /** Reads the list again. Resolves when the list, or the reason why there is none, is shown. */
  refresh(): Promise<void>;
}

/** The English texts, by key: each a text, or a text for each plural category. */
export declare const ENGLISH: Readonly<Record<string, string | Readonly<Record<string, string>>>>;

declare global {
  interface HTMLElementTagNameMap {
    "session-devices": SessionDevices;
  }
  interface HTMLElementEventMap {
    "session-devices:change": CustomEvent<DevicesChange>;
    "session-devices:signedout": CustomEvent<Record<string, never>>;
  }
}
