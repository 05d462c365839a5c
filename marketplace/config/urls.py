"""Every address of the site. The rooms name their own; this file only joins them."""

from django.contrib import admin
from django.urls import include, path

from graphql_api.views import graphql_view
from inference.health import healthz, readyz
from marketplace.metering.views import jwks
from marketplace.publishing.panel import publisher_site

urlpatterns = [
    path("graphql", graphql_view, name="graphql"),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path(".well-known/jwks.json", jwks, name="jwks"),
    path("admin/", admin.site.urls),
    path("publish/", publisher_site.urls),
    path("", include("frontend.urls")),
]
