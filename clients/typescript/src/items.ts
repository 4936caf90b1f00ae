/** Converts each item of a batch's response. An item is either an answer or an error. */

import * as convert from "./convert.js";
import type { SessionAuthorityError } from "./errors.js";
import { errorOfItem, internalError } from "./failures.js";
import type * as pb from "./gen/session_authority/v1/session_authority_pb.js";
import type { SessionState, Validation } from "./types.js";

/**
 * Returns the error for an item that breaks the contract: it has neither an answer nor an error.
 */
function empty(): SessionAuthorityError {
  return internalError("the answer has an empty item");
}

/** Returns the response message in an item of BatchValidateSessions, or the item's error. */
export function validationMessage({
  outcome,
}: pb.BatchValidateSessionsResult): pb.ValidateSessionResponse | SessionAuthorityError {
  if (outcome.case === "response") return outcome.value;
  return outcome.case === "error" ? errorOfItem(outcome.value) : empty();
}

/** Returns the validation in an item of BatchValidateSessions, or the item's error. */
export function validationItem(
  result: pb.BatchValidateSessionsResult,
): Validation | SessionAuthorityError {
  const found = validationMessage(result);
  return found instanceof Error ? found : convert.validation(found);
}

/** Returns the state of a session in an item of CheckSessions, or the item's error. */
export function stateItem({
  outcome,
}: pb.CheckSessionsResult): SessionState | SessionAuthorityError {
  if (outcome.case === "state") return convert.sessionState(outcome.value);
  return outcome.case === "error" ? errorOfItem(outcome.value) : empty();
}
