from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("conversations", "0009_look_index")]

    operations = [
        migrations.AddField(
            model_name="conversation",
            name="csat_comment_redacted",
            field=models.BooleanField(db_default=False, default=False),
        ),
        # It holds for new rows at once. The next migration checks the others, without a lock that keeps out writers.
        AddConstraintNotValid(
            model_name="conversation",
            constraint=models.CheckConstraint(
                condition=Q(csat_comment_redacted=False) | Q(csat_comment__isnull=True),
                name="conversation_redacted_has_no_comment",
            ),
        ),
    ]
