"""Environment variables name the credentials that the client shows to the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from session_authority_client.environment import credentials_from_environment


def pem_of(name: str) -> str:
    kind = "PRIVATE KEY" if name == "KEY" else "CERTIFICATE"
    return f"# {name}\n-----BEGIN {kind}-----\nYQ==\n-----END {kind}-----\n"


def test_without_variables_the_client_shows_no_credentials():
    assert credentials_from_environment({}) == {"tls": None, "token": None}
    assert credentials_from_environment({"AUTHORITY_CA": ""}) == {"tls": None, "token": None}


def test_each_variable_names_a_file(tmp_path: Path):
    names = {"CA": "root_certificates", "CERT": "certificate_chain", "KEY": "private_key"}
    for name in names:
        (tmp_path / name).write_text(pem_of(name))
    environment = {f"AUTHORITY_{name}": str(tmp_path / name) for name in names}
    tls = credentials_from_environment(environment)["tls"]
    assert {name: getattr(tls, field) for name, field in names.items()} == {
        name: pem_of(name).encode() for name in names
    }


def test_a_token_is_read_anew_for_each_call(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("first\n")
    token = credentials_from_environment({"AUTHORITY_TOKEN_FILE": str(file)})["token"]
    assert token is not None
    assert token() == "first"
    file.write_text("second\n")
    assert token() == "second"


def test_a_missing_variable_or_file_is_reported(tmp_path: Path):
    for name in ("CERT", "KEY"):
        with pytest.raises(ValueError, match="set both or neither"):
            credentials_from_environment({f"AUTHORITY_{name}": str(tmp_path)})
    for name in ("CA", "TOKEN_FILE"):
        with pytest.raises(FileNotFoundError):
            credentials_from_environment({f"AUTHORITY_{name}": str(tmp_path / "none")})


@pytest.mark.parametrize("held", ["", "\n", "no PEM", "-----BEGIN CERTIFICATE-----\n", "other"])
@pytest.mark.parametrize("name", ["CA", "CERT", "KEY"])
def test_a_file_with_the_wrong_contents_does_not_lead_to_plaintext(
    tmp_path: Path, name: str, held: str
):
    other = pem_of("CERT" if name == "KEY" else "KEY")
    environment = {}
    for each in ("CA",) if name == "CA" else ("CERT", "KEY"):
        file = tmp_path / each
        file.write_text((other if held == "other" else held) if each == name else pem_of(each))
        environment[f"AUTHORITY_{each}"] = str(file)
    kind = "private key" if name == "KEY" else "certificates"
    with pytest.raises(ValueError, match=f"^AUTHORITY_{name}: .* holds no {kind} in PEM form"):
        credentials_from_environment(environment)


def test_an_empty_certificate_with_an_empty_key_does_not_lead_to_plaintext(tmp_path: Path):
    (tmp_path / "empty").touch()
    names = ("AUTHORITY_CERT", "AUTHORITY_KEY")
    with pytest.raises(ValueError, match=r"^AUTHORITY_CERT: .* holds no certificates in PEM form"):
        credentials_from_environment(dict.fromkeys(names, str(tmp_path / "empty")))
