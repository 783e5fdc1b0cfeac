"""How an identity was established.

The first default is for what is stored, and rewrites no table: a platform's word. What came through the user channel
is updated in 0007. The second default is the weakest, for writers of an older version.
"""

from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models

_CHOICES = [
    ("user_channel", "Claimed through the user channel"),
    ("custom", "Said by the platform"),
    ("asserted", "Asserted by the client's server"),
    ("signed", "Signed by the client's backend"),
    ("resolved", "Resolved at the client's address"),
]


class Migration(migrations.Migration):
    dependencies = [("conversations", "0005_validate_redacted_messages")]

    operations = [
        migrations.AddField(
            model_name="identity",
            name="established_by",
            field=models.CharField(choices=_CHOICES, db_default="custom", editable=False, max_length=12),
        ),
        migrations.AlterField(
            model_name="identity",
            name="established_by",
            field=models.CharField(choices=_CHOICES, db_default="user_channel", editable=False, max_length=12),
        ),
        AddConstraintNotValid(
            model_name="identity",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("established_by__in", ["user_channel", "custom", "asserted", "signed", "resolved"])
                ),
                name="identity_established_by_known",
            ),
        ),
    ]
