"""A version's page in the panel: the report of the checks, its tensors, and the forms that ask before they act."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.http import HttpResponse
from django.utils import timezone

from inference.models import ShadowComparison
from marketplace.catalog.models import ModelVersion, ModelVersionStatus, ReleaseEvent, ReleaseEventKind
from marketplace.errors import ValidationProblem
from marketplace.publishing import releases
from marketplace.publishing.panel import versions
from marketplace.publishing.panel.history import MOST, history_of
from tests import factories
from tests.publishing.conftest import House

VERSIONS = "/publish/catalog/modelversion/"
STEPS = [
    {"name": "format", "status": "passed", "detail": "ONNX", "seconds": 0.01},
    {"name": "parse", "status": "running", "detail": "", "seconds": 0},
    {"name": "trial", "status": "pending"},
]
REPORT = {
    "steps": [{"name": "operators", "status": "failed", "detail": "FusedConv at <b>conv_1</b>", "seconds": 0.02}],
    "reason": "The graph uses FusedConv.",
    "advice": "Export it without optimisation.",
    "facts": {
        "opset": {"": 17, "ai.onnx.ml": 3},
        "ir_version": 8,
        "producer": "pytorch",
        "operators": {"Relu": 1, "Conv": 3},
        "parameters": 1234567,
        "trial_seconds": 0.5,
        "peak_bytes": 2 * 1024**2,
    },
}


def page_of(version: ModelVersion, page: str = "change") -> str:
    return f"{VERSIONS}{version.pk}/{page}/"


def words(answer: HttpResponse) -> str:
    return " ".join(answer.content.decode().split())


def problems(answer: Any) -> dict[str, list[str]]:
    assert answer.status_code == 200
    return {name: list(messages) for name, messages in answer.context["form"].errors.items()}


class TestReport:
    def test_how_far_the_checks_are(self, house: House) -> None:
        version = factories.version(house.model, status=ModelVersionStatus.VALIDATING, report={"steps": STEPS})
        answer = words(house.browser("owner").get(page_of(version)))
        assert "1 of 3 checks are done." in answer
        assert f'hx-get="{page_of(version, "report")}" hx-trigger="every 1s"' in answer
        assert '<progress id="report-progress" class="publish-progress" max="3" value="1">' in answer

    @pytest.mark.parametrize(("found", "shown"), [("passed", "ONNX"), ("failed", "-")])
    def test_its_format_is_shown_once_it_is_known(self, house: House, found: str, shown: str) -> None:
        report = {"steps": [{"name": "format", "status": found, "detail": "", "seconds": 0.01}]}
        factories.version(house.model, status=ModelVersionStatus.REJECTED, report=report)
        rows = words(house.browser("owner").get(VERSIONS, {"status__exact": "REJECTED"}))
        assert re.findall(r'<td class="field-shown_format[^>]*>\s*(?:<[^>]*>\s*)*([^<]*?)\s*<', rows) == [shown]

    def test_before_a_worker_has_it(self, house: House) -> None:
        version = factories.version(house.model, status=ModelVersionStatus.VALIDATING)
        assert "It waits for a worker" in words(house.browser("owner").get(page_of(version)))

    def test_what_is_asked_for_again_and_again_is_the_report_alone(self, house: House) -> None:
        version = factories.version(house.model, status=ModelVersionStatus.VALIDATING, report={"steps": STEPS})
        answer = house.browser("owner").get(page_of(version, "report"))
        assert words(answer).startswith('<div id="report"')
        assert "HX-Refresh" not in answer

    @pytest.mark.parametrize("status", [ModelVersionStatus.READY, ModelVersionStatus.REJECTED])
    def test_once_the_checks_have_ended_the_whole_page_is_shown_anew(
        self, house: House, status: ModelVersionStatus
    ) -> None:
        version = factories.version(house.model, status=status, report=REPORT)
        assert house.browser("owner").get(page_of(version, "report"))["HX-Refresh"] == "true"
        assert "hx-trigger" not in words(house.browser("owner").get(page_of(version)))

    def test_why_it_was_rejected_and_what_to_change(self, house: House) -> None:
        version = factories.version(house.model, status=ModelVersionStatus.REJECTED, report=REPORT)
        answer = words(house.browser("owner").get(page_of(version)))
        assert "The graph uses FusedConv." in answer
        assert "Export it without optimisation." in answer
        assert f"/publish/catalog/mlmodel/{house.model.pk}/upload/" in answer

    def test_what_an_artefact_says_is_text(self, house: House) -> None:
        version = factories.version(house.model, status=ModelVersionStatus.REJECTED, report=REPORT)
        assert "FusedConv at &lt;b&gt;conv_1&lt;/b&gt;" in words(house.browser("owner").get(page_of(version)))

    def test_the_facts(self, house: House) -> None:
        version = factories.version(house.model, status=ModelVersionStatus.READY, report=REPORT)
        facts = dict(house.browser("owner").get(page_of(version)).context["report"].facts)
        assert facts == {
            "Operator sets": "ai.onnx 17, ai.onnx.ml 3",
            "IR version": "8",
            "Made by": "pytorch",
            "Operators": "Conv × 3, Relu",
            "Parameters": "1,234,567",
            "Memory at most, in the trial run": "2.0\xa0MB",
            "Trial run": "0.50 s",
        }

    def test_many_operators_are_cut_short(self, house: House) -> None:
        counts = {f"Op{number:02}": 1 for number in range(15)}
        version = factories.version(house.model, report={"facts": {"operators": counts}}, status="READY")
        ((_name, told),) = house.browser("owner").get(page_of(version)).context["report"].facts
        assert told.endswith("Op11, and 3 more")

    def test_a_version_that_nobody_checked_has_no_report(self, house: House) -> None:
        assert "Checks" not in words(house.browser("owner").get(page_of(house.version)))


class TestDescriptions:
    def test_they_are_saved(self, house: House) -> None:
        given = {
            "content_type_0": "image/png",
            "labels_2": "cat\r\ndog\r\n\r\n",
            "example_1": "[1.5, 2]",
            "example_shape_1": "2",
            "release_notes": "Better sevens.",
        }
        answer = house.browser("developer").post(page_of(house.version, "describe"), given)
        assert answer["Location"] == page_of(house.version)
        first, second, output = house.version.tensors.all()
        house.version.refresh_from_db()
        assert house.version.release_notes == "Better sevens."
        assert (first.content_type, output.labels) == ("image/png", ["cat", "dog"])
        assert (second.example, second.example_shape) == ([1.5, 2], [2])

    def test_the_form_begins_with_what_is_said_already(self, house: House) -> None:
        house.version.tensors.filter(name="SUM").update(labels=["a", "b"], example=[1.0], example_shape=[1])
        form = house.browser("owner").get(page_of(house.version, "describe")).context["form"]
        assert [form[f"{name}_2"].value() for name in ("labels", "example", "example_shape")] == ["a\nb", "[1.0]", "1"]

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"content_type_1": "a picture"}, "content_type_1"),
            ({"release_notes": "\x07"}, "release_notes"),
            ({"example_0": "1, 2"}, "example_0"),
            ({"example_0": "[true]"}, "example_0"),
            ({"example_0": "[1]", "example_shape_0": "one"}, "example_shape_0"),
            ({"example_0": "[1]", "example_shape_0": "2"}, "example_0"),
            ({"example_0": "[" * 5000}, "example_0"),
        ],
        ids=["media type", "no text", "no list", "datatype", "no number", "count", "depth"],
    )
    def test_an_error_is_shown_at_its_field(self, house: House, given: dict[str, str], field: str) -> None:
        answer = house.browser("owner").post(page_of(house.version, "describe"), given)
        assert list(problems(answer)) == [field]

    def test_another_publisher_describes_nothing(self, house: House) -> None:
        page = page_of(house.version, "describe")
        assert house.browser("other publisher").post(page, {"labels_2": "x"})["Location"] == "/publish/"
        assert house.version.tensors.filter(labels__isnull=False).count() == 0


def test_where_it_is_loaded(house: House) -> None:
    answer = house.browser("owner").get(page_of(house.live))
    ((server, deployment),) = answer.context["deployments"]
    assert (server, deployment) == ("triton-gone", house.deployment)
    assert "127.0.0.1" not in words(answer)


def test_how_it_compares_as_a_shadow(house: House) -> None:
    now = timezone.now()
    counts = {"asked": 1200, "equal": 900, "close": 95, "different": 5, "failed": 2, "dropped": 198}
    ShadowComparison.objects.create(
        shadow=house.version, live=house.live, since=now, updated_at=now, shadow_ms=2000, live_ms=3000, **counts
    )
    (comparison,) = house.browser("owner").get(page_of(house.version)).context["comparisons"]
    assert comparison.live == house.live.number
    assert dict(comparison.facts) == {
        "Calls asked": "1,200",
        "Equal answers": "900",
        "Close ones, within a thousandth": "95",
        "Different ones": "5",
        "Of another form": "0",
        "It failed": "2",
        "Dropped, to keep nobody waiting": "198",
        "Time, and the live version's": "2.0 ms, 3.0 ms",
    }


def test_who_has_pinned_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Pinned by" not in words(house.browser("owner").get(page_of(house.live)))
    house.subscription.pinned_version = house.live
    house.subscription.save()
    answer = house.browser("owner").get(page_of(house.live))
    assert [contract.tenant for contract in answer.context["pinned_by"]] == [house.acme]

    monkeypatch.setattr(versions, "MOST_PINNED", 1)
    another = factories.subscription(factories.tenant(), house.plan)
    another.pinned_version = house.live
    another.save()
    assert "and 1 more" in words(house.browser("owner").get(page_of(house.live)))


@pytest.mark.parametrize("page", ["describe", "retire"])
def test_links_in_the_page_s_head_lead_to_the_panel(house: House, page: str) -> None:
    assert 'href="/admin/' not in words(house.browser("owner").get(page_of(house.version, page)))


class TestSettings:
    def test_they_are_saved(self, house: House) -> None:
        answer = house.browser("owner").post(
            page_of(house.version, "configure"), {"instance_count": "2", "max_batch_size": "0", "response_cache": "on"}
        )
        assert answer["Location"] == page_of(house.version)
        house.version.refresh_from_db()
        assert (house.version.instance_count, house.version.response_cache) == (2, True)

    def test_the_form_begins_with_those_that_hold(self, house: House) -> None:
        form = house.browser("owner").get(page_of(house.version, "configure")).context["form"]
        assert (form["instance_count"].value(), form["response_cache"].value()) == (1, False)

    def test_an_error_is_shown_at_its_field(self, house: House) -> None:
        version = factories.version(house.model, status=ModelVersionStatus.READY, decoupled=True)
        given = {"instance_count": "2", "max_batch_size": "0", "response_cache": "on"}
        answer = house.browser("owner").post(page_of(version, "configure"), given)
        assert list(problems(answer)) == ["response_cache"]

    def test_merging_is_tried_out_first_and_only_when_it_changes(self, house: House, settings: Any) -> None:
        settings.MERGING_TRIAL = f"{__name__}.that_does_not_load"
        house.version.tensors.update(shape=[-1, 4])
        browser, page = house.browser("owner"), page_of(house.version, "configure")
        given = {"instance_count": "2", "max_batch_size": "8"}
        assert problems(browser.post(page, given)) == {"max_batch_size": ["It mixes rows."]}
        ModelVersion.objects.filter(pk=house.version.pk).update(max_batch_size=8)
        assert browser.post(page, given).status_code == 302


async def that_does_not_load(version: ModelVersion) -> None:
    assert version.max_batch_size == 8
    raise ValidationProblem("It mixes rows.", path="input.maxBatchSize")


class TestReleaseControl:
    def test_a_canary_grows_and_ends(self, house: House) -> None:
        browser, page = house.browser("owner"), page_of(house.version, "canary")
        assert browser.get(page).context["form"]["percent"].value() == 10
        browser.post(page, {"percent": "25"})
        releases.promote_ready([house.version.pk])
        house.model.refresh_from_db()
        assert (house.model.canary_version, house.model.canary_percent) == (house.version, 25)
        assert "it answers 25 % of the tenants" in words(browser.get(page_of(house.version)))
        assert browser.get(page).context["form"]["percent"].value() == 25
        browser.post(page, {"percent": "0"})
        house.model.refresh_from_db()
        assert house.model.canary_version is None

    def test_the_canary_is_promoted(self, house: House) -> None:
        browser = house.browser("owner")
        browser.post(page_of(house.version, "canary"), {"percent": "25"})
        releases.promote_ready([house.version.pk])
        assert "Promote" in [control.title for control in browser.get(page_of(house.version)).context["controls"]]
        browser.post(page_of(house.version, "promote"))
        house.model.refresh_from_db()
        assert house.model.live_version == house.version

    def test_no_other_version_s_canary_is_ended(self, house: House) -> None:
        other = factories.version(house.model, status=ModelVersionStatus.READY)
        answer = house.browser("owner").post(page_of(other, "canary"), {"percent": "0"})
        assert list(problems(answer)) == ["percent"]

    def test_a_shadow(self, house: House) -> None:
        browser = house.browser("owner")
        browser.post(page_of(house.version, "shadow"), {"percent": "5"})
        house.model.refresh_from_db()
        assert (house.model.shadow_version, house.model.shadow_percent) == (house.version, 5)
        assert "It is the shadow of 5 %" in words(browser.get(page_of(house.version)))

    def test_what_the_action_refuses_is_shown_in_the_form(self, house: House) -> None:
        answer = house.browser("owner").post(page_of(house.live, "canary"), {"percent": "5"})
        assert "This version is live" in problems(answer)["__all__"][0]

    def test_a_sunset(self, house: House) -> None:
        day = (timezone.now() + timedelta(days=30)).date()
        house.browser("owner").post(page_of(house.version, "deprecate"), {"sunset": day.isoformat()})
        house.version.refresh_from_db()
        assert house.version.sunset_at == datetime.combine(day, time(), UTC)
        assert "Deprecated since" in words(house.browser("owner").get(page_of(house.version)))

    def test_a_sunset_in_the_past_is_refused_at_its_field(self, house: House) -> None:
        answer = house.browser("owner").post(page_of(house.version, "deprecate"), {"sunset": "2020-01-01"})
        assert list(problems(answer)) == ["sunset"]

    @pytest.mark.parametrize("who", ["other publisher", "consumer", "viewer", "billing"])
    def test_nobody_else_does_any_of_it(self, house: House, who: str) -> None:
        given = {"percent": "10", "sunset": "2999-01-01", "instance_count": "3"}
        before = ModelVersion.objects.values().get(pk=house.version.pk)
        events = ReleaseEvent.objects.count()
        for page in ("canary", "shadow", "promote", "deprecate", "configure"):
            answer = house.browser(who).post(page_of(house.version, page), given)
            assert answer.status_code in (302, 403), page
        assert ModelVersion.objects.values().get(pk=house.version.pk) == before
        assert ReleaseEvent.objects.count() == events


class TestHistory:
    def test_who_did_what_and_what_was_live_from_then_on(self, house: House) -> None:
        browser = house.browser("owner")
        browser.post(page_of(house.version, "release"))
        releases.promote_ready([house.version.pk])
        browser.post(f"/publish/catalog/mlmodel/{house.model.pk}/rollback/")
        history = browser.get(f"/publish/catalog/mlmodel/{house.model.pk}/change/").context["history"]
        owner = house.people["owner"].email
        assert [(event.what, event.version, event.who, event.live) for event in history] == [
            ("Rolled back", 1, owner, 1),
            ("Released", 2, owner, 2),
            ("Requested", 2, owner, 1),
            ("Released", 1, "The marketplace itself", 1),
        ]

    def test_a_long_one_begins_with_what_was_live_before(self, house: House) -> None:
        kinds = [ReleaseEventKind.RELEASED, *[ReleaseEventKind.SHADOW] * MOST]
        for kind in kinds:
            ReleaseEvent.objects.create(model=house.model, version=house.live, kind=kind, percent=None)
        history = history_of(house.model)
        assert (len(history), {event.live for event in history}) == (MOST, {1})
