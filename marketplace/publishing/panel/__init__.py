"""The publisher's panel at /publish/: a tenant's members tend its own models, versions, plans and subscribers."""

from . import catalog, contracts, requests, revenue
from .site import publisher_site

__all__ = ["catalog", "contracts", "publisher_site", "requests", "revenue"]
