// @ts-check
/** The pages of the example, as HTML. */

const STYLE = `
    :root { color-scheme: light dark }
    body { font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 2rem auto;
        padding: 0 1rem; overflow-wrap: anywhere }
    h1 { font-size: 1.5rem }
    label, small { display: block }
    input, button { font: inherit; box-sizing: border-box; max-width: 100%; min-height: 2.75rem;
        padding: 0 1rem }
    input { margin: 0 .25rem .5rem 0 }
    [type=checkbox] { min-height: 0 }
    [role] { border-left: .25rem solid; padding-left: .75rem }
`;

/**
 * Returns the first page of a user.
 * @param {string} user
 * @param {{ done: boolean }} shown
 */
export function firstPage(user, { done }) {
  const changed = done ? '<p role="status">The password is changed.</p>' : "";
  return page(
    "Hello",
    `<h1>Hello ${escaped(user)}</h1>${changed}
    <p><a href="/devices">Your devices</a></p>
    <p><a href="/password">Change the password</a></p>
    <form method="post" action="/sign-out"><button>Sign out</button></form>`,
  );
}

/**
 * Returns the sign-in form.
 * @typedef {object} SignInPage
 * @property {string} name
 * @property {boolean} remember
 * @property {string} requestId
 * @property {boolean} [again]
 * @property {string} [problem]
 * @param {SignInPage} shown
 */
export function signInPage({ name, remember, requestId, again = false, problem = "" }) {
  const said = again ? '<p role="status">To go on, sign in again.</p>' : "";
  const wrong = problem ? `<p role="alert" id="problem">The name ${escaped(problem)}.</p>` : "";
  const described = problem ? 'aria-invalid="true" aria-describedby="problem"' : "";
  return page(
    "Sign in",
    `<h1>Sign in</h1>${said}${wrong}
    <form method="post">
        <input type="hidden" name="request_id" value="${escaped(requestId)}">
        <label for="user">Name</label>
        <input id="user" name="user" value="${escaped(name)}" autocomplete="username" required
            autofocus ${described}>
        <label><input type="checkbox" name="remember"${remember ? " checked" : ""}>
            Keep me signed in</label>
        <button>Sign in</button>
    </form>
    <p><small>This demo believes every name. The app's own proof goes here: a password, a passkey,
        OpenID Connect.</small></p>`,
  );
}

/**
 * Returns the form for a new password, for users who signed in a moment ago.
 * @param {string} user
 */
export function passwordPage(user) {
  return page(
    "New password",
    `<h1>New password</h1>
    <form method="post">
        <label for="password">The new password of ${escaped(user)}</label>
        <input id="password" name="password" type="password" autocomplete="new-password" required
            autofocus>
        <button>Change</button>
    </form>
    <p><small>This demo has no passwords. It shows that you signed in a moment ago.</small></p>`,
  );
}

/**
 * Returns a whole page.
 * @param {string} title
 * @param {string} body
 */
function page(title, body) {
  // Browsers may keep a page for their Back button, whatever its headers say. The script reloads
  // such a page, because it must not be shown again after a sign-out.
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
<script>addEventListener("pageshow", (event) => event.persisted && location.reload());</script>
${body}
</html>
`;
}

/** @param {string} text */
function escaped(text) {
  return text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}
