"""The lines of the corpora: what a client sends, and what a person expects to see for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from session_authority.domain.appearances.hints import NO_HINTS, Brand, ClientHints, clean_hints

# The longest name that is shown: a program with its version on a model. Both names have at most 64
# characters, and the version is a number.
MAX_NAME_CHARACTERS = 140
HERE = Path(__file__).parent
# The text that each engine always sends.
ENGINES = {
    "BLINK": "AppleWebKit/537.36 (KHTML, like Gecko)",
    "WEBKIT": "AppleWebKit/605.1.15 (KHTML, like Gecko)",
}


@dataclass(frozen=True)
class Line:
    """One client. `expected` holds its form factor, name, system, browser and model."""

    where: str
    expected: tuple[str, ...]
    user_agent: str
    hints: ClientHints
    is_known_fault: bool


def lines(name: str) -> list[Line]:
    """The lines of a corpus."""
    read = []
    for number, text in enumerate((HERE / name).read_text("utf-8").splitlines(), 1):
        if not text or text.startswith("#"):
            continue
        *expected, sent = (part.strip() for part in text.removeprefix("known: ").split("|", 5))
        agent, _, hints = (part.strip() for part in sent.partition("||"))
        for engine, said in ENGINES.items():
            agent = agent.replace(engine, said)
        is_known = text.startswith("known: ")
        where = f"{name}:{number}"
        read.append(Line(where, tuple(expected), agent, _hints(hints), is_known))
    return read


def _hints(written: str) -> ClientHints:
    if not written:
        return NO_HINTS
    brands, platform, model, mobile, kinds = (
        "" if part.strip() == "-" else part.strip() for part in written.split(" / ")
    )
    system, _, version = platform.rpartition(" ")
    return clean_hints(
        brands=[Brand(*brand.strip().rsplit(" ", 1)) for brand in brands.split(",") if brand],
        platform=system,
        platform_version=version.removeprefix("-"),
        model=model,
        mobile={"?1": True, "?0": False}.get(mobile),
        form_factors=kinds.split(", ") if kinds else (),
    )
