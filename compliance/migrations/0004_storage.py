"""How requests and claims are stored. Where the figures come from: docs/scaling.md."""

from django.db import migrations

# No fill factor: of a request's four updates three change its status or claim, which indexes name, and so can never
# be done in place; more room on the pages gained no time that could be measured.
REQUEST = """
ALTER TABLE compliance_compliancerequest SET (
    -- A request leaves four dead versions behind. Requests stay for good, so at the default of a fifth the dead of a
    -- day's ten thousand would wait for months beside a million of old ones.
    autovacuum_vacuum_scale_factor = 0.02,
    -- How many are open, and how many done, decides the plans of claims and sweeps.
    autovacuum_analyze_scale_factor = 0.02
);
"""


class Migration(migrations.Migration):
    dependencies = [("compliance", "0003_lanes")]

    operations = [
        # A claim's expiry is renewed by each bite: with this index never in place, without it always (150 of 150).
        # What it served reads a table of a few rows.
        migrations.RemoveIndex(model_name="claim", name="claim_expiry"),
        migrations.RunSQL(
            REQUEST,
            "ALTER TABLE compliance_compliancerequest"
            " RESET (autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);",
        ),
    ]
