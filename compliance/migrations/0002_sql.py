"""What Django has no word for: a request names a variable of its own chatbot only, and how requests are stored.

Where the figures come from: docs/scaling.md.
"""

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
    dependencies = [("compliance", "0001_initial"), ("chatbots", "0002_sql")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE compliance_compliancerequest ADD CONSTRAINT request_variable_of_chatbot"
            " FOREIGN KEY (chatbot_id, variable_id) REFERENCES chatbots_variable (chatbot_id, id);",
            "ALTER TABLE compliance_compliancerequest DROP CONSTRAINT request_variable_of_chatbot;",
        ),
        # It goes with its table.
        migrations.RunSQL(REQUEST, migrations.RunSQL.noop),
    ]
