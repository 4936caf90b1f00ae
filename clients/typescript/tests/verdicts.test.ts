/** Tests that the fake gives the verdicts of the service, by the cases that all clients share. */

import { after, before } from "node:test";

import type { SessionAuthority } from "../src/client.js";
import { FakeAuthority, type FakeAuthorityOptions } from "../src/testing.js";
import type { Claims, Session } from "../src/types.js";
import { testVectors, type Vector } from "./vectors.js";

/** A token by the name of the step that handed it out, or a literal text. */
type PresentedToken = { token: string } | { token_text: string };
/** A literal device ID, or the name of the step whose validation assigned the device ID. */
type PresentedDevice = { device_id: string } | { device_id_of: string };
type Asked = PresentedToken & PresentedDevice & { as: string; passive?: boolean };

type Step =
  | { do: "wait"; seconds: number }
  | {
      do: "sign_in";
      as: string;
      user_id: string;
      device_id: string;
      claims?: Claims;
      auth_methods?: string[];
      session_ttl_seconds?: number;
      idle_timeout_seconds?: number;
    }
  | ({ do: "validate"; observe_only?: boolean } & Asked)
  | ({ do: "renew" } & Asked)
  | { do: "revoke_device"; user_id: string; device_id: string }
  | { do: "revoke_all"; user_id: string; except_device_id?: string }
  | { do: "update_session"; user_id: string; claims: Claims; device_id?: string }
  | { do: "list_devices"; as: string; user_id: string };

interface History {
  readonly settings: { readonly replay_alarm: NonNullable<FakeAuthorityOptions["replayAlarm"]> };
  readonly steps: readonly Step[];
}

const milliseconds = (seconds: number | undefined) =>
  seconds === undefined ? undefined : seconds * 1000;

const told = (session: Session | undefined) =>
  session === undefined ? null : { generation: session.generation, claims: session.claims };

/** Plays the steps of a history, and keeps their results. */
class Player {
  readonly results: Record<string, unknown> = {};
  readonly #tokens = new Map<string, string>();
  readonly #assigned = new Map<string, string>();

  constructor(
    readonly authority: FakeAuthority,
    readonly client: SessionAuthority,
  ) {}

  async play(step: Step): Promise<void> {
    const { client } = this;
    switch (step.do) {
      case "wait":
        this.authority.passTime(step.seconds * 1000);
        return;
      case "sign_in": {
        const issued = await client.issueDevice(step.user_id, {
          deviceId: step.device_id,
          claims: step.claims,
          authMethods: step.auth_methods,
          sessionTtlMs: milliseconds(step.session_ttl_seconds),
          idleTimeoutMs: milliseconds(step.idle_timeout_seconds),
        });
        this.#tokens.set(step.as, issued.accessToken);
        return;
      }
      case "validate": {
        const { passive, observe_only: observeOnly } = step;
        const options = { passive, observeOnly };
        const found = await client.validateSession(this.#token(step), this.#device(step), options);
        this.#assigned.set(step.as, found.deviceId);
        this.results[step.as] = {
          status: found.status,
          renew_recommended: found.renewRecommended,
          revoked_devices: found.revokedDevices,
          device_id_assigned: found.deviceIdAssigned,
          session: told(found.session),
        };
        return;
      }
      case "renew": {
        const { passive } = step;
        const found = await client.renewSession(this.#token(step), this.#device(step), { passive });
        this.#tokens.set(step.as, found.accessToken ?? "");
        this.results[step.as] = {
          status: found.status,
          rotated: found.rotated && found.accessToken !== undefined,
          revoked_devices: found.revokedDevices,
          session: told(found.session),
        };
        return;
      }
      case "revoke_device":
        await client.revokeDevice(step.user_id, step.device_id);
        return;
      case "revoke_all":
        await client.revokeAll(step.user_id, { exceptDeviceId: step.except_device_id });
        return;
      case "update_session":
        await client.updateSession(step.user_id, step.claims, { deviceId: step.device_id });
        return;
      case "list_devices": {
        const { devices } = await client.listDevices(step.user_id, { includeSignedOut: true });
        const listed = devices.map(({ deviceId, signedIn, authMethods, lastAlarm }) => [
          deviceId,
          {
            signed_in: signedIn,
            auth_methods: authMethods,
            replay_cause: lastAlarm?.replayCause ?? null,
          },
        ]);
        this.results[step.as] = { devices: Object.fromEntries(listed) as unknown };
      }
    }
  }

  #token(step: PresentedToken): string {
    return "token" in step ? named(this.#tokens, step.token) : step.token_text;
  }

  #device(step: PresentedDevice): string {
    return "device_id" in step ? step.device_id : named(this.#assigned, step.device_id_of);
  }
}

function named(known: ReadonlyMap<string, string>, name: string): string {
  const found = known.get(name);
  if (found === undefined) throw new Error(`no step before has the name ${name}`);
  return found;
}

const authorities = new Map<string, FakeAuthority>();

before(async () => {
  for (const replayAlarm of ["presented", "renewed"] as const) {
    authorities.set(replayAlarm, await new FakeAuthority({ replayAlarm }).start());
  }
});

after(() => {
  for (const authority of authorities.values()) authority.stop();
});

testVectors("verdicts", async ({ given: { settings, steps } }: Vector<History>) => {
  const authority = authorities.get(settings.replay_alarm);
  if (authority === undefined) throw new Error(`no fake has the alarm ${settings.replay_alarm}`);
  authority.reset();
  await using client = authority.client();
  const player = new Player(authority, client);
  for (const step of steps) await player.play(step);
  return { results: player.results };
});
