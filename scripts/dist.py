"""Builds the files of a release.

It is run as scripts/dist.py FOLDER [--without-image].

Everything is built from the last commit. All files in the archives have the date of the commit, so
the same commit gives the same bytes on every machine. Some tools write other dates into an archive.
The script then writes the archive again.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHON_PROJECTS = (".", "clients/python")
CHART = "packaging/helm/session-authority"
NAME = "session-authority"


def run(*command: str | Path, folder: Path = ROOT, **variables: str) -> bytes:
    """Returns the output of a command. If it fails, prints the output and ends the program."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **variables}, capture_output=True, check=False
    )
    if done.returncode:
        sys.stderr.buffer.write(done.stdout + done.stderr)
        sys.exit(f"{Path(command[0]).name} failed")
    return done.stdout


class Release:
    """The files of a release, built one after the other from a tree of sources."""

    def __init__(self, sources: Path, folder: Path, epoch: int) -> None:
        self._sources = sources
        self._folder = folder
        self._epoch = epoch
        project = tomllib.loads((sources / "pyproject.toml").read_text())["project"]
        self._stem = f"{NAME}-{project['version']}"

    def python_packages(self) -> None:
        """Builds the wheels and the source archives of the service and of its client."""
        for project in PYTHON_PROJECTS:
            with self._made() as made:
                build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", made)
                date = str(self._epoch)
                run(*build, self._sources / project, SOURCE_DATE_EPOCH=date)
                for archive in made.glob("*.tar.gz"):
                    self._redate(archive)

    def chart(self) -> None:
        """Packs the Helm chart."""
        with self._made() as made:
            run("helm", "package", self._sources / CHART, "--destination", made)
            [archive] = made.iterdir()
            self._redate(archive)

    def contract(self) -> None:
        """Packs the public `.proto` files, and their descriptors as one file."""
        protos = self._sources / "protos"
        descriptors = self._folder / f"{self._stem}-protos.binpb"
        public = "protos/session_authority/v1"
        run(tool("buf"), "build", "--path", public, "--output", descriptors, folder=self._sources)
        date = datetime.fromtimestamp(self._epoch, UTC).timetuple()[:6]
        with zipfile.ZipFile(self._folder / f"{self._stem}-protos.zip", "w") as bundle:
            for path in sorted((self._sources / public).glob("*.proto")):
                entry = zipfile.ZipInfo(str(path.relative_to(protos)), date)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                bundle.writestr(entry, path.read_bytes())

    def bill_of_materials(self) -> None:
        """Lists the packages of the image, by their locked versions."""
        run(
            *("cyclonedx-py", "requirements", "requirements/image.txt"),
            *("--pyproject", "pyproject.toml", "--mc-type", "application"),
            *("--output-reproducible", "--output-format", "JSON"),
            *("--output-file", self._folder / f"{self._stem}.cdx.json"),
            folder=self._sources,
        )

    def image(self) -> None:
        """Builds the image and packs it as an OCI archive."""
        archive = self._folder / f"{self._stem}-image.oci.tar"
        revision = run("git", "rev-parse", "HEAD").decode().strip()
        run(
            *(self._sources / "scripts" / "image.sh", ROOT / ".tools" / "image", archive),
            SOURCE_DATE_EPOCH=str(self._epoch),
            REVISION=revision,
        )
        self._redate(archive)

    def checksums(self) -> None:
        """Writes the SHA-256 of each file, as `sha256sum --check` reads them."""
        files = sorted(path for path in self._folder.iterdir() if path.name != "SHA256SUMS")
        lines = []
        for path in files:
            with path.open("rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
        (self._folder / "SHA256SUMS").write_text("".join(lines))

    @contextmanager
    def _made(self) -> Iterator[Path]:
        """A folder for the output of a tool. In the end the output is moved into the release."""
        with tempfile.TemporaryDirectory(dir=self._folder) as made:
            yield Path(made)
            for path in Path(made).iterdir():
                path.rename(self._folder / path.name)

    def _redate(self, path: Path) -> None:
        """Writes an archive again: sorted, without a user, and with the commit's date."""
        made = io.BytesIO()
        with (
            tarfile.open(path) as unpacked,
            tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as packed,
        ):
            for entry in sorted(unpacked.getmembers(), key=lambda entry: entry.name):
                plain = tarfile.TarInfo(entry.name)
                plain.type, plain.size, plain.linkname = entry.type, entry.size, entry.linkname
                plain.mtime = self._epoch
                plain.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
                packed.addfile(plain, unpacked.extractfile(entry) if entry.isfile() else None)
        content = made.getvalue()
        packs = path.name.endswith("gz")
        path.write_bytes(gzip.compress(content, mtime=self._epoch) if packs else content)


def tool(name: str) -> Path:
    """The path of a program in the environment of this script."""
    return Path(sys.executable).with_name(name)


@contextmanager
def committed() -> Iterator[Path]:
    """The sources of the last commit, in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        packed = run("git", "archive", "--format=tar", "HEAD")
        with tarfile.open(fileobj=io.BytesIO(packed)) as tree:
            tree.extractall(folder, filter="data")
        yield Path(folder)


def empty(folder: Path) -> None:
    """Makes the folder, or removes the release in it, which may be incomplete. Ends the program if
    the folder holds anything else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = list(folder.iterdir())
    ours = re.compile(rf"SHA256SUMS|({NAME}-|{NAME.replace('-', '_')}(_client)?-)\d.*")
    if foreign := sorted(
        path.name for path in found if path.is_dir() or ours.fullmatch(path.name) is None
    ):
        sys.exit(f"{folder} holds files that are of no release, such as {foreign[0]}")
    for path in found:
        path.unlink()


def main() -> None:
    """Builds a release into a folder. Removes an earlier release from the folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--without-image", action="store_true")
    options = parser.parse_args()
    folder = options.folder.absolute()
    empty(folder)
    if run("git", "status", "--porcelain"):
        print("Changes that are not committed are left out.", file=sys.stderr)
    epoch = int(run("git", "log", "-1", "--format=%ct"))
    os.umask(0o022)
    with committed() as sources:
        release = Release(sources, folder, epoch)
        release.python_packages()
        release.chart()
        release.contract()
        release.bill_of_materials()
        if not options.without_image:
            release.image()
        release.checksums()
    print((folder / "SHA256SUMS").read_text(), end="")


if __name__ == "__main__":
    main()
