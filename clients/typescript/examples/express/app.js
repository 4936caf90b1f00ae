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
  // People at a page would rather wait than read that nobody knows whether they are signed in.
  () => new SessionAuthority(AUTHORITY, { cache: new NearCache(), timeoutMs: 5000 }),
  {
    signInUrl: "/sign-in",
    devices: { secureAccountUrl: "/password" },
    // Leave `cookies` out behind HTTPS: these are for http://localhost, and refused elsewhere.
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

// A page that wants a recent sign-in sends users here, too, who are signed in.
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
  // Your own proof of who it is goes here: a password, a passkey, OpenID Connect. This demo
  // believes every name.
  try {
    const given = { remember: remembers, requestId: String(requestId ?? "") };
    await request.visit.signIn(name, given);
  } catch (error) {
    if (!(error instanceof SessionAuthorityError)) throw error;
    if (error.kind === "invalid_request") {
      // The name is empty, or far too long.
      const problem = error.violations.map(({ description }) => description).join(", ");
      const page = { name, remember: remembers, problem, requestId: randomUUID() };
      response.status(400).send(signInPage(page));
      return;
    }
    // This form has signed somebody in before.
    const isOld = error.kind === "request_id_reused" || error.kind === "request_id_spent";
    if (!isOld) throw error;
  }
  response.redirect(303, request.visit.nextPath());
});

app.get("/password", requireSession({ maxAgeMs: FIVE_MINUTES_MS }), (request, response) => {
  response.send(passwordPage(request.visit.require().userId));
});

app.post("/password", requireSession({ maxAgeMs: FIVE_MINUTES_MS }), (request, response) => {
  // Your own change goes here.
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
