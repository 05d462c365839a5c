from pathlib import Path

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0004_publishing'),
        ('metering', '0004_hold_by_finish'),
        ('subscriptions', '0004_plan_successors'),
    ]

    operations = [
        migrations.RunSQL((Path(__file__).parent / "batches.sql").read_text()),
    ]
