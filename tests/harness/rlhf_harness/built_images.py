"""The project's own images, each built once for what goes into it, however many ask for it."""

import hashlib
import logging
import os
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rlhf_harness import buildah, image_base
from rlhf_harness.buildah import Buildah
from rlhf_harness.building import locked
from rlhf_harness.commands import run
from rlhf_harness.errors import CommandError, UnavailableError
from rlhf_harness.packages import ensure_installed

REPOSITORY = Path(__file__).resolve().parents[3]

NAMES = ("operator", "trainer")

_KEPT_ARCHIVES = 3
"""Of each image: another checkout, or a test that runs, may be using the last ones."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuiltImage:
    """An image, and the file from which a node's runtime takes it."""

    name: str
    archive: Path


@dataclass(frozen=True)
class Recipe:
    """One image of a checkout: what it is made of, what it is called."""

    image: str
    repository: Path = REPOSITORY

    @property
    def containerfile(self) -> Path:
        """How it is built."""
        return self.repository / "images" / self.image / "Containerfile"

    @cached_property
    def version(self) -> str:
        """The project's."""
        text = (self.repository / "pyproject.toml").read_text(encoding="utf-8")
        return str(tomllib.loads(text)["project"]["version"])

    @cached_property
    def name(self) -> str:
        """Its name; the tag never moves, since it says what went in."""
        return f"localhost/rlhf-{self.image}:{self.version}-{self.digest[:12]}"

    @cached_property
    def digest(self) -> str:
        """Of all that a build can see."""
        digest = hashlib.sha256(image_base.digest().encode())
        for path in (self.containerfile, *sorted(self._context())):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(self.repository)} {len(content)}\n".encode())
            digest.update(content)
        return digest.hexdigest()

    def _context(self) -> Iterator[Path]:
        ignored = (self.repository / ".dockerignore").read_text(encoding="utf-8")
        for line in ignored.splitlines():
            if line.startswith("!"):
                root = self.repository / line[1:]
                below = [root] if root.is_file() else root.rglob("*")
                yield from (
                    one for one in below if one.is_file() and "__pycache__" not in one.parts
                )


def storage() -> Buildah:
    """Where images are built: another base has another folder, as another pin of tools has."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Buildah(Path(base) / "rlhf-operator" / f"images-{image_base.digest()[:16]}")


def operator() -> BuiltImage:
    """The operator's image, as an archive."""
    return archive(Recipe("operator"))


def archive(recipe: Recipe) -> BuiltImage:
    """Build an image if it is not there, and write it to a file that a runtime can import."""
    store = storage()
    path = store.folder / f"{recipe.image}-{recipe.digest[:12]}.tar"
    if not path.exists():
        build(recipe)
        with locked(store.folder / "lock"):
            _write(store, recipe.name, path)
            _forget_old(store.folder, recipe.image)
    return BuiltImage(recipe.name, path)


def build(recipe: Recipe) -> None:
    """Build an image if it is not there."""
    if os.geteuid() != 0:
        raise UnavailableError(
            "images are built by root here",
            f"or by an engine of yours: podman build -f {recipe.containerfile} {recipe.repository}",
        )
    ensure_installed(buildah.PACKAGES)
    store = storage()
    store.folder.mkdir(parents=True, exist_ok=True)
    with locked(store.folder / "lock"):
        if store.has(recipe.name):
            return
        began = time.monotonic()
        image_base.ensure(store)
        _logger.info("building %s", recipe.name)
        store.build(
            recipe.repository,
            recipe.containerfile,
            recipe.name,
            VERSION=recipe.version,
            REVISION=_revision(recipe.repository),
        )
        _logger.info("built %s in %.0f s", recipe.name, time.monotonic() - began)


def summary(recipes: Iterable[Recipe]) -> str:
    """A table of images: name, size, size over the base; and how to take them out."""
    store = storage()
    base = store.size_bytes(image_base.NAME)
    lines = [f"{'image':<50} {'MB':>6} {'over its base':>14}"]
    for recipe in recipes:
        size = store.size_bytes(recipe.name)
        lines.append(f"{recipe.name:<50} {size / 1e6:>6.0f} {(size - base) / 1e6:>14.0f}")
    push = " ".join(store.command("push", "IMAGE", "docker-archive:FILE"))
    return "\n".join([*lines, f"To take one out: {push}", ""])


def _write(store: Buildah, name: str, path: Path) -> None:
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    store.ask("push", "--quiet", name, f"docker-archive:{partial}:{name}")
    partial.replace(path)


def _revision(repository: Path) -> str:
    """The commit, where this is a checkout; other files may have changed since."""
    try:
        return run(["git", "-C", str(repository), "describe", "--always", "--dirty"]).strip()
    except CommandError:
        return "unknown"


def _forget_old(folder: Path, image: str) -> None:
    found = sorted(folder.glob(f"{image}-*.tar"), key=lambda path: path.stat().st_mtime)
    for path in found[:-_KEPT_ARCHIVES]:
        path.unlink(missing_ok=True)
