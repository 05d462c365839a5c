"""Signing up (django-allauth): a person and the tenant they start with."""

from allauth.account.adapter import DefaultAccountAdapter
from django import forms
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .actions import found_tenant
from .models import User


class SignupForm(forms.Form):
    display_name = forms.CharField(
        label=_("Your name"), max_length=120, widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    organisation = forms.CharField(
        label=_("Organisation"),
        max_length=120,
        help_text=_("Subscriptions, keys and the bill belong to it. You will be its owner."),
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )
    field_order = ["display_name", "organisation", "email", "password1"]

    def signup(self, request: HttpRequest, user: User) -> None:
        """allauth calls it once the user is saved; `AccountAdapter.save_user` has done the work."""


class AccountAdapter(DefaultAccountAdapter):
    @transaction.atomic
    def save_user(self, request: HttpRequest, user: User, form: forms.BaseForm, commit: bool = True) -> User:  # type: ignore[override]  # our only user class
        """A person and their tenant come to be together or not at all."""
        user.display_name = form.cleaned_data["display_name"]
        super().save_user(request, user, form, commit=commit)
        if commit:
            found_tenant(name=form.cleaned_data["organisation"], owner=user)
        return user
