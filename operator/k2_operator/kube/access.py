"""Credentials of the API server, found once for kopf's watches and for our own client."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import kopf

from k2.model.errors import UserError
from k2.obs.logging import get_logger
from k2_operator.kube.client import Access

_log = get_logger(__name__)
_of_kopf = logging.getLogger(__name__)


def connection(settings: kopf.OperatorSettings) -> kopf.ConnectionInfo:
    """The pod's service account, or else KUBECONFIG.

    Raises:
        UserError: there is neither.
    """
    found = kopf.login_with_service_account(settings=settings)
    if found is None:
        try:
            found = kopf.login_with_kubeconfig(settings=settings)
        except FileNotFoundError as error:
            raise UserError(
                "KUBECONFIG names a file that is not there", found=error.filename, expected="a kubeconfig"
            ) from error
    if found is None:
        raise UserError(
            "There is no way to the Kubernetes API", expected="a pod's service account, or KUBECONFIG of a cluster"
        )
    if any((found.token, found.username, found.certificate_path, found.certificate_data)):
        return found
    # A cloud's kubeconfig names a program that makes the token: the Kubernetes client runs it, where it is installed.
    made = kopf.login_via_client(logger=_of_kopf, settings=settings)
    if made is None:
        remedy = "if your kubeconfig names a program that makes a token: pip install 'k2-market-data[kubeconfig]'"
        _log.warning("access.anonymous", server=found.server, remedy=remedy)
        return found
    return dataclasses.replace(made, default_namespace=found.default_namespace)


def access(settings: kopf.OperatorSettings) -> Access:
    """The same, for our own client. Reads files again: a pod's token is replaced every now and then."""
    info = connection(settings)
    tls = info.as_ssl_context() if info.server.startswith("https:") else None
    return Access(info.server, dict(info.as_http_headers()), tls, info.default_namespace or "default")


def register(registry: kopf.OperatorRegistry) -> None:
    """Have kopf log in the same way; without this it tries every client library that is installed."""

    def login(settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo:
        return connection(settings)

    kopf.on.login(registry=registry, id="k2-login")(login)
