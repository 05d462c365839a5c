from django.db import migrations, models


def name(apps, schema_editor):
    """Whatever was loaded before there were settings has the name without any."""
    deployments = apps.get_model("inference", "Deployment").objects
    for deployment in deployments.select_related("version"):
        deployment.name = f"{deployment.version.model_id}-v{deployment.version.number}"
        deployment.save(update_fields=["name"])


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0004_publishing"),
        ("inference", "0002_usage_reconciliation"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="deployment", name="one_deployment_per_version_and_endpoint"),
        migrations.AlterField(
            model_name="deployment",
            name="status",
            field=models.CharField(choices=[("PENDING", "Pending"), ("READY", "Ready"), ("FAILED", "Failed"), ("DRAINING", "Draining"), ("COLD", "Cold")], default="PENDING", max_length=8, verbose_name="status"),
        ),
        migrations.AddField(model_name="deployment", name="name", field=models.CharField(default="", max_length=96, verbose_name="name at Triton"), preserve_default=False),
        migrations.AddField(model_name="deployment", name="loaded_at", field=models.DateTimeField(null=True, verbose_name="loaded since")),
        migrations.AddField(model_name="deployment", name="load_seconds", field=models.FloatField(null=True, verbose_name="loading took")),
        migrations.AddField(model_name="deployment", name="memory_bytes", field=models.BigIntegerField(default=0, verbose_name="memory")),
        migrations.AddField(model_name="deployment", name="processes", field=models.PositiveSmallIntegerField(default=0, verbose_name="processes")),
        migrations.AddField(model_name="deployment", name="used_at", field=models.DateTimeField(null=True, verbose_name="last used")),
        migrations.AddField(model_name="deployment", name="wanted_at", field=models.DateTimeField(null=True, verbose_name="waited for since")),
        migrations.RunPython(name, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name="deployment",
            constraint=models.UniqueConstraint(fields=("endpoint", "name"), name="one_deployment_per_endpoint_and_name"),
        ),
        migrations.AddConstraint(
            model_name="deployment",
            constraint=models.UniqueConstraint(condition=models.Q(("status", "READY")), fields=("version", "endpoint"), name="one_deployment_takes_the_calls"),
        ),
    ]
