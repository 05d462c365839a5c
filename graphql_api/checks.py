"""How far the checks of a version are, and what they found."""

import enum
from typing import Any

import strawberry
from strawberry.scalars import JSON


@strawberry.enum
class CheckStepStatus(enum.Enum):
    PENDING = "pending"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@strawberry.type
class CheckStep:
    name: str
    status: CheckStepStatus
    detail: str
    seconds: float


@strawberry.type(description="The checks that an uploaded version goes through before it is READY or REJECTED.")
class ModelVersionCheck:
    steps: list[CheckStep] = strawberry.field(description="In their order; those that are done say how far it is.")
    reason: str = strawberry.field(description="Why it is REJECTED; empty otherwise.")
    advice: str = strawberry.field(description="What to change; empty unless it is REJECTED.")
    facts: JSON = strawberry.field(
        description="opset, ir_version, producer, operators, parameters, trial_seconds, peak_bytes, as far as known."
    )


def check_of(report: dict[str, Any]) -> ModelVersionCheck | None:
    """None for a version that was never checked: the operator vouches for it."""
    if "steps" not in report:
        return None
    return ModelVersionCheck(
        steps=[
            CheckStep(
                name=step["name"],
                status=CheckStepStatus(step["status"]),
                detail=step["detail"],
                seconds=step["seconds"],
            )
            for step in report["steps"]
        ],
        reason=report.get("reason", ""),
        advice=report.get("advice", ""),
        facts=report.get("facts", {}),
    )
