from pathlib import Path

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("metering", "0002_receipts")]

    operations = [migrations.RunSQL((Path(__file__).parent / "batches.sql").read_text())]
