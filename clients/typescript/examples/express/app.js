// @ts-check
/**
 * An app with Express: a sign-in, a first page for users who are signed in, and "My devices".
 *
 *     AUTHORITY=127.0.0.1:50051 LISTEN=localhost:8000 node examples/express/app.js
 */

import { randomUUID } from "node:crypto";

import { NearCache, SessionAuthority, SessionAuthorityError } from "@session-authority/client";
import {
  answerRefusals,
  requireSession,
  sessionAuthority,
} from "@session-authority/client/express";
import express from "express";

import { firstPage, passwordPage, signInPage } from "./pages.js";

const { AUTHORITY = "127.0.0.1:50051", LISTEN = "localhost:8000" } = process.env;
const FIVE_MINUTES_MS = 5 * 60 * 1000;

const sessions = sessionAuthority(
  // The timeout is long, because a person at a page prefers a short wait to an error page.
  () => new SessionAuthority(AUTHORITY, { cache: new NearCache(), timeoutMs: 5000 }),
  {
    signInUrl: "/sign-in",
    devices: { secureAccountUrl: "/password" },
    // Remove `cookies` if you serve over HTTPS: these cookies are for http://localhost only. At any
    // other host the request is refused.
    cookies: { insecure: true },
  },
);

const app = express();
app.use(sessions);
app.use(express.urlencoded({ extended: false }));

app.get("/", requireSession(), (request, response) => {
  const done = request.query["done"] === "password";
  response.send(firstPage(request.visit.require().userId, { done }));
});

// A page that requires a recent sign-in also redirects users here who are signed in.
app.get("/sign-in", (request, response) => {
  const { visit } = request;
  const again = visit.requestedStepUp() === undefined ? undefined : visit.session;
  const name = again?.userId ?? "";
  const remember = again === undefined || visit.remembered;
  response.send(
    signInPage({ name, remember, again: again !== undefined, requestId: randomUUID() }),
  );
});

app.post("/sign-in", async (request, response) => {
  const { user, remember, request_id: requestId } = request.body;
  const name = String(user ?? "").trim();
  const remembers = remember !== undefined;
  // Verify here that the user is who they claim to be: by a password, a passkey, or OpenID Connect.
  // This demo accepts every name.
  try {
    const given = { remember: remembers, requestId: String(requestId ?? "") };
    await request.visit.signIn(name, given);
  } catch (error) {
    if (!(error instanceof SessionAuthorityError)) throw error;
    if (error.kind === "invalid_request") {
      // The name is empty, too long, or has characters that the service does not accept.
      const problem = error.violations.map(({ description }) => description).join(", ");
      const page = { name, remember: remembers, problem, requestId: randomUUID() };
      response.status(400).send(signInPage(page));
      return;
    }
    // A user has already signed in with this form.
    const isOld = error.kind === "request_id_reused" || error.kind === "request_id_spent";
    if (!isOld) throw error;
  }
  response.redirect(303, request.visit.nextPath());
});

app.get("/password", requireSession({ maxAgeMs: FIVE_MINUTES_MS }), (request, response) => {
  response.send(passwordPage(request.visit.require().userId));
});

app.post("/password", requireSession({ maxAgeMs: FIVE_MINUTES_MS }), (request, response) => {
  // Change the password here.
  response.redirect(303, request.visit.nextPath("/?done=password"));
});

app.post("/sign-out", async (request, response) => {
  await request.visit.signOut();
  response.redirect(303, "/");
});

app.use(answerRefusals);

const [host = "localhost", port = "8000"] = LISTEN.split(":");
const server = app.listen(Number(port), host);
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, () => {
    server.close();
    server.closeAllConnections();
    sessions.close();
  });
}
