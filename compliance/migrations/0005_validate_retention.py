from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("compliance", "0004_retention")]

    operations = [
        ValidateConstraint(model_name="compliancerequest", name="request_kind_known"),
        ValidateConstraint(model_name="compliancerequest", name="request_open_names_somebody"),
        ValidateConstraint(model_name="compliancerequest", name="request_retention_names_nobody"),
    ]
