from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0003_pinned_version")]

    operations = [
        migrations.RemoveConstraint(model_name="plan", name="one_plan_per_model_and_name"),
        migrations.AddField("plan", "line", models.UUIDField(db_index=True, editable=False, null=True)),
        migrations.RunSQL("UPDATE subscriptions_plan SET line = id", migrations.RunSQL.noop),
        migrations.AlterField("plan", "line", models.UUIDField(db_index=True, editable=False)),
        migrations.AddField(
            "plan",
            "successor",
            models.OneToOneField(
                blank=True,
                editable=False,
                null=True,
                on_delete=models.deletion.RESTRICT,
                related_name="predecessor",
                to="subscriptions.plan",
            ),
        ),
        migrations.AddField(
            "plan",
            "successor_from",
            models.DateTimeField(blank=True, editable=False, null=True, verbose_name="successor from"),
        ),
        migrations.AddConstraint(
            "plan",
            models.UniqueConstraint(
                condition=models.Q(("successor", None)), fields=("model", "name"), name="one_plan_per_model_and_name"
            ),
        ),
        migrations.AddConstraint(
            "plan",
            models.CheckConstraint(
                condition=models.Q(
                    models.Q(("successor", None), ("successor_from", None)),
                    models.Q(("successor__isnull", False), ("successor_from__isnull", False)),
                    _connector="OR",
                ),
                name="successor_has_its_time",
            ),
        ),
    ]
