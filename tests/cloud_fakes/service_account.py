"""A service account of Google Cloud that exists nowhere: its key file, and the certificate that belongs to it."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.cloud_fakes.gemini import PROJECT

ACCOUNT = "inspector@plant-project.iam.gserviceaccount.com"


@dataclass(frozen=True)
class ServiceAccount:
    """A key file as Google's console gives it, and the certificate that belongs to it (PEM)."""

    file: Path
    certificate: bytes


def make_service_account(folder: Path) -> ServiceAccount:
    """A new key in `folder`."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ACCOUNT)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "key.json"
    # The address for tokens leads nowhere: it must not be asked.
    content = {
        "type": "service_account", "project_id": PROJECT, "private_key_id": "k1", "private_key": pem.decode(),
        "client_email": ACCOUNT, "client_id": "1", "token_uri": "http://127.0.0.1:9/token",
    }  # fmt: skip
    file.write_text(json.dumps(content), encoding="utf-8")
    return ServiceAccount(file, certificate.public_bytes(serialization.Encoding.PEM))
