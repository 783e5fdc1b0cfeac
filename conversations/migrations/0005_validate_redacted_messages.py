from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("conversations", "0004_redacted_messages")]

    operations = [
        ValidateConstraint(model_name="message", name="message_kind_known"),
        ValidateConstraint(model_name="message", name="message_redacted_holds_nothing"),
        ValidateConstraint(model_name="uploadedfile", name="uploadedfile_state_fits"),
    ]
