"""The publisher's panel at /publish/: a tenant's members tend its own models, versions, plans and subscribers."""

# isort: off
# In the order of the menu.
from . import catalog, versions
from . import contracts, requests, revenue

# isort: on
from .site import publisher_site

__all__ = ["catalog", "contracts", "publisher_site", "requests", "revenue", "versions"]
