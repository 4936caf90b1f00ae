"""Redis accepts the ACL user that `redis-acl` prints. This user can access only the keys of the
service.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from session_authority.store.acl import acl_rules
from tests.cli.harness import call, fault
from tests.support.backends import Backend, redis_server


def line(*arguments: str, **settings: str) -> str:
    """Runs `redis-acl`, and returns the one line that it prints."""
    result = call("redis-acl", *arguments, **settings)
    assert (result.exit_code, result.stderr) == (0, "")
    [said] = result.stdout.splitlines()
    return said


@pytest.fixture
def admin(valkey_backend: Backend) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_backend.admin_url) as client:
        yield client


def test_it_prints_the_rules_and_a_placeholder_for_the_password():
    rules = " ".join(acl_rules("sa")).removeprefix("on ")
    assert line() == f"ACL SETUSER session-authority on resetpass >PASSWORD {rules}"
    assert line("--format", "file") == f"user session-authority on resetpass >PASSWORD {rules}"


def test_the_user_can_access_only_keys_below_the_configured_prefix():
    words = line("--user", "shop.sessions", REDIS_PREFIX="shop").split()
    assert words[2] == "shop.sessions"
    assert [word for word in words if word.startswith(("~", "&"))] == ["~shop:*", "&shop:wake"]


def test_redis_accepts_the_command_and_drops_all_earlier_rights(admin: redis.Redis, prefix: str):
    said = line("--user", prefix, REDIS_PREFIX=prefix).replace("PASSWORD", "s3cr3t")
    try:
        for _ in range(2):  # as after an upgrade: earlier rights of the user make no difference
            assert admin.execute_command(*shlex.split(said)) in (b"OK", True)
            admin.execute_command(
                "ACL", "SETUSER", prefix, "nopass", "allkeys", "allchannels", "+@all"
            )
        admin.execute_command(*shlex.split(said))
        listed: list[bytes] = admin.execute_command("ACL", "LIST")
        [words] = [
            words for words in (text.decode().split() for text in listed) if words[1] == prefix
        ]
        assert {"on", f"~{prefix}:*", f"&{prefix}:wake", "-@all"} < set(words)
        assert not {"nopass", "~*", "&*", "+@all"} & set(words)
    finally:
        admin.acl_deluser(prefix)


def test_redis_loads_an_acl_file_with_the_line(tmp_path: Path):
    said = line("--format", "file", "--user", "other").replace("PASSWORD", "s3cr3t")
    with redis_server(tmp_path) as server, redis.Redis.from_url(server.admin_url) as admin:
        with (tmp_path / "users.acl").open("a") as file:
            file.write(f"{said}\n")
        assert admin.acl_load() in (b"OK", True)
        with redis.Redis.from_url(server.admin_url, username="other", password="s3cr3t") as service:
            assert service.get("sa:probe") is None
            with pytest.raises(redis.exceptions.NoPermissionError):
                service.flushall()


@pytest.mark.parametrize("name", ["", "two words", ">pw", "a\nb", "ü", "x" * 65])
def test_a_user_name_that_would_change_the_rules_is_refused(name: str):
    assert fault(call("redis-acl", "--user", name)) == (
        2,
        "--user: must be 1 to 64 letters, digits, '_', '.' or '-'",
    )
