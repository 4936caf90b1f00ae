"""Makes the screens of the page "My devices": the list of devices, the questions before devices are
signed out, the next steps after "That wasn't me", and the error screens.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from session_authority_client._shared.device_ids import canonical_device_id
from session_authority_client._shared.responses import Response
from session_authority_client.devices import locales
from session_authority_client.devices.answers import STATUS, Header
from session_authority_client.devices.card import card, when
from session_authority_client.devices.catalogue import Texts
from session_authority_client.devices.icons import icon
from session_authority_client.devices.layout import button, form, hidden, link, screen, with_element
from session_authority_client.devices.listing import Alarm, Listing
from session_authority_client.devices.markup import Markup, Node, element, phrase
from session_authority_client.devices.settings import DevicesPage
from session_authority_client.devices.titles import titles_of
from session_authority_client.types import Device


def list_screen(
    page: DevicesPage, texts: Texts, found: Listing, query: Mapping[str, str]
) -> Response:
    """Makes the screen with the list of devices. The fields of `query` may name the result of the
    last form that the user sent, the page of the list, and the event that a mail was about.
    """
    titles = titles_of(found.everything, texts)
    here = [d for d in found.devices if d.signed_in]
    out = [d for d in found.devices if not d.signed_in]
    later = bool(query.get("after"))
    return screen(
        page,
        texts,
        texts.text("title"),
        element(
            "header", element("h1", texts.text("title")), element("p", texts.text("page.intro"))
        ),
        with_element(
            page,
            texts,
            query.get("alarm", ""),
            _notice(texts, found, titles, query),
            _alarms(page, texts, found, titles),
            _cards(page, texts, here, titles, found),
            _pager(page, texts, found, later=later),
            None if later else _others(page, texts, found),
            _signed_out(page, texts, out, titles, found, is_open=later and not here),
        ),
    )


def _cards(
    page: DevicesPage,
    texts: Texts,
    devices: list[Device],
    titles: Mapping[str, str],
    found: Listing,
) -> Markup | None:
    cards = [card(page, texts, each, titles[each.device_id], found) for each in devices]
    return element("ul", cards, class_="devices") if cards else None


def _others(page: DevicesPage, texts: Texts, found: Listing) -> Markup:
    if not found.others:
        return element("p", texts.text("empty"), class_="empty")
    return element(
        "section",
        element("p", texts.text("others.explain")),
        link(texts.text("others.button"), f"{page.path}/sign-out-others", style="button danger"),
        class_="others",
    )


def _signed_out(
    page: DevicesPage,
    texts: Texts,
    devices: list[Device],
    titles: Mapping[str, str],
    found: Listing,
    *,
    is_open: bool,
) -> Markup | None:
    if not devices:
        return None
    marked = found.marked in {device.device_id for device in devices}
    count = texts.text("signed_out_devices", found.signed_out)
    return element(
        "details",
        element("summary", count),
        _cards(page, texts, devices, titles, found),
        class_="signed-out",
        open=is_open or marked,
    )


def _pager(page: DevicesPage, texts: Texts, found: Listing, *, later: bool) -> Markup | None:
    links = []
    if later:
        links.append(link(texts.text("first_page"), page.path))
    if found.next_cursor:
        query = urlencode({"after": found.next_cursor})
        links.append(link(texts.text("show_more"), f"{page.path}?{query}"))
    return element("nav", links, aria_label=texts.text("title")) if links else None


def _notice(
    texts: Texts, found: Listing, titles: Mapping[str, str], query: Mapping[str, str]
) -> Markup | None:
    """Makes the text with the result of the last form that the user sent. `query` names the result
    of the form. An attacker can write the query, so a result that the list of devices contradicts
    is not shown.
    """
    told = _result(texts, found, titles, query)
    return told and element("p", told, class_="notice", role="status")


def _result(
    texts: Texts, found: Listing, titles: Mapping[str, str], query: Mapping[str, str]
) -> Markup | None:
    done, device_id = query.get("done"), query.get("device", "")
    title = element("bdi", titles.get(device_id, ""))
    signed_in = {device.device_id for device in found.everything if device.signed_in}
    if done == "others" and not found.others:
        count = query.get("count", "")
        if count.isascii() and count.isdecimal() and int(count[:9]) > 0:
            return phrase(texts, "done.others", int(count[:9]), count=_number(texts, count))
        return phrase(texts, "done.no_others")
    if device_id not in titles:
        return None
    if done == "renamed":
        return phrase(texts, "done.renamed", name=title)
    if done == "name_removed":
        return phrase(texts, "done.name_removed")
    if done == "signed_out" and device_id not in signed_in:
        return phrase(texts, "done.signed_out", device=title)
    return None


def _number(texts: Texts, count: str) -> str:
    return locales.number(int(count[:9]), texts.language)


def _alarms(
    page: DevicesPage, texts: Texts, found: Listing, titles: Mapping[str, str]
) -> Markup | None:
    if not found.alarms:
        return None
    # If a mail was about one of the alarms, the alarm of the mail comes first.
    first, *rest = sorted(found.alarms, key=lambda alarm: not alarm.event_id)
    earlier = element(
        "details",
        element("summary", texts.text("alarm.earlier", len(rest))),
        element("ul", [element("li", _alarm(texts, one, found, titles)) for one in rest]),
    )
    url = page.password_url
    return element(
        "section",
        icon("alarm"),
        element(
            "div",
            element("h2", texts.text("alarm.title"), id="alarm-title"),
            element("p", texts.text("mail.alarm")) if first.event_id else None,
            element("p", _alarm(texts, first, found, titles)),
            element("p", texts.text("alarm.advice")),
            link(texts.text("not_me.secure_account"), url) if url else None,
            earlier if rest else None,
            class_="about",
        ),
        class_="alarm-banner",
        aria_labelledby="alarm-title",
    )


def _alarm(texts: Texts, alarm: Alarm, found: Listing, titles: Mapping[str, str]) -> Markup:
    title = titles.get(alarm.device_id) or texts.text("alarm.unknown_device")
    device, moment = element("bdi", title), when(texts, alarm.at, found.now)
    return phrase(texts, "alarm.token_replayed", device=device, when=moment)


# --- the other screens ----------------------------------------------------------------------------


def others_screen(page: DevicesPage, texts: Texts) -> Response:
    """Makes the screen that asks for confirmation before the user is signed out on all other
    devices.
    """
    return _question(
        page,
        texts,
        texts.text("others.ask"),
        [element("p", texts.text("others.effect")), element("p", texts.text("others.explain"))],
        form(
            f"{page.path}/sign-out-others",
            button(texts.text("others.confirm"), style="danger"),
        ),
    )


def not_me_screen(page: DevicesPage, texts: Texts, found: Listing, device_id: str) -> Response:
    """Makes the screen that asks for confirmation before a device that the user does not know is
    signed out.
    """
    title = titles_of(found.everything, texts)[device_id]
    return _question(
        page,
        texts,
        texts.text("not_me.ask", device=title),
        element("p", texts.text("not_me.effect")),
        form(
            f"{page.path}/not-me",
            hidden("device", device_id),
            button(texts.text("not_me.confirm"), style="danger"),
        ),
    )


def secure_screen(
    page: DevicesPage, texts: Texts, found: Listing, query: Mapping[str, str]
) -> Response:
    """Makes a screen that links to the app's password page, and offers to sign out all other
    devices. The fields of `query` may name a device that was just signed out and removed from the
    list. The fields may also say that the user comes back from the password page.
    """
    named = canonical_device_id(query.get("device", ""))
    is_gone = bool(named) and named not in {device.device_id for device in found.everything}
    url = None if query.get("done") == "password" else page.password_url
    advice = "secure.done_alone"
    if url is None:
        advice = "not_me.next_without_password" if found.others else "empty"
    elif is_gone:
        advice = "not_me.next"
    others = form(
        f"{page.path}/sign-out-others",
        button(texts.text("others.button"), style="danger"),
    )
    gone = element("p", texts.text("not_me.forgotten"), class_="notice")
    return _question(
        page,
        texts,
        texts.text("secure.title"),
        [gone if is_gone else None, element("p", texts.text(advice))],
        link(texts.text("not_me.secure_account"), url, style="button primary") if url else None,
        others if found.others else None,
        back=texts.text("back"),
    )


def failure_screen(
    page: DevicesPage, texts: Texts, code: str, headers: tuple[Header, ...]
) -> Response:
    """Makes the screen that says why a request failed."""
    waits = code in ("unavailable", "too_many_requests")
    return screen(
        page,
        texts,
        texts.text("error.title"),
        element("h1", texts.text("error.title")),
        element("p", texts.text(f"error.{code}"), role="alert"),
        element("p", texts.text("error.wait")) if waits else None,
        element(
            "div",
            link(texts.text("try_again" if waits else "back"), page.path),
            class_="answers",
        ),
        status=STATUS[code],
        headers=headers,
    )


def signed_out_screen(
    page: DevicesPage, texts: Texts, headers: tuple[Header, ...], *, leads_on: bool
) -> Response:
    """Makes the screen that says that the user is signed out. `leads_on` is True if the page of
    devices redirects a signed-out user to the sign-in. If `leads_on` is False, the screen has no
    link to the page of devices, because the link would show this screen again.
    """
    way = element("div", link(texts.text("back"), page.path), class_="answers")
    return screen(
        page,
        texts,
        texts.text("title"),
        element("h1", texts.text("title")),
        element("p", texts.text("error.signed_out"), role="alert"),
        element("p", texts.text("error.sign_in")),
        way if leads_on else None,
        status=STATUS["signed_out"],
        headers=headers,
    )


def _question(
    page: DevicesPage,
    texts: Texts,
    heading: str,
    explained: Node,
    *ways: Markup | None,
    back: str = "",
) -> Response:
    return screen(
        page,
        texts,
        heading,
        element("h1", heading),
        explained,
        element("div", *ways, link(back or texts.text("cancel"), page.path), class_="answers"),
    )
