"""Rules of the clients, each broken on purpose, and the scenario that must notice it. A row
replaces one text in one file of a client.
"""

from __future__ import annotations

from typing import NamedTuple


class Broken(NamedTuple):
    """A rule that a client no longer keeps."""

    client: str
    rule: str
    file: str
    old: str
    new: str
    scenarios: str  # A file of scenarios, and an expression of pytest's -k.


_PYTHON = "session_authority_client"
_RETRIES, _DEADLINES = "test_retries.py", "test_deadlines.py"
_BATCHING, _FLIGHT = "test_batching.py", "test_single_flight.py"
_CACHE, _WATCH = "test_cache.py", "test_cache_watch.py"

BROKEN = (
    Broken(
        *("python", "a conflict is not tried again", f"{_PYTHON}/_shared/transport.py"),
        '"retryableStatusCodes": ["UNAVAILABLE"]',
        '"retryableStatusCodes": ["UNAVAILABLE", "ABORTED"]',
        f"{_RETRIES} no_other_failure and ABORTED",
    ),
    Broken(
        *("python", "three attempts are enough", f"{_PYTHON}/_shared/transport.py"),
        *('"maxAttempts": 3', '"maxAttempts": 5'),
        f"{_RETRIES} three_attempts and UNAVAILABLE",
    ),
    Broken(
        *("python", "a dropped call is made again", f"{_PYTHON}/_shared/calls.py"),
        *("PAUSES_SECONDS = (0.02, 0.1)", "PAUSES_SECONDS: tuple[float, ...] = ()"),
        f"{_RETRIES} retried_unchanged and CANCELLED and ListDevices",
    ),
    Broken(
        *("python", "retries stop while a service is down", f"{_PYTHON}/_shared/transport.py"),
        *('"maxTokens": 20', '"maxTokens": 1000'),
        f"{_RETRIES} do_not_keep_a_service_down",
    ),
    Broken(
        *("python", "a call has 300 ms", f"{_PYTHON}/_shared/transport.py"),
        *("timedelta(milliseconds=300)", "timedelta(milliseconds=900)"),
        f"{_DEADLINES} 300_ms",
    ),
    Broken(
        *("python", "validations at once are batched", f"{_PYTHON}/_shared/batching.py"),
        *("MAX_ITEM_BYTES = 8 * 1024", "MAX_ITEM_BYTES = 0"),
        f"{_BATCHING} few_calls",
    ),
    Broken(
        *("python", "an event drops what is kept", f"{_PYTHON}/cache.py"),
        *("for key in self._of_user.pop(user_id, ()):", "for key in ():"),
        f"{_CACHE} drops_only_the_answers_for_its_user",
    ),
    Broken(
        *("python", "an overtaken answer is not kept", f"{_PYTHON}/cache.py"),
        "if self._last_events[_counter(session.user_id)] > ticket.events:",
        "if False:",
        f"{_CACHE} older_than_an_event_is_not_kept",
    ),
    Broken(
        *("python", "a renewal is not hidden", f"{_PYTHON}/cache.py"),
        *(" or answer.renew_recommended:", ":"),
        f"{_CACHE} recommends_a_renewal",
    ),
    Broken(
        *("python", "a proof grows old", f"{_PYTHON}/cache.py"),
        *("min(proven, now) + self._max_silence", "now + 3600"),
        f"{_WATCH} stalls",
    ),
    Broken(
        *("python", "a proof counts from when it was read", f"{_PYTHON}/cache.py"),
        *("min(proven, now) + self._max_silence", "now + self._max_silence"),
        f"{_WATCH} delayed_proof",
    ),
    Broken(
        *("python", "nothing outlives its watch", f"{_PYTHON}/cache.py"),
        "        self._watch += 1\n        self._empty()\n",
        "        self._watch += 1\n",
        f"{_WATCH} outlive",
    ),
    Broken(
        *("python", "nobody joins an overtaken call", f"{_PYTHON}/_shared/coalescing.py"),
        *("ticket.watch, ticket.events", "ticket.watch, 0"),
        f"{_CACHE} does_not_join",
    ),
    Broken(
        *("go", "only what was not carried out is tried again", "retries.go"),
        *("case codes.Canceled:", "case codes.Canceled, codes.Aborted:"),
        f"{_RETRIES} no_other_failure and ABORTED",
    ),
    Broken(
        *("go", "three attempts are enough", "retries.go"),
        "{20 * time.Millisecond, 100 * time.Millisecond}",
        "{20 * time.Millisecond, 100 * time.Millisecond, time.Millisecond}",
        f"{_RETRIES} three_attempts",
    ),
    Broken(
        *("go", "retries stop while a service is down", "retries.go"),
        *("maxRetryTokens = 20", "maxRetryTokens = 1000"),
        f"{_RETRIES} do_not_keep_a_service_down",
    ),
    Broken(
        *("go", "a call has 300 ms", "options.go"),
        *("300 * time.Millisecond", "900 * time.Millisecond"),
        f"{_DEADLINES} 300_ms",
    ),
    Broken(
        *("go", "validations at once are batched", "batching.go"),
        *("maxItemBytes = 8 << 10", "maxItemBytes = 0"),
        f"{_BATCHING} few_calls",
    ),
    Broken(
        *("go", "nobody joins an overtaken call", "cache.go"),
        *("strconv.AppendUint(key, ticket.Events, 10)", "strconv.AppendUint(key, 0, 10)"),
        f"{_CACHE} does_not_join",
    ),
    Broken(
        *("go", "a look that is no use passes the cache by", "validating.go"),
        *("!opts.ObserveOnly && !opts.Passive", "!opts.ObserveOnly"),
        f"{_CACHE} passive_validation_does_not_use_the_cache",
    ),
    Broken(
        *("go", "a renewed token is asked for again", "cache.go"),
        *("c.cache.kept.Discard(accessToken, deviceID)", ""),
        f"{_CACHE} renewed_token",
    ),
    Broken(
        *("go", "an own revocation does not wait for the event", "cache.go"),
        *("c.cache.kept.ForgetUser(userID)", ""),
        f"{_CACHE} own_revocation",
    ),
    Broken(
        *("go", "a caller with more time asks again", "cache.go"),
        *(
            "if first || !hadTooLittleTime(landed.Err)",
            "if !first || !hadTooLittleTime(landed.Err)",
        ),
        f"{_FLIGHT} more_time",
    ),
    Broken(
        *("typescript", "only what was not carried out is tried again", "src/retries.ts"),
        *("if (code !== UNAVAILABLE)", "if (code !== UNAVAILABLE && code !== 10)"),
        f"{_RETRIES} no_other_failure and ABORTED",
    ),
    Broken(
        *("typescript", "three attempts are enough", "src/retries.ts"),
        *("MAX_ATTEMPTS = 3", "MAX_ATTEMPTS = 5"),
        f"{_RETRIES} three_attempts and UNAVAILABLE",
    ),
    Broken(
        *("typescript", "retries stop while a service is down", "src/retries.ts"),
        *("MAX_TOKENS = 20;", "MAX_TOKENS = 1000;"),
        f"{_RETRIES} do_not_keep_a_service_down",
    ),
    Broken(
        *("typescript", "a call has 300 ms", "src/client.ts"),
        *("DEFAULT_TIMEOUT_MS = 300", "DEFAULT_TIMEOUT_MS = 900"),
        f"{_DEADLINES} 300_ms",
    ),
    Broken(
        *("typescript", "validations at once are batched", "src/batching.ts"),
        *("MAX_ITEM_BYTES = 8 * 1024", "MAX_ITEM_BYTES = 0"),
        f"{_BATCHING} few_calls",
    ),
    Broken(
        *("typescript", "an event drops what is kept", "src/cache.ts"),
        'this.#ofUser.get(userId) ?? []) this.#remove(entry, "event")',
        'this.#ofUser.get(userId) ?? []) if (userId === "") this.#remove(entry, "event")',
        f"{_CACHE} drops_only_the_answers_for_its_user",
    ),
    Broken(
        *("typescript", "an overtaken answer is not kept", "src/cache.ts"),
        *("this.#lastEvent(session.userId) > ticket.events", "ticket.events < 0"),
        f"{_CACHE} older_than_an_event_is_not_kept",
    ),
    Broken(
        *("typescript", "a renewal is not hidden", "src/cache.ts"),
        *("!answer.active || answer.renewRecommended", "!answer.active"),
        f"{_CACHE} recommends_a_renewal",
    ),
    Broken(
        *("typescript", "a proof counts from when it was read", "src/cache.ts"),
        *("Math.min(proven, now) + this.maxSilenceMs", "now + this.maxSilenceMs"),
        f"{_WATCH} delayed_proof",
    ),
    Broken(
        *("typescript", "nobody joins an overtaken call", "src/coalescing.ts"),
        *("ticket.watch, ticket.events]", "ticket.watch]"),
        f"{_CACHE} does_not_join",
    ),
)
