from django.db import migrations, models

# The history begins with what is live, as far as that is known.
LIVE = """
INSERT INTO catalog_releaseevent (model_id, version_id, kind, reason, at)
SELECT m.id, v.id, 'RELEASED', '', coalesce(v.released_at, v.created_at)
  FROM catalog_mlmodel m JOIN catalog_modelversion v ON v.id = m.live_version_id
"""


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0005_onnx_archive'),
    ]

    operations = [
        migrations.AddField(
            model_name='mlmodel',
            name='releasing_percent',
            field=models.PositiveSmallIntegerField(blank=True, editable=False, null=True),
        ),
        migrations.AlterField(
            model_name='releaseevent',
            name='kind',
            field=models.CharField(choices=[('REQUESTED', 'Requested'), ('CALLED_OFF', 'Called off'), ('RELEASED', 'Released'), ('PROMOTED', 'Promoted'), ('ROLLED_BACK', 'Rolled back'), ('CANARY', 'Canary'), ('SHADOW', 'Shadow'), ('DEPRECATED', 'Deprecated'), ('RETIRED', 'Retired'), ('TAKEN_DOWN', 'Taken down'), ('RESTORED', 'Restored')], max_length=12, verbose_name='what'),
        ),
        migrations.RunSQL(LIVE, migrations.RunSQL.noop),
    ]
