"""What every command that speaks to an agent shares: flags, environment, output.

A flag wins over `SERAI_*`, that over `NOMAD_*`, that over the default.

    @api_command()
    @option("-verbose", is_flag=True)
    def status(session: Session, verbose: bool) -> None:
        session.out.table(...)
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click

from core.cli.client import DEFAULT_ADDRESS, Api, Connection
from core.cli.flags import command, make_flag
from core.cli.output import Output


def environment(name: str) -> str:
    """Return `SERAI_<name>`, else `NOMAD_<name>`, else ""."""
    return os.environ.get(f"SERAI_{name}") or os.environ.get(f"NOMAD_{name}") or ""


@dataclass
class Session:
    """One run of a command. `region` and `namespace` "" mean the agent's own choice."""

    connection: Connection
    region: str
    namespace: str
    out: Output

    @cached_property
    def api(self) -> Api:
        return Api(self.connection, region=self.region, namespace=self.namespace)


def _connection_flags() -> list[click.Parameter]:
    return [
        make_flag("-address", metavar="url", help="Agent to speak to [SERAI_ADDR]"),
        make_flag("-region", help="Region to ask; the agent passes it on [SERAI_REGION]"),
        make_flag("-namespace", help="Namespace; * is all allowed [SERAI_NAMESPACE]"),
        make_flag("-token", help="Secret id of an access-control token [SERAI_TOKEN]"),
        make_flag("-ca-cert", metavar="file", help="Authority of the agent [SERAI_CACERT]"),
        make_flag("-ca-path", metavar="folder", help="Folder of them [SERAI_CAPATH]"),
        make_flag("-client-cert", metavar="file", help="Our certificate [SERAI_CLIENT_CERT]"),
        make_flag("-client-key", metavar="file", help="... and its key [SERAI_CLIENT_KEY]"),
        make_flag("-tls-server-name", help="Name to verify [SERAI_TLS_SERVER_NAME]"),
        make_flag("-tls-skip-verify", is_flag=True, help="Trust any [SERAI_SKIP_VERIFY]"),
        make_flag("-no-color", is_flag=True, help="Never colour [SERAI_CLI_NO_COLOR, NO_COLOR]"),
        make_flag("-force-color", is_flag=True, help="Colour pipes [SERAI_CLI_FORCE_COLOR]"),
    ]


_NAMES = [
    "address", "region", "namespace", "token", "ca_cert", "ca_path", "client_cert",
    "client_key", "tls_server_name", "tls_skip_verify", "no_color", "force_color",
]  # fmt: skip


def build_session(flags: dict[str, Any]) -> Session:
    """Return the session that `flags` (by parameter name) and the environment describe."""
    connection = Connection(
        address=(flags["address"] or environment("ADDR") or DEFAULT_ADDRESS).rstrip("/"),
        token=flags["token"] or environment("TOKEN"),
        ca_cert=flags["ca_cert"] or environment("CACERT"),
        ca_path=flags["ca_path"] or environment("CAPATH"),
        client_cert=flags["client_cert"] or environment("CLIENT_CERT"),
        client_key=flags["client_key"] or environment("CLIENT_KEY"),
        tls_server_name=flags["tls_server_name"] or environment("TLS_SERVER_NAME"),
        tls_skip_verify=flags["tls_skip_verify"] or _is_true(environment("SKIP_VERIFY")),
    )
    no_color = flags["no_color"] or bool(environment("CLI_NO_COLOR"))
    return Session(
        connection=connection,
        region=flags["region"] or environment("REGION"),
        namespace=flags["namespace"] or environment("NAMESPACE"),
        out=Output(
            no_color=no_color,
            force_color=flags["force_color"] or bool(environment("CLI_FORCE_COLOR")),
        ),
    )


def api_command(
    *, error_code: int = 1, **attrs: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """Turn `function(session, ...)` into a command with the flags of a connection."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)  # carries the options declared so far along
        def invoke(**flags: Any) -> Any:
            session = build_session({name: flags.pop(name) for name in _NAMES})
            try:
                return function(session, **flags)
            finally:
                session.api.close()

        built = command(error_code=error_code, **attrs)(invoke)
        built.params.extend(_connection_flags())
        return built

    return wrap


def _is_true(text: str) -> bool:
    return text.lower() in {"1", "t", "true", "yes"}
