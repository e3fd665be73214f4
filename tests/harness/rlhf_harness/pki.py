"""Certificates of a cluster: one authority, one for the front proxy, one for the webhook."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf_harness.commands import run

_ELLIPTIC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_DAYS = 30
_WEBHOOK_DAYS = 3650
"""The training operator makes certificates of its own when fewer than 90 days are left."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """Certificates in one folder, made with the openssl command."""

    folder: Path

    def pair(self, name: str) -> Pair:
        """Where a certificate and its key lie."""
        return Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    @property
    def root(self) -> Path:
        """The certificate to trust."""
        return self.pair("ca").certificate

    def create(self) -> None:
        """Make the authorities and the service account keys."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for name, subject in (("ca", "/CN=kubernetes-ca"), ("front", "/CN=front-proxy-ca")):
            self._request(
                name, subject, ("keyUsage=critical,keyCertSign,cRLSign,digitalSignature",)
            )
        accounts = self.folder / "sa.key"
        run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-out", str(accounts)])  # fmt: skip
        run(["openssl", "pkey", "-in", str(accounts), "-pubout", "-out",
             str(self.folder / "sa.pub")])  # fmt: skip

    def client(self, name: str, subject: str, *, signer: str = "ca") -> Pair:
        """A certificate that says who its holder is: /O=group/CN=user."""
        return self._sign(name, subject, signer, ("extendedKeyUsage=clientAuth",))

    def server(self, name: str, subject: str, names: Sequence[str]) -> Pair:
        """A certificate for a server under these names, each `DNS:…` or `IP:…`."""
        extensions = ("extendedKeyUsage=serverAuth", f"subjectAltName={','.join(names)}")
        return self._sign(name, subject, "ca", extensions)

    def webhook(self) -> tuple[Pair, Pair]:
        """Authority and server certificate in the one form that the training operator keeps.

        Anything else (another name, another key format, fewer than 90 days) it replaces by its
        own in the Secret, and the files that it serves no longer match.
        """
        authority, server = self.pair("webhook-ca"), self.pair("webhook")
        for pair in (authority, server):
            run(["openssl", "genrsa", "-traditional", "-out", str(pair.key), "2048"])
        common = ["openssl", "req", "-x509", "-days", str(_WEBHOOK_DAYS)]
        run([*common, "-key", str(authority.key), "-out", str(authority.certificate),
             "-subj", "/O=training-operator/CN=training-operator-ca",
             "-addext", "keyUsage=critical,keyCertSign,digitalSignature",
             "-addext", "subjectAltName=DNS:training-operator-ca"])  # fmt: skip
        host = "training-operator.kubeflow.svc"
        run([*common, "-key", str(server.key), "-out", str(server.certificate),
             "-subj", f"/CN={host}", *_signed_by(authority),
             "-addext", "basicConstraints=critical,CA:FALSE",
             "-addext", "keyUsage=critical,digitalSignature,keyEncipherment",
             "-addext", "extendedKeyUsage=serverAuth",
             "-addext", f"subjectAltName=DNS:{host}"])  # fmt: skip
        return authority, server

    def _sign(self, name: str, subject: str, signer: str, extensions: Sequence[str]) -> Pair:
        return self._request(
            name,
            subject,
            ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature",
             *extensions),
            signer,
        )  # fmt: skip

    def _request(
        self, name: str, subject: str, extensions: Sequence[str], signer: str | None = None
    ) -> Pair:
        pair = self.pair(name)
        added = [word for extension in extensions for word in ("-addext", extension)]
        signing = _signed_by(self.pair(signer)) if signer else []
        run(["openssl", "req", "-x509", *_ELLIPTIC, "-days", str(_DAYS), "-subj", subject, *signing,
             "-keyout", str(pair.key), "-out", str(pair.certificate), *added])  # fmt: skip
        return pair


def _signed_by(authority: Pair) -> list[str]:
    return ["-CA", str(authority.certificate), "-CAkey", str(authority.key)]
