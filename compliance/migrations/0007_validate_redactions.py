from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("compliance", "0006_redactions")]

    operations = [
        ValidateConstraint(model_name="compliancerequest", name="request_kind_known"),
        ValidateConstraint(model_name="compliancerequest", name="request_cutoff_is_whole"),
        ValidateConstraint(model_name="compliancerequest", name="request_redaction_names_nobody"),
        ValidateConstraint(model_name="compliancerequest", name="request_open_names_somebody"),
    ]
