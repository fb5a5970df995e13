"""Which proxy the environment names for a service, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.request import getproxies, proxy_bypass

import httpx


def proxy_of_environment(service: httpx.URL) -> str | None:
    """Its URL, whose scheme may be left out; None where the service is asked directly."""
    address = _address(service.host)
    # A proxy cannot reach this machine's own loopback.
    if _is_loopback(service.host, address) or proxy_bypass(service.netloc.decode()):
        return None
    proxies = getproxies()
    if address is not None and any(_holds(each, address) for each in proxies.get("no", "").split(",")):
        return None
    return proxies.get(service.scheme) or proxies.get("all")


def _holds(entry: str, address: IPv4Address | IPv6Address) -> bool:
    """Whether an entry of NO_PROXY is the address, or a network such as 10.0.0.0/8 that holds it."""
    try:
        return address in ip_network(entry.strip().replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        # A name.
        return False


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str, address: IPv4Address | IPv6Address | None) -> bool:
    if address is not None:
        return address.is_loopback
    return host == "localhost" or host.endswith(".localhost")
