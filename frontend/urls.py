"""The addresses of the site. Of django-allauth's, those whose pages are drawn here."""

from allauth.account import views as account
from django.urls import path, re_path
from django.views.decorators.cache import cache_control
from django.views.i18n import JavaScriptCatalog

from .views import BecomePublisher, Explore, Keys, Model, Publisher, Usage

urlpatterns = [
    path("", Explore.as_view(), name="explore"),
    path("models/<str:publisher>/<str:model>/", Model.as_view(), name="model"),
    path("publishers/<str:slug>/", Publisher.as_view(), name="publisher"),
    path("usage/", Usage.as_view(), name="usage"),
    path("become-a-publisher/", BecomePublisher.as_view(), name="become_publisher"),
    path("keys/", Keys.as_view(), name="keys"),
    path(
        "jsi18n/",
        cache_control(public=True, max_age=3600)(JavaScriptCatalog.as_view(packages=["frontend"])),
        name="javascript_catalog",
    ),
    path("accounts/login/", account.login, name="account_login"),
    path("accounts/logout/", account.logout, name="account_logout"),
    path("accounts/signup/", account.signup, name="account_signup"),
    path("accounts/inactive/", account.account_inactive, name="account_inactive"),
    path("accounts/password/change/", account.password_change, name="account_change_password"),
    path("accounts/password/set/", account.password_set, name="account_set_password"),
    path("accounts/password/reset/", account.password_reset, name="account_reset_password"),
    path("accounts/password/reset/done/", account.password_reset_done, name="account_reset_password_done"),
    re_path(
        r"^accounts/password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        account.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path(
        "accounts/password/reset/key/done/",
        account.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
]
