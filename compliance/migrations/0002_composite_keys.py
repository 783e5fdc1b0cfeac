"""A request names a variable of its own chatbot only."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("compliance", "0001_initial"), ("chatbots", "0002_guards")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE compliance_compliancerequest ADD CONSTRAINT request_variable_of_chatbot"
            " FOREIGN KEY (chatbot_id, variable_id) REFERENCES chatbots_variable (chatbot_id, id);",
            "ALTER TABLE compliance_compliancerequest DROP CONSTRAINT request_variable_of_chatbot;",
        ),
    ]
