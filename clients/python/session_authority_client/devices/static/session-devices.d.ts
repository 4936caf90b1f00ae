/** Types of session-devices.js, for apps in TypeScript that import it as a module. */

/** The `detail` of the event `session-devices:change`. */
export interface DevicesChange {
  action: "rename" | "sign-out" | "not-me" | "sign-out-others";
  /** The device that was meant; null for all others. */
  deviceId: string | null;
  /** How many devices were signed out. */
  signedOut: number;
}

export declare class SessionDevices extends HTMLElement {
  /** Reads the list again; resolves when it is shown. */
  refresh(): Promise<void>;
}

/** A text, or one for each plural category. */
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
