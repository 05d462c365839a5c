from pathlib import Path

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("metering", "0002_batches"),
    ]

    operations = [
        migrations.AddField(
            model_name="hold",
            name="answer_digest",
            field=models.BinaryField(max_length=32, null=True),
        ),
        migrations.RunSQL((Path(__file__).parent / "ledger.sql").read_text()),
    ]
