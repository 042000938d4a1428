"""What the owner of the machine lets visitors do with it, read from the environment.

Visitors of a public page must not make its host fetch gigabytes, open folders, or talk to machines
beside it. On a public host all of that is closed until its owner opens it, one variable at a time;
at home it is open. The code that fetches, opens or connects asks here, whatever page called it.

A host counts as public when RAGDEMO_PUBLIC=1, or when it shows the mark of a service whose pages
the whole world can open (`HOSTED`, Streamlit Community Cloud); RAGDEMO_PUBLIC=0 overrules the mark.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ragdemo.errors import RagdemoError

# Variables that hosting services set by themselves: Hugging Face Spaces, Cloud Run, Heroku, Render,
# Fly, Azure App Service. Some of their pages are private; there the owner sets RAGDEMO_PUBLIC=0.
HOSTED = ("SPACE_ID", "K_SERVICE", "DYNO", "RENDER", "FLY_APP_NAME", "WEBSITE_SITE_NAME")
_COMMUNITY_CLOUD = Path("/mount/src")  # where Streamlit Community Cloud puts the repository

_YES, _NO = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}
_MOST_ADDRESSES = 16  # of one name; more is no honest server
_METADATA = {"fd00:ec2::254", "100.100.100.200"}  # of AWS over IPv6, and of Alibaba Cloud
_EMBEDDED = ipaddress.ip_network("64:ff9b::/96")  # NAT64 (RFC 6052): an IPv4 address at its end

# what is refused -> what to do instead; the owner's variable is added
_INSTEAD = {
    "hub": "Models are not fetched on this server. Choose the bundled model, or one that its owner "
    "fetched before",
    "folders": "Folders of this server can't be opened as models. Give a model's id, or choose the "
    "bundled model",
    "remote_stores": "Vector stores on other servers may not be used here. Choose FAISS",
    "store_files": "Vector stores in files may not be used here. Choose FAISS",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """Each field is the variable RAGDEMO_ and its name in capitals."""

    public: bool = False
    hub: bool = True  # have models fetched from the Hugging Face hub
    folders: bool = True  # name folders of this machine as models
    remote_stores: bool = True  # keep vectors in Milvus, Weaviate or Pinecone servers
    store_files: bool = True  # keep vectors in Milvus Lite files
    # reach addresses inside this machine's own network: "*" for all, or "host:port" each
    private_endpoints: tuple[str, ...] = ()

    def need(self, right: str) -> None:
        """Raise `RagdemoError` where the field called `right` is off."""
        if not getattr(self, right):
            raise RagdemoError(
                f"{_INSTEAD[right]}. The owner of the server allows it with "
                f"RAGDEMO_{right.upper()}=1."
            )

    def permits(self, host: str, port: int) -> bool:
        """Did the owner name this private endpoint, or all of them?"""
        return bool({"*", host.casefold(), f"{host.casefold()}:{port}"} & {*self.private_endpoints})


def current(environment: Mapping[str, str] | None = None) -> Policy:
    """The policy in force. Read anew each time: it costs microseconds and can't be stale.

    Raises `RagdemoError` for a value that is neither yes nor no: a typing error must not open a
    server.
    """
    env = os.environ if environment is None else environment
    public = _flag(env, "RAGDEMO_PUBLIC", _looks_public(env))
    rights = ("hub", "folders", "remote_stores", "store_files")
    return Policy(
        public=public,
        private_endpoints=_endpoints(env.get("RAGDEMO_PRIVATE_ENDPOINTS", "")),
        **{right: _flag(env, f"RAGDEMO_{right.upper()}", not public) for right in rights},
    )


def _looks_public(env: Mapping[str, str]) -> bool:
    if any(env.get(name) for name in HOSTED) or env.get("HOSTNAME") == "streamlit":
        return True
    return env is os.environ and _COMMUNITY_CLOUD.is_dir()


def _flag(env: Mapping[str, str], name: str, otherwise: bool) -> bool:
    said = env.get(name, "").strip().casefold()
    if said not in _YES | _NO:
        raise RagdemoError(f"{name} must be 1 or 0, not {said[:40]!r}. The server's owner sets it.")
    return otherwise if said == "" else said in _YES


def _endpoints(said: str) -> tuple[str, ...]:
    """ "1" -> ("*",); "localhost:11434, gpu" -> ("localhost:11434", "gpu")."""
    parts = tuple(part.strip().casefold() for part in said.split(",") if part.strip())
    if len(parts) == 1 and parts[0] in _YES | _NO:
        return ("*",) if parts[0] in _YES else ()
    return parts


# -- addresses -----------------------------------------------------------------------------------


def is_inside(address: str) -> bool:
    """Does this IP address lead into a private network, this machine's own or none at all?

    Also where an IPv6 address carries such an IPv4 address (mapped, 6to4, Teredo, NAT64).
    """
    ip = ipaddress.ip_address(address.split("%")[0])
    return any(not one.is_global or one.is_multicast for one in _meanings(ip))


def gives_credentials(address: str) -> bool:
    """Is it one of the addresses where cloud machines hand out their credentials (all link-local
    ones count)? Nobody may reach those."""
    ip = ipaddress.ip_address(address.split("%")[0])
    return any(one.is_link_local or str(one) in _METADATA for one in _meanings(ip))


def _meanings(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list:
    """The address itself, or the IPv4 addresses inside it."""
    if ip.version == 4:
        return [ip]
    if ip in _EMBEDDED:
        return [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)]
    inside = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    return [one for one in inside if one is not None] or [ip]


def addresses(host: str, port: int) -> list[str]:
    """The IP addresses of a name; OSError or UnicodeError where there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))[:_MOST_ADDRESSES]
