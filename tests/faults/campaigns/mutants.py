"""Services that are broken on purpose, each so that one campaign must find it."""

from __future__ import annotations

from tests.faults.mutant import Edit, Mutant


def _mutant(campaign: str, name: str, *edits: Edit) -> Mutant:
    return Mutant(name, edits, frozenset({campaign}), campaign=campaign)


OF_CAMPAIGNS = (
    _mutant(
        "lost-replies-issue",
        "a sign-in that is tried again is another one",
        Edit(
            "session_authority/authority/sign_in.py",
            "if request.request_id is None:\n            return None",
            "if request.request_id is not None:\n            return None",
        ),
    ),
    _mutant(
        "lost-replies-renew",
        "a renewal that is tried again makes another generation",
        Edit(
            "session_authority/domain/renewals.py",
            "return Renewal(verdict, record=copy_again(current, limits, now), hand_out=True)",
            "return Renewal(verdict, record=_rotate(current, token, limits, now), hand_out=True)",
        ),
    ),
    _mutant(
        "lost-replies-revoke",
        "a revocation that is tried again leaves another event",
        Edit(
            "session_authority/store/scripts/revoke.lua",
            "if #removed > 0 then\n  if is_of_another_type",
            "if true then\n  if is_of_another_type",
        ),
    ),
    _mutant(
        "lost-replies-update",
        "an update that is tried again leaves another event",
        Edit(
            "session_authority/authority/session_updates.py",
            "if not change.changed:\n",
            "if not change.claims:\n",
        ),
    ),
    _mutant(
        "races",
        "changes are written over others that came between",
        Edit(
            "session_authority/store/scripts/commit.lua",
            "if there ~= expected then",
            "if false then",
        ),
    ),
    _mutant(
        "cancel-storm",
        "answers of a batch are swapped",
        Edit(
            "session_authority/rpc/service.py",
            'return b"".join(results)',
            'return b"".join(reversed(results))',
        ),
    ),
    _mutant(
        "records",
        "a record that can't be read fails the call",
        Edit(
            "session_authority/store/record_reader.py",
            "return Unreadable(raw, str(error), isinstance(error, codec.LaterRecord))",
            "raise",
        ),
    ),
    _mutant(
        "records",
        "a session of a later format is read as one of this",
        Edit("session_authority/store/codec.py", "if form > _IDLE:", "if False:"),
    ),
    _mutant(
        "records",
        "the check of a session record is ignored",
        Edit("session_authority/store/codec.py", " or sealed(body) != raw:", ":"),
    ),
    _mutant(
        "sentinel-hung",
        "a server keeps to the primary that it knew for 25 s",
        Edit(
            "session_authority/store/driver/sentinels.py",
            "        while True:\n            switches = self._switches\n",
            "        now = asyncio.get_running_loop().time()\n"
            "        if self.master_address and now < getattr(self, 'until', 0):\n"
            "            return self.master_address\n"
            # One server may keep to the primary, or both, or none: the time decides.
            "        self.until = now + 25 * (int(1000 * now) % 2)\n"
            "        while True:\n            switches = self._switches\n",
        ),
        Edit(
            "session_authority/store/driver/sentinels.py",
            "if group == self.service_name and len(addresses) == 4:",
            "if not group:",
        ),
    ),
    _mutant(
        "clocks",
        "a server whose clock is wrong answers all the same",
        Edit(
            "session_authority/processes/readiness.py",
            "if self._first_start_at <= started_at <= self._last_start_at:",
            "if True:",
        ),
    ),
    _mutant(
        "policy-flips",
        "a policy that takes a right away is not read again",
        Edit(
            "session_authority/runtime/files.py",
            "        self.current = self._read()\n        self._read_state = found\n",
            "        self._read_state = found\n",
        ),
    ),
)
