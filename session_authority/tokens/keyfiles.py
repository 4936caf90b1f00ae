"""Reads and writes key files. The keys are in a folder with one file for each key, or in a single
file with all keys.

When keys are read, all faults are reported together. A key file is written completely or not at
all, and only the owner of a new key file can read the file. This module also checks if other users
can access the key files. The module `keyring` defines the meaning of the times in a key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from session_authority.runtime.files import exposure, file_state, replace_file, sync_folder
from session_authority.tokens.encoding import decode_json_object, encode_json
from session_authority.tokens.keys import KeyringError, SigningKey, parse_key

_SUFFIX = ".json"


def refuse_single_file(directory: Path) -> None:
    """Raises KeyringError if the path is a single file with all keys. A single file with all keys
    is written by another program, so this service does not change the file.
    """
    if not _is_folder(directory) and directory.exists():
        raise KeyringError(f"{directory}: is a single file; keys can be changed in a folder only")


def read_keys(path: Path) -> list[SigningKey]:
    """Returns the keys in a folder, or in a single file with all keys. Raises KeyringError with all
    faults if a file can't be read or is not valid.
    """
    return _read_folder(path) if _is_folder(path) else _read_file(path)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:  # a parent folder may refuse access, or the name may be too long
        raise KeyringError(f"{path}: can't be read: {error.strerror}") from None


def _read_folder(directory: Path) -> list[SigningKey]:
    return _all_or_faults(partial(_read_key_file, path) for path in _key_files(directory))


def _read_key_file(path: Path) -> SigningKey:
    if path.suffix != _SUFFIX:
        raise KeyringError(f"{path}: is no key file: its name does not end with {_SUFFIX}")
    key = parse_key(_read_json(path), str(path))
    if path.name != key.kid + _SUFFIX:
        raise KeyringError(f"{path}: must have the name {key.kid}{_SUFFIX}, after its kid")
    return key


def _read_file(path: Path) -> list[SigningKey]:
    value = _read_json(path)
    members = value.get("keys")
    if value.keys() != {"keys"} or not isinstance(members, list):
        raise KeyringError(f'{path}: must hold {{"keys": [...]}} and nothing else')
    return _all_or_faults(
        partial(parse_key, member, f"{path}: keys[{i}]") for i, member in enumerate(members)
    )


def _all_or_faults(reads: Iterable[Callable[[], SigningKey]]) -> list[SigningKey]:
    """Calls all functions in `reads`, and returns their keys. If some of the functions fail, raises
    one KeyringError with the faults of all failed functions.
    """
    keys: list[SigningKey] = []
    faults: list[str] = []
    for read in reads:
        try:
            keys.append(read())
        except KeyringError as error:
            faults += error.faults
    if faults:
        raise KeyringError(*faults)
    return keys


def _read_json(path: Path) -> dict[str, object]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KeyringError(f"{path}: can't be read: {error.strerror}") from error
    value = _json_or_none(data)
    if value is None:
        raise KeyringError(f"{path}: is not a JSON object in UTF-8 with unique members")
    return value


def _json_or_none(data: bytes) -> dict[str, object] | None:
    """Returns the JSON object in the data, or None if the data is no valid JSON object. The
    decoder's exception is not passed on, because the exception contains the whole text with all
    keys. Other code might print the exception.
    """
    try:
        return decode_json_object(data)
    except (ValueError, RecursionError):
        return None


def _key_files(directory: Path) -> list[Path]:
    """Returns all files in a folder except hidden files. A hidden file is an unfinished file of
    this module, or a link that Kubernetes changes to replace a secret. Raises KeyringError if the
    folder can't be read.
    """
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise KeyringError(f"{directory}: can't be read: {error.strerror}") from error


def files_of(path: Path) -> list[Path]:
    """Returns the files in a folder of keys, or the path of the single file with all keys. Raises
    KeyringError if a folder has no file, because a folder looks empty while its volume is not
    mounted.
    """
    files = _key_files(path) if _is_folder(path) else [path]
    if not files:
        raise KeyringError(f"{path}: holds no key")
    return files


def fingerprint(path: Path) -> object:
    """Returns a value that changes when a key file is changed, added or removed. The value has the
    name and the `file_state` of each key file. The keys are not read. Raises KeyringError if the
    folder or a file can't be examined.
    """
    files = _key_files(path) if _is_folder(path) else [path]
    try:
        return [(file.name, file_state(file)) for file in files]
    except OSError as error:
        raise KeyringError(f"{path}: can't be read: {error.strerror}") from error


def exposed(path: Path) -> list[str]:
    """Returns the faults that let other users read or change the keys in a folder or file. A fault
    is a file mode or a file owner. The text of a fault has the command that corrects the fault.

    Read access for the group of a file is no fault, because Kubernetes gives secrets through the
    group to pods that do not run as root. A folder on a read-only file system, such as a secret
    that Kubernetes mounts, may have any mode. No user can change files on a read-only file system,
    and the names of key files are not secret. Links are followed. Raises KeyringError if the folder
    or a file can't be examined.
    """
    try:
        files = _key_files(path) if _is_folder(path) else [path]
        folders = [path] if _is_folder(path) and not os.statvfs(path).f_flag & os.ST_RDONLY else []
        return [
            fault
            for found in (*folders, *files)
            for fault in exposure(found, "the keys", alone=found.parent == path)
        ]
    except OSError as error:
        raise KeyringError(f"{path}: can't be read: {error.strerror}") from error


def add_file(directory: Path, key: SigningKey) -> None:
    """Writes the file of a new key. Creates the folder if it does not exist. Raises KeyringError if
    there is already a key with the ID of this key, or if the file can't be written.
    """
    if _file(directory, key.kid).exists():
        raise KeyringError(f"there is a key {key.kid!r} already")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeyringError(f"{directory}: can't be made: {error.strerror}") from error
    write_file(directory, key)


def write_file(directory: Path, key: SigningKey) -> None:
    """Writes the file of a key. If the key already has a file, the old file stays until the new
    file is complete. Raises KeyringError if the file can't be written.
    """
    path = _file(directory, key.kid)
    try:
        replace_file(path, encode_json(key.to_json()) + b"\n")
    except OSError as error:
        raise KeyringError(f"{path}: can't be written: {error.strerror}") from error


def remove_file(directory: Path, kid: str) -> None:
    """Removes the file of a key. Raises KeyringError if the file can't be removed."""
    path = _file(directory, kid)
    try:
        path.unlink()
        sync_folder(directory)
    except OSError as error:
        raise KeyringError(f"{path}: can't be removed: {error.strerror}") from error


def _file(directory: Path, kid: str) -> Path:
    return directory / f"{kid}{_SUFFIX}"
