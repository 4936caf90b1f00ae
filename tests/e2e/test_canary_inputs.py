"""Settings and files with a secret in the wrong place, or with a wrong secret in the right place:
no error shows a secret.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from session_authority import cli
from session_authority.access import add_token, new_token
from session_authority.runtime.settings import Settings
from tests.e2e.canaries import Canaries, Place, note_key, note_pem
from tests.processes.harness import add_signing_key
from tests.relay.receiver import SECRET
from tests.support.ca import CA


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., bytes]]:
    """Runs a command in this process. It must fail. Returns everything that it prints."""
    monkeypatch.setattr(
        "session_authority.processes.workers.run",
        lambda *_: pytest.fail("a server was started in this process"),
    )

    def run_in_vain(*command: str, **settings: str) -> bytes:
        environment = {f"SESSION_AUTHORITY_{name}": value for name, value in settings.items()}
        result = CliRunner().invoke(
            cli.app, list(command), prog_name="session-authority", env=environment
        )
        assert result.exit_code in (1, 2), result.output
        assert isinstance(result.exception, SystemExit), (
            "an exception would be printed with all that it holds"
        )
        return result.output.encode()

    yield run_in_vain
    structlog.reset_defaults()


def names_a_file(name: str) -> bool:
    """Returns whether the setting names a file or folder: the error about a missing file shows its
    name.
    """
    return "Path" in str(Settings.model_fields[name].annotation)


Told = Callable[..., bytes]


def test_no_wrong_setting_is_shown(told: Told, tmp_path: Path):
    canaries = Canaries()
    names = [
        name
        for name in Settings.model_fields
        if not names_a_file(name) and name not in ("issuer", "audience")
    ]
    assert "SecretStr" in str(Settings.model_fields["redis_url"].annotation)
    settings = {name.upper(): canaries.plant(name) for name in names}
    for command in ("serve", "check", "dev", "relay", "keys retire a", "callers list"):
        text = told(*command.split(), **settings)
        assert canaries.found(text) == set()
        # The Redis URL is checked after all other settings are right. Any canary is a good prefix.
        valid = {"REDIS_URL", "REDIS_PREFIX"}
        assert all(
            f"SESSION_AUTHORITY_{name}:".encode() in text for name in settings.keys() - valid
        ), text
    file = tmp_path / "settings.toml"
    for content in (
        "".join(f'{name} = "{value}"\n' for name, value in settings.items()),
        f'redis_url = "{canaries.plant("a file that is no TOML")}',
        f'redis_url = {{ password = "{canaries.plant("a table in the place of a text")}" }}',
        canaries.plant("a file that is no TOML"),
    ):
        file.write_text(content)
        assert canaries.found(told("serve", CONFIG=str(file))) == set()


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if names_a_file(name)])
def test_the_content_of_a_file_is_not_shown_where_its_name_belongs(told: Told, name: str):
    """An operator may write `TLS_KEY="$(cat key.pem)"`."""
    canaries = Canaries()
    for content in (
        f"-----BEGIN PRIVATE KEY-----\n{canaries.plant('TLS key')}\n-----END PRIVATE KEY-----",
        f'{{"kid": "a", "jwk": {{"d": "{canaries.plant("signing key")}"}}}}',
        f"sacall_{canaries.plant('caller token')}",
        f"whsec_{canaries.plant('secret of an endpoint')}",
        f'[[endpoint]]\nsecrets = ["{canaries.plant("secret of an endpoint")}"]',
    ):
        text = told("serve", **{name.upper(): content})
        assert canaries.found(text) == set()
        assert f"SESSION_AUTHORITY_{name.upper()}: must be the name of a file".encode() in text


URLS = """
{} {}://h redis://{}:{}@ redis://u:{}@h:x redis://u:{}@h:99999 redis://u:{}@h/x redis://u:{}/@h
redis://u:{}?@h redis://u:{}#@h redis://u:a?{}=1@h redis://u:a@{}@h redis://h?{} redis://h?{}=1
redis://h/{} redis://h?db={} redis://h?password={} redis://u:a?{}=1 redis+sentinel://u:{}@h
redis+sentinel://h?sentinel_password={} redis+cluster://u:{}@h/1 unix://{} unix://u:{}@h/p
redis://u:{}@127.0.0.1:1 rediss://u:{}@127.0.0.1:1 redis+sentinel://u:{}@127.0.0.1:1/a
redis+cluster://u:{}@127.0.0.1:1
""".split()


@pytest.mark.parametrize("form", URLS)
def test_no_wrong_redis_url_is_shown(told: Told, tmp_path: Path, form: str):
    canaries = Canaries()
    url = form.replace("{}", canaries.plant("Redis password"))
    file = tmp_path / "endpoints.toml"
    file.write_text(f'[[endpoint]]\nname="a"\nurl="https://a.example"\nsecrets=["{SECRET}"]')
    file.chmod(0o600)
    for command in ("check", "relay status"):
        assert (
            canaries.found(told(*command.split(), REDIS_URL=url, RELAY_ENDPOINTS=str(file)))
            == set()
        )


def test_no_wrong_signing_key_is_shown(told: Told, tmp_path: Path):
    canaries = Canaries()
    folder = tmp_path / "keys"
    kid = add_signing_key(folder)
    path = note_key(canaries, folder)
    good = json.loads(path.read_text())
    jwk = good["jwk"]
    for content in (
        path.read_text()[:-5],
        json.dumps(good | {"alg": "ES256"}),
        json.dumps(good | {"alg": canaries.plant("signing key")}),
        json.dumps(good | {"jwk": jwk["d"]}),
        json.dumps(good | {"jwk": jwk | {"d": jwk["d"] + "="}}),
        json.dumps(good | {"jwk": jwk | {"d": canaries.plant("signing key")}}),
        json.dumps(good | {"jwk": jwk | {"kty": canaries.plant("signing key")}}),
        json.dumps(good | {"created": jwk["d"]}),
        json.dumps(good | {"kid": f"{jwk['d']}!"}),
        json.dumps(good["jwk"] | {"kid": kid}),
        json.dumps(
            {**good, "alg": "HS256", "jwk": {"kty": "oct", "k": canaries.plant("signing key")}}
        ),
        json.dumps({"keys": [good, jwk]}),
        jwk["d"],
    ):
        path.write_text(content)
        for command in ("check", "keys list", "keys promote a"):
            assert (
                canaries.found(
                    told(*command.split(), "--dir", str(folder))
                    if command != "check"
                    else told("check", KEYS=str(folder))
                )
                == set()
            )


def test_no_caller_token_in_the_wrong_place_is_shown(told: Told, tmp_path: Path):
    canaries = Canaries()
    policy, tokens = tmp_path / "access.toml", tmp_path / "tokens"
    token = new_token()
    canaries.plant("caller token", token.removeprefix("sacall_"))
    sound = '[callers.a]\nroles = ["issuer"]\n'
    add_token(tokens, "a", token, datetime.now(UTC))
    line = tokens.read_text().splitlines()[-1]
    for wrong_policy, wrong_tokens in (
        (f'{sound}roles = ["{token}"]', ""),
        (f"{sound}{token}", ""),
        (f'{sound}token = "{token}"', ""),
        (f'[callers.a]\nroles = "{token}"', ""),
        (sound, token),
        (sound, f"a {token}"),
        (sound, line.rpartition(" ")[0] + f" {token}"),
        (sound, f"{token} {line.partition(' ')[2]}"),
        (sound, f"{line}\n{line}"),
    ):
        policy.write_text(wrong_policy)
        tokens.write_text(wrong_tokens)
        for command in ("check", "callers list"):
            text = told(*command.split(), ACCESS_POLICY=str(policy), CALLER_TOKENS=str(tokens))
            assert canaries.found(text) == set()


PASTED = {
    "role": '[callers.a]\nroles = ["{}"]',
    "RPC": '[callers.a]\nrpcs = ["{}"]',
    "certificate": '[callers.a]\nroles = ["issuer"]\ncertificates = ["{}"]',
    "field": '[callers.a]\nroles = ["issuer"]\n{} = 1',
    "caller": '[callers.{}]\nroles = ["issuer"]',
    "table": "[{}]",
}


@pytest.mark.parametrize("place", PASTED)
def test_no_caller_token_in_the_place_of_a_name_is_shown(told: Told, tmp_path: Path, place: str):
    canaries = Canaries()
    token = new_token()
    canaries.plant("caller token", token.removeprefix("sacall_"))
    policy = tmp_path / "access.toml"
    policy.write_text(PASTED[place].replace("{}", token))
    for command in ("check", "callers list"):
        assert canaries.found(told(*command.split(), ACCESS_POLICY=str(policy))) == set()


def test_no_tls_key_in_the_wrong_place_is_shown(told: Told, tmp_path: Path):
    canaries = Canaries()
    mine = CA(tmp_path).sign()
    note_pem(canaries, mine.key)
    cut = tmp_path / "cut.pem"
    cut.write_text(mine.key.read_text().replace("-----END", "----END"))
    other = CA(tmp_path / "other").sign()
    for chain, key in (
        (mine.key, mine.certificate),
        (mine.certificate, cut),
        (cut, mine.key),
        (other.certificate, mine.key),
    ):
        assert canaries.found(told("check", TLS_CERTIFICATE=str(chain), TLS_KEY=str(key))) == set()


def test_no_secret_of_an_endpoint_in_the_wrong_place_is_shown(told: Told, tmp_path: Path):
    canaries = Canaries()
    canaries.plant("secret of an endpoint", SECRET.removeprefix("whsec_"))
    sound = {"name": '"a"', "url": '"https://a.example"', "secrets": f'["{SECRET}"]'}
    file = tmp_path / "endpoints.toml"
    for changed in ("name", "url", "types", "timeout", "secret_files", "max_in_flight", "secrets"):
        file.write_text(
            "[[endpoint]]\n"
            + "".join(
                f"{name} = {value}\n"
                for name, value in (sound | {changed: f'["x", "{SECRET}"]'}).items()
            )
        )
        file.chmod(0o600)
        assert (
            canaries.found(
                told("relay", "status", RELAY_ENDPOINTS=str(file), REDIS_URL="redis://127.0.0.1:1")
            )
            == set()
        )


def test_a_canary_is_found_in_any_encoding():
    canaries = Canaries()
    text = canaries.plant("it")
    raw = text.encode()
    for pad in range(3):
        encoded = base64.b64encode(b"x" * pad + raw + b"y" * 5)
        for spelling in (
            encoded,
            base64.urlsafe_b64encode(b"x" * pad + raw),
            raw.hex().upper().encode(),
            raw.upper(),
        ):
            assert canaries.leaks(Place.LOG, b"..." + spelling + b"...") == {"it"}
    assert canaries.found(Canaries().plant("another").encode()) == set()
