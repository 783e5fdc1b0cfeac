from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("compliance", "0011_replay")]

    operations = [ValidateConstraint(model_name="compliancerequest", name="request_open_names_somebody")]
