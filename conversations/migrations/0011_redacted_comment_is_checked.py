from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("conversations", "0010_redacted_comment")]

    operations = [ValidateConstraint(model_name="conversation", name="conversation_redacted_has_no_comment")]
