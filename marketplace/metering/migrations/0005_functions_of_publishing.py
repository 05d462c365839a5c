from pathlib import Path

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0004_publishing'),
        ('metering', '0004_hold_by_finish'),
        ('subscriptions', '0005_requests'),
    ]

    operations = [
        migrations.RunSQL((Path(__file__).parent / "batches.sql").read_text()),
    ]
