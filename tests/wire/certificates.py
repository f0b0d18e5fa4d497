"""Certificates for the tests, made afresh by an authority that nobody trusts unless told to."""

from __future__ import annotations

import ssl
import warnings
from pathlib import Path
from typing import Any

import trustme

HOST = "api.test.invalid"
API = f"https://{HOST}/v3"


class Authority:
    """A certificate authority, and where its own certificate is."""

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        self.ca_file = directory / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))

    def tls(self, *names: str, **validity: Any) -> ssl.SSLContext:
        """TLS as a server of these names speaks it; the local address and the host of the tests where none is given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*(names or ("127.0.0.1", HOST)), **validity).configure_cert(context)
        return context

    def outdated_tls(self) -> ssl.SSLContext:
        """TLS 1.1 and nothing later."""
        context = self.tls()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1_1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        return context
