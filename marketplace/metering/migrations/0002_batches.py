from pathlib import Path

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("metering", "0001_initial")]

    operations = [migrations.RunSQL((Path(__file__).parent / "batches.sql").read_text())]
