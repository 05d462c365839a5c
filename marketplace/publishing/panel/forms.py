"""Forms whose saving is an action: what the action refuses is shown at the field that it names."""

import re
from decimal import Decimal
from typing import Any, ClassVar, cast

from django import forms
from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminTextInputWidget

from marketplace.access import Principal
from marketplace.catalog.models import MLModel, MLModelGroupObjectPermission, Visibility
from marketplace.errors import MarketplaceError
from marketplace.publishing.entries import create_model, update_model
from marketplace.publishing.plans import create_plan, update_plan
from marketplace.subscriptions import sharing
from marketplace.subscriptions.models import Plan
from marketplace.tenants.models import Tenant


class ActionForm(forms.ModelForm):  # type: ignore[type-arg]  # generic to the stubs only
    """`act` writes with the cleaned data and returns the row; the admin's own saving has nothing left to do."""

    principal: ClassVar[Principal]

    def act(self, data: dict[str, Any]) -> models.Model:
        raise NotImplementedError

    def _post_clean(self) -> None:
        """Where ModelForm fills the instance in and checks it: the action does both, and knows the field to blame."""
        if self.errors:
            return
        try:
            self.instance = self.act(dict(self.cleaned_data))
        except MarketplaceError as problem:
            field = field_at(problem.path or "")
            self.add_error(field if field in self.fields else None, problem.message)


def field_at(path: str) -> str:
    """`input.displayName` is `display_name`, `input.price.amount` is `price`, `input.price.currency` is `currency`."""
    *_prefix, name = path.removeprefix("input.").removesuffix(".amount").split(".")
    return re.sub("([A-Z])", r"_\1", name).lower()


class MLModelForm(ActionForm):
    class Meta:
        model = MLModel
        fields = ("name", "display_name", "summary", "task", "tags", "license", "visibility", "card")
        widgets = {"tags": UnfoldAdminTextInputWidget}
        help_texts = {
            "tags": gettext_lazy("Up to 20 words that people search for, separated by commas."),
            "visibility": gettext_lazy("A private model is seen by you and by the tenants that you give access to."),
        }

    def act(self, data: dict[str, Any]) -> MLModel:
        if self.instance._state.adding:
            return create_model(self.principal, **data)
        return update_model(self.principal, model_id=self.instance.pk, **data)


class PlanForm(ActionForm):
    class Meta:
        model = Plan
        fields = (
            "model",
            "name",
            "price",
            "currency",
            "unit",
            "included_units",
            "overage_price",
            "requests_per_second",
            "burst",
            "max_concurrency",
            "max_tokens_per_call",
            "requires_approval",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("price", "included_units", "overage_price"):
            if isinstance(self.initial.get(name), Decimal):
                self.initial[name] = f"{self.initial[name].normalize():f}"
        if "model" in self.fields:
            chosen = cast("forms.ModelChoiceField[MLModel]", self.fields["model"])
            chosen.queryset = MLModel.objects.filter(publisher_id=self.principal.tenant_id).order_by("name")

    def act(self, data: dict[str, Any]) -> Plan:
        if self.instance._state.adding:
            model = data.pop("model")
            return create_plan(self.principal, model_ref=f"{model.publisher.slug}/{model.name}", **data)
        return update_plan(self.principal, plan_id=self.instance.pk, **data)


class GrantForm(ActionForm):
    tenant = forms.CharField(
        label=gettext_lazy("Tenant"),
        max_length=63,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("The tenant's address, as in acme. Its members find it in their menu."),
    )

    class Meta:
        model = MLModelGroupObjectPermission
        fields = ("content_object",)
        labels = {"content_object": gettext_lazy("Private model")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "content_object" in self.fields:
            chosen = cast("forms.ModelChoiceField[MLModel]", self.fields["content_object"])
            own = MLModel.objects.filter(publisher_id=self.principal.tenant_id)
            chosen.queryset = own.filter(visibility=Visibility.PRIVATE).order_by("name")

    def clean_tenant(self) -> Tenant:
        tenant = Tenant.objects.filter(slug=self.cleaned_data["tenant"].strip()).select_related("group").first()
        if tenant is None:
            raise forms.ValidationError(_("There is no tenant at this address. Ask its members for it."))
        if tenant.pk == self.principal.tenant_id:
            raise forms.ValidationError(_("This is your own tenant, which has access already."))
        return tenant

    def act(self, data: dict[str, Any]) -> MLModelGroupObjectPermission:
        model, tenant = data["content_object"], data["tenant"]
        sharing.grant(self.principal, model=model, tenant=tenant)
        return MLModelGroupObjectPermission.objects.get(
            content_object=model, group=tenant.group, permission__codename="use_mlmodel"
        )
