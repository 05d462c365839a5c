from pathlib import Path

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0002_releasing_version'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelversion',
            name='decoupled',
            field=models.BooleanField(default=False, editable=False, verbose_name='streams'),
        ),
        migrations.RunSQL((Path(__file__).parent / "decoupled.sql").read_text()),
    ]
